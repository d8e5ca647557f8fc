"""Worker threads: each takes one request at a time from the bytes of its image to its results."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ParamSpec, Self, TypeVar

from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings
from training.inference.plan import Plan

__all__ = ["MORE_WORKERS", "Workers", "finish_all"]

MORE_WORKERS = 32  # than cores
_BATCHES_WAITING = 4

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Workers:
    """A queue of requests in front of a few threads. Only the event loop may call ``run``.

    Args:
        count: number of threads.
        max_waiting: largest number of requests in the queue.
        metrics: metrics of the queue.
        at_once: number of requests that do not wait for others; all that have a thread when omitted.
    """

    def __init__(self, count: int, max_waiting: int, metrics: Metrics, at_once: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="worker")
        self._count = count
        self.at_once = at_once or count
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._admitted = 0
        self.finished = 0  # calls that have ended; it stands still if the threads are stuck

    @classmethod
    def for_service(cls, settings: ServiceSettings, plan: Plan, metrics: Metrics) -> Self:
        """Threads for high throughput, with a queue that holds an image of each request and a few whole batches.

        There are more threads than cores. Some prepare the next batch for a GPU. On a CPU they wait for a core, so that
        images that take long to decode do not keep others from it.
        """
        waiting = settings.max_concurrent + _BATCHES_WAITING * settings.max_items
        return cls(plan.cores + MORE_WORKERS, waiting, metrics, plan.at_once)

    async def run(
        self,
        stopwatch: Stopwatch,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Calls a function in one of the threads, and records the time it waited as the stage ``queue``.

        Raises:
            RequestProblem: 503 if the queue is full.
        """
        if self._admitted >= self._count + self._max_waiting:
            raise RequestProblem(503, "too many queries are waiting; try again soon", {"Retry-After": "1"})
        queued = stopwatch.now()

        def work() -> Result:
            stopwatch.add("queue", queued)
            try:
                return function(*args, **kwargs)
            finally:
                self.finished += 1

        self._admit(1)
        try:
            context = copy_context()  # so that what the thread logs names the request
            return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, work)
        finally:
            self._admit(-1)

    def close(self) -> None:
        """Ends the threads once the queue is empty."""
        self._pool.shutdown()

    def _admit(self, change: int) -> None:
        self._admitted += change
        self._metrics.waiting.set(max(0, self._admitted - self.at_once))


async def finish_all(jobs: Sequence[Coroutine[Any, Any, Result]], at_once: int) -> list[Result]:
    """Waits for all jobs of a request and returns their results. If several fail, the error of the first one is raised.

    Resources that the jobs use may be closed afterwards, so no job may still be running when this returns or raises.

    Args:
        jobs: what to do.
        at_once: number of jobs that are begun before others have ended: else a few requests with many images would fill
            the queue, and other clients would wait for all of these or be refused.
    """
    limit = asyncio.Semaphore(at_once)

    async def in_turn(job: Coroutine[Any, Any, Result]) -> Result:
        async with limit:
            return await job

    results = []
    try:
        outcomes = await asyncio.gather(*map(in_turn, jobs), return_exceptions=True)
    finally:
        for job in jobs:
            job.close()  # those that were never begun, because the request was cancelled
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
