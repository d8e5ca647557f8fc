"""What an indexing job spends its time on, and what keeps it from being faster."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["StageTimes"]


class StageTimes:
    """Seconds that all threads of a job have spent in each of its stages. It may be used from many threads.

    Args:
        at_once: by the name of each stage, how many threads may be in it at the same time.

    Attributes:
        clock: seconds by stage, waiting for a disk or a network included.
        processor: seconds of processor time by stage.
    """

    def __init__(self, at_once: Mapping[str, int]) -> None:
        self._at_once = dict(at_once)
        self.clock = dict.fromkeys(at_once, 0.0)
        self.processor = dict.fromkeys(at_once, 0.0)
        self._adding = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time until the block ends."""
        clock, processor = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            processor, clock = time.thread_time() - processor, time.perf_counter() - clock
            with self._adding:
                self.clock[name] += clock
                self.processor[name] += processor

    @property
    def limit(self) -> str:
        """The stage that was most often as busy as it can be; empty as long as there was nothing to do."""
        busy = {name: seconds / self._at_once[name] for name, seconds in self.clock.items()}
        return max(busy, key=lambda name: busy[name]) if any(busy.values()) else ""
