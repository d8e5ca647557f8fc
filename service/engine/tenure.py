"""How long a gallery stays open: while it is in service, and until the last request that uses it has ended."""

import threading
from collections.abc import Iterable
from dataclasses import replace

from index.gallery.searcher import Change
from service.engine.serving import GalleryServing

__all__ = ["Tenure"]


class Tenure:
    """The time that a gallery is in service. It may be used from many threads.

    Args:
        serving: the gallery, model and searcher that requests use.
    """

    def __init__(self, serving: GalleryServing) -> None:
        self._serving = serving
        self._users = 0
        self._retired = False
        self._lock = threading.Lock()

    @property
    def serving(self) -> GalleryServing:
        """What a request that began now would use. It may be looked at only, because nothing keeps it open."""
        return self._serving

    def acquire(self) -> GalleryServing | None:
        """Keeps it open for a request until ``release``; returns None if it is no longer in service."""
        with self._lock:
            if self._retired:
                return None
            self._users += 1
            return self._serving

    def release(self) -> None:
        """Ends the use by a request, and closes everything if this was the last use after ``retire``."""
        with self._lock:
            self._users -= 1
            last = self._retired and not self._users
        if last:
            self._serving.close()

    def change(self, changes: Iterable[Change]) -> None:
        """Makes changes visible to requests that begin afterwards."""
        with self._lock:
            self._serving = replace(self._serving, searcher=self._serving.searcher.with_changes(changes))

    def retire(self) -> None:
        """Takes it out of service, and closes it as soon as no request uses it."""
        with self._lock:
            last = not self._retired and not self._users
            self._retired = True
        if last:
            self._serving.close()
