"""Several processes that serve one gallery behind one port: what one has changed, the others find at once."""

import logging
import time
from collections.abc import Callable

from service.engine.line import Line
from service.errors import RequestProblem

__all__ = ["Siblings"]

logger = logging.getLogger(__name__)

_PATIENCE = 0.5  # seconds that a request waits for the changes of others, and after which a job is looked for again


class Siblings:
    """Lets a process know of the changes of the others before it answers a request.

    Args:
        line: the line of changes to the gallery.
        is_behind: tells whether somebody has changed photos that searches here do not know of.
        catch_up: lets them know, unless a job is writing to the gallery, which publishes what it adds.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        line: Line,
        is_behind: Callable[[], bool],
        catch_up: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._is_behind = is_behind
        self._catch_up = catch_up
        self._clock = clock
        self._next = 0.0

    async def meet(self) -> None:
        """Takes over what others have changed; gives up soon if other changes or a job take long."""
        if self._clock() < self._next or not self._is_behind():
            return
        try:
            await self._line.run(self._catch_up, until=time.monotonic() + _PATIENCE)
        except RequestProblem as problem:
            logger.debug("a request does not wait for the changes of others: %s", problem)
        if self._is_behind():
            self._next = self._clock() + _PATIENCE
