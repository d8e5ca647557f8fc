"""Threads that answer requests: each takes one from the bytes of its image to its results."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, ParamSpec, TypeVar

import torch

from service.errors import RequestProblem
from service.metrics import Metrics
from service.settings import ServiceSettings
from service.stopwatch import Stopwatch

__all__ = ["Plan", "Workers", "make_plan"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_GPU_BATCH = 16


class Plan(NamedTuple):
    """How a machine is shared out.

    Attributes:
        workers: requests worked on at once.
        max_batch: images encoded together; 1 lets each worker encode its own.
        threads: of one call of the encoder.
        cores: images decoded at once.
    """

    workers: int
    max_batch: int
    threads: int
    cores: int


def make_plan(settings: ServiceSettings, device: torch.device) -> Plan:
    """What the settings leave open is chosen for throughput.

    On a CPU that is an image and a thread for each core: a batch leaves the core's cache, and threads that share an
    image wait for each other. A GPU wants batches, and workers enough to fill the next one meanwhile.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    max_batch = settings.max_batch or (1 if device.type == "cpu" else _GPU_BATCH)
    workers = settings.workers or (cores if max_batch == 1 else cores + 2 * max_batch)
    return Plan(workers, max_batch, max(1, cores // workers) if max_batch == 1 else cores, cores)


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
