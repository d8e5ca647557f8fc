"""What the routes need of an engine: that of one gallery, or that of several shards."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from index.gallery.photos import Photo
from service.encoding.workers import Workers
from service.engine.loops import Loop
from service.engine.serving import Serving
from service.engine.thumbnails import Thumbnails
from service.engine.uploads import Upload
from service.http.metrics import Metrics

__all__ = ["AnyEngine"]


class AnyEngine(Protocol):
    """Answers requests; see ``Engine``."""

    metrics: Metrics
    workers: Workers
    thumbnails: Thumbnails
    loops: list[Loop]

    @property
    def alarms(self) -> list[str]:
        """See ``Engine.alarms``."""

    def lease(self) -> AbstractAsyncContextManager[Serving]:
        """See ``Engine.lease``."""

    def close(self) -> None:
        """See ``Engine.close``."""

    async def reload(self) -> Serving:
        """See ``Engine.reload``."""

    async def add(self, serving: Serving, upload: Upload) -> tuple[Photo, bool]:
        """See ``Engine.add``."""

    async def remove(self, serving: Serving, identifier: int) -> None:
        """See ``Engine.remove``."""

    async def describe(self, serving: Serving, identifier: int, changes: dict[str, Any]) -> Photo:
        """See ``Engine.describe``."""
