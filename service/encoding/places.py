"""Shares of the machine: as many images are decoded, encoded or searched by at the same time as there are cores.

Clients take turns, so that one who asks for much makes others wait for one of its requests each time, not for all.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import RequestProblem
from service.http.clients import CLIENT, HAS_LEFT
from service.http.stopwatch import Stopwatch

__all__ = ["Place", "Places"]


class Place:
    """A share of the machine, which is held while an image is decoded, encoded or searched by."""

    def __init__(self, places: "Places") -> None:
        self._places = places
        self.is_held = False

    def take(self) -> None:
        """Waits for the place, unless it is held.

        Raises:
            RequestProblem: 400 if the client has left, so that nobody waits for what would be done.
        """
        if not self.is_held:
            self._places.take()
            self.is_held = True
        if HAS_LEFT.get()():
            raise RequestProblem(400, "the client left before its answer was ready")

    def leave(self) -> None:
        """Leaves it to others, if it is held."""
        if self.is_held:
            self.is_held = False
            self._places.leave()


class Places:
    """The shares that there are. Clients who wait are served in turn, and of each one whoever has waited longest.

    It may be used from many threads. Which client a thread works for is its ``CLIENT``.

    Args:
        count: number of shares.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._lines: dict[str, deque[threading.Event]] = {}  # by client; the first is next
        self._lock = threading.Lock()
        self._own = threading.local()  # the place that a thread has

    @contextmanager
    def hold(self, stopwatch: Stopwatch | None = None) -> Iterator[Place]:
        """Waits for a place, and gives it back when the block ends; blocks within use the same one.

        Args:
            stopwatch: records the time of waiting as the stage ``queue``.

        Raises:
            RequestProblem: see ``Place.take``.
        """
        outer: Place | None = getattr(self._own, "place", None)
        place = self._own.place = outer or Place(self)
        queued = stopwatch.now() if stopwatch else 0
        try:
            place.take()
            if stopwatch and outer is None:
                stopwatch.add("queue", queued)
            yield place
        finally:
            if outer is None:
                place.leave()
                self._own.place = None

    def take(self) -> None:
        """Waits in line for a share."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Event()
            self._lines.setdefault(CLIENT.get(), deque()).append(turn)
        turn.wait()

    def leave(self) -> None:
        """Hands a share to whoever is next in line."""
        with self._lock:
            if not self._lines:
                self._free += 1
                return
            client = next(iter(self._lines))
            line = self._lines.pop(client)
            line.popleft().set()
            if line:
                self._lines[client] = line  # behind the others
