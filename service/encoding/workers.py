"""Threads that answer requests: each takes one from the bytes of its image to its results."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch

__all__ = ["Workers", "finish_all"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Workers:
    """A line of requests in front of a few threads. ``run`` is for the event loop only.

    Args:
        count: of threads.
        max_waiting: most requests in the line.
        metrics: to observe.
    """

    def __init__(self, count: int, max_waiting: int, metrics: Metrics) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="worker")
        self._count = count
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._admitted = 0

    async def run(
        self,
        stopwatch: Stopwatch,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Calls a function in one of the threads; how long it stood in line is the stage ``queue``.

        Raises:
            RequestProblem: 503 if the line is full.
        """
        if self._admitted >= self._count + self._max_waiting:
            raise RequestProblem(503, "too many queries are waiting; try again soon", {"Retry-After": "1"})
        queued = stopwatch.now()

        def work() -> Result:
            stopwatch.add("queue", queued)
            return function(*args, **kwargs)

        self._admit(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._admit(-1)

    def close(self) -> None:
        """Ends the threads once the line is empty."""
        self._pool.shutdown()

    def _admit(self, change: int) -> None:
        self._admitted += change
        self._metrics.waiting.set(max(0, self._admitted - self._count))


async def finish_all(jobs: Sequence[Awaitable[Result]]) -> list[Result]:
    """The outcome of every job; of several errors the first job's is raised, once no job is under way.

    What the jobs use may be closed when this ends, so none may go on behind it.
    """
    results = []
    for outcome in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
