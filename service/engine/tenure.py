"""How long a gallery stays open: as long as it is in service, and then until the last request that uses it ends."""

import threading
from collections.abc import Iterable
from dataclasses import replace

from index.gallery.searcher import Change
from service.engine.serving import Serving

__all__ = ["Tenure"]


class Tenure:
    """A gallery's time in service; may be used from many threads.

    Args:
        serving: what requests get.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._users = 0
        self._retired = False
        self._lock = threading.Lock()

    @property
    def serving(self) -> Serving:
        """What a request that began now would get. Only to look at: nothing keeps it open."""
        return self._serving

    def acquire(self) -> Serving | None:
        """Opens it to a request, until ``release``; None if something else is in service by now."""
        with self._lock:
            if self._retired:
                return None
            self._users += 1
            return self._serving

    def release(self) -> None:
        """Ends a request's use."""
        with self._lock:
            self._users -= 1
            last = self._retired and not self._users
        if last:
            self._serving.close()

    def change(self, changes: Iterable[Change]) -> None:
        """Lets requests that begin from now on find what has changed."""
        with self._lock:
            self._serving = replace(self._serving, searcher=self._serving.searcher.with_changes(changes))

    def retire(self) -> None:
        """Closes as soon as nobody uses it."""
        with self._lock:
            last = not self._retired and not self._users
            self._retired = True
        if last:
            self._serving.close()
