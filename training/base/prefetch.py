"""Working ahead of a consumer with bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from training.base.machine import processors

__all__ = ["map_ahead"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int = 64, workers: int | None = None
) -> Iterator[Result]:
    """Yields ``function(item)`` in order while threads work on at most ``ahead`` items further on.

    Args:
        function: called in worker threads; what it raises is raised here.
        items: consumed as the results are.
        ahead: how many results may wait.
        workers: threads; one a core when omitted.
    """
    pool = ThreadPoolExecutor(workers or processors(), thread_name_prefix="prefetch")
    try:
        source = iter(items)
        waiting = deque(pool.submit(function, item) for item in islice(source, ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(source, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
