"""Work on the gallery that runs one after the other: changes of photos, and switches to other generations."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio.to_thread

from service.errors import RequestProblem

__all__ = ["Line"]

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class Line:
    """Calls functions in a thread, one at a time. Those that wait for their turn need no thread."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._running = threading.Lock()  # a cancelled request gives its turn away before its thread ends
        self._closed = False

    async def run(
        self, function: Callable[[*Arguments], Result], *arguments: *Arguments, until: float | None = None
    ) -> Result:
        """Calls a function when its turn comes.

        Args:
            function: the function.
            arguments: its arguments.
            until: time by ``time.monotonic`` at which its turn must have come.

        Raises:
            RequestProblem: 503 if its turn does not come in time, or the line is closed.
        """
        try:
            async with asyncio.timeout(None if until is None else until - time.monotonic()):
                await self._turn.acquire()
        except TimeoutError as error:
            raise _busy() from error
        try:
            return await anyio.to_thread.run_sync(lambda: self._alone(until, function, *arguments))
        finally:
            self._turn.release()

    def close(self) -> None:
        """Waits for what is running, and refuses everything after it."""
        self._closed = True
        with self._running:
            pass

    def _alone(self, until: float | None, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        if not self._running.acquire(timeout=-1 if until is None else max(0.0, until - time.monotonic())):
            raise _busy()
        try:
            if self._closed:
                raise RequestProblem(503, "the service is stopping; try again soon", {"Retry-After": "2"})
            return function(*arguments)
        finally:
            self._running.release()


def _busy() -> RequestProblem:
    detail = "other changes to the gallery take long at the moment; try again soon"
    return RequestProblem(503, detail, {"Retry-After": "5"})
