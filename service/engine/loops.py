"""Jobs that repeat in the background as long as the service runs, even if some attempts fail."""

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
    """Repeats a job at intervals until it is cancelled. No error ends the loop.

    A failed job is tried again after a pause that doubles with every failure. ``svdraw_loop_failures_total`` counts the
    failures, and a failure that differs from the one before is logged.

    Args:
        name: name of the job, for metrics, log and clients.
        job: the job to repeat.
        seconds: time between two attempts, in seconds.
        metrics: metrics that count failures.
        vital: whether requests are not answered if the job fails. Then any failure raises the alarm, and it is tried
            again as often as before.
    """

    def __init__(
        self,
        name: str,
        job: Callable[[], Awaitable[None]],
        seconds: float,
        metrics: Metrics,
        *,
        vital: bool = False,
    ) -> None:
        self.name = name
        self._job = job
        self._seconds = seconds
        self._vital = vital
        self._counter = metrics.loop_failures.labels(name)
        self._failures = 0
        self._last: tuple[type[Exception], str] | None = None  # not the error itself, which would keep its frames alive

    @property
    def alarm(self) -> str | None:
        """Says what is wrong if the job has failed several times in a row with an unexpected error; None otherwise.

        An ``SvdrawError`` raises no alarm: it is foreseen, the generation in service stays as it is, and another
        process would meet the same error.
        """
        if self._vital and self._last is not None:
            return f"{self.name} fails ({self._last[0].__name__}); the service's log says why"
        if self._failures < ALARMING or self._last is None or issubclass(self._last[0], SvdrawError):
            return None
        kind = self._last[0].__name__
        return f"{self.name} has failed {self._failures} times in a row ({kind}); the service's log says why"

    @property
    def pause(self) -> float:
        """Seconds until the next attempt."""
        if self._vital:
            return self._seconds
        doubled: float = self._seconds * 2.0 ** min(self._failures, 16)
        return min(doubled, max(self._seconds, _LONGEST))

    async def run(self) -> None:
        """Repeats the job until it is cancelled."""
        while True:
            await anyio.sleep(self.pause)
            await self.attempt()

    async def attempt(self) -> None:
        """Runs the job once."""
        try:
            await self._job()
        except Exception as error:  # the loop must survive any error
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
