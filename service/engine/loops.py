"""Work that goes on in the background as long as the service runs, whatever fails on the way."""

import logging
from collections.abc import Awaitable, Callable

import anyio

from service.http.metrics import Metrics
from training.base.errors import SvdrawError

__all__ = ["ALARMING", "Loop"]

logger = logging.getLogger(__name__)

ALARMING = 3  # failures in a row
_LONGEST = 60.0  # seconds between two attempts, unless the loop's own interval is longer


class Loop:
    """Does a job at intervals until it is cancelled; no error ends it.

    A job that fails is tried again, after a pause that doubles with every failure. Each failure counts in
    ``svdraw_loop_failures_total``; one that differs from the one before is logged.

    Args:
        name: of the job, for metrics, logs and clients.
        job: to do.
        seconds: between two attempts.
        metrics: to observe.
    """

    def __init__(self, name: str, job: Callable[[], Awaitable[None]], seconds: float, metrics: Metrics) -> None:
        self.name = name
        self._job = job
        self._seconds = seconds
        self._counter = metrics.loop_failures.labels(name)
        self._failures = 0
        self._last: tuple[type[Exception], str] | None = None  # not the error itself, whose frames would live on

    @property
    def alarm(self) -> str | None:
        """What is wrong, once the job has failed several times in a row by an error that nobody expected.

        An ``SvdrawError`` gives no alarm: it was foreseen, what is served stays as it was, and another process would
        meet the same.
        """
        if self._failures < ALARMING or self._last is None or issubclass(self._last[0], SvdrawError):
            return None
        kind = self._last[0].__name__
        return f"{self.name} has failed {self._failures} times in a row ({kind}); the service's log says why"

    @property
    def pause(self) -> float:
        """Seconds until the next attempt."""
        doubled: float = self._seconds * 2.0 ** min(self._failures, 16)
        return min(doubled, max(self._seconds, _LONGEST))

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            await anyio.sleep(self.pause)
            await self.attempt()

    async def attempt(self) -> None:
        """Does the job once."""
        try:
            await self._job()
        except Exception as error:  # the loop must outlive any of them
            self._fail(error)
            return
        if self._failures:
            logger.info("%s works again after %d failures", self.name, self._failures)
        self._failures, self._last = 0, None

    def _fail(self, error: Exception) -> None:
        self._counter.inc()
        self._failures += 1
        told = type(error), str(error)
        if told != self._last:
            logger.error("%s failed: %s", self.name, error, exc_info=None if isinstance(error, SvdrawError) else error)
        self._last = told
