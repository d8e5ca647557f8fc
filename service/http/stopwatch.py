"""Measures when the stages of a request began and ended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["Stage", "Stopwatch"]


class Stage(NamedTuple):
    """A stage of a request; ``start`` and ``end`` are nanoseconds since 1970."""

    name: str
    start: int
    end: int

    @property
    def seconds(self) -> float:
        """Duration of the stage."""
        return (self.end - self.start) / 1e9


class Stopwatch:
    """Stages of a request in the order in which they ended. It may be used from many threads."""

    def __init__(self) -> None:
        self._epoch = time.time_ns() - time.perf_counter_ns()  # the first clock knows the date, the second never jumps
        self.started = self.now()
        self.stages: list[Stage] = []

    def now(self) -> int:
        """Present time in nanoseconds since 1970."""
        return self._epoch + time.perf_counter_ns()

    def add(self, name: str, start: int) -> None:
        """Adds a stage that began at ``start`` and ends now."""
        self.stages.append(Stage(name, start, self.now()))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures the block as a stage; it is added only if the block succeeds."""
        start = self.now()
        yield
        self.add(name, start)

    def server_timing(self) -> str:
        """Value of a ``Server-Timing`` header, in milliseconds; stages with the same name are added up."""
        seconds: dict[str, float] = {}
        for stage in self.stages:
            seconds[stage.name] = seconds.get(stage.name, 0.0) + stage.seconds
        seconds["total"] = (self.now() - self.started) / 1e9
        return ", ".join(f"{name};dur={1000 * value:.2f}" for name, value in seconds.items())
