"""What answers requests, and switches to a new generation or model without failing one."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from index.gallery.catalogue import Photo, content_key
from index.gallery.directory import Gallery
from index.gallery.generations import read_generation
from index.gallery.searcher import Change
from service.encoding.plan import make_plan
from service.encoding.workers import Workers
from service.engine.serving import Serving
from service.engine.uploads import Upload, discard_upload, keep_upload
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from training.base.errors import SvdrawError
from training.model.devices import resolve_device

__all__ = ["Engine"]

logger = logging.getLogger(__name__)


class Engine:
    """The gallery in service, its changes and its switches.

    Args:
        settings: of the service.
        metrics: to observe.

    Attributes:
        workers: answer requests with images.

    Raises:
        GalleryError: if the gallery cannot be served; the message says why.
        BundleError: if its model cannot be loaded.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self.metrics = metrics
        plan = make_plan(settings, resolve_device(settings.device))
        self.workers = Workers(plan.workers, settings.max_waiting, metrics)
        self._writer = anyio.CapacityLimiter(1)  # whoever changes photos or switches waits in line here
        self._serving = Serving(settings, metrics)
        self._observe()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Serving]:
        """What is served now, kept open until the end of the block."""
        serving = self._serving
        serving.acquire()
        try:
            yield serving
        finally:
            serving.release()

    def close(self) -> None:
        """Answers what is waiting and closes files."""
        self.workers.close()
        self._serving.retire()

    async def reload(self) -> Serving:
        """Switches to the published generation; requests that are running end on the old one.

        Raises:
            SvdrawError: if it cannot be served; the old one stays.
        """
        return await anyio.to_thread.run_sync(self._reload, limiter=self._writer)

    async def reload_if_changed(self) -> None:
        """Switches if a generation was published since, and logs if that cannot be served."""
        try:
            if await anyio.to_thread.run_sync(self._is_outdated):
                await self.reload()
        except SvdrawError as error:
            logger.error("generation %d stays in service: %s", self._serving.searcher.generation, error)

    async def add(self, serving: Serving, upload: Upload) -> tuple[Photo, bool]:
        """Adds a photo, or replaces the description of the same file; searches that begin afterwards find it.

        Returns:
            The photo, and whether it is new.

        Raises:
            GalleryLocked: if a job is writing.
            RequestProblem: 409 if another gallery was put in service.
        """
        return await anyio.to_thread.run_sync(self._add, serving, upload, limiter=self._writer)

    async def remove(self, serving: Serving, identifier: int) -> None:
        """Removes a photo; searches that begin afterwards do not find it.

        Raises:
            GalleryLocked: if a job is writing.
            RequestProblem: 404 if there is none, 409 if it is the last one.
        """
        await anyio.to_thread.run_sync(self._remove, serving, identifier, limiter=self._writer)

    async def describe(self, serving: Serving, identifier: int, changes: dict[str, Any]) -> Photo:
        """Changes ``label`` or ``metadata`` of a photo.

        Raises:
            GalleryLocked: if a job is writing.
            RequestProblem: 404 if there is none.
        """
        return await anyio.to_thread.run_sync(self._describe, serving, identifier, changes, limiter=self._writer)

    async def publish_if_due(self) -> None:
        """Publishes a generation once many photos have changed live; logs if that cannot be done."""
        if len(self._serving.searcher.changes) < self._settings.live_changes:
            return
        try:
            await anyio.to_thread.run_sync(self._publish, limiter=self._writer)
        except SvdrawError as error:
            logger.error("%d live changes are not published yet: %s", len(self._serving.searcher.changes), error)

    def _reload(self) -> Serving:
        old = self._serving
        try:
            new = Serving(self._settings, self.metrics, old)
        except SvdrawError:
            self.metrics.reloads.labels("failed").inc()
            raise
        if new.identity == old.identity:
            published = new.searcher.manifest.revision
            new.searcher = new.searcher.with_changes(c for c in old.searcher.changes if c.revision > published)
        self._serving = new
        old.retire(new)
        self.metrics.reloads.labels("switched").inc()
        self._observe()
        logger.info("serving generation %d of %s, %d photos", new.searcher.generation, new.path, new.searcher.count)
        return new

    def _is_outdated(self) -> bool:
        path = self._settings.gallery.resolve()
        return path != self._serving.path or read_generation(path) != self._serving.searcher.manifest

    def _publish(self) -> None:
        with _open_for_writing(self._serving.path) as gallery:
            gallery.publish_changes()
        self._reload()

    def _add(self, serving: Serving, upload: Upload) -> tuple[Photo, bool]:
        with self._writing(serving) as gallery:
            photo = keep_upload(gallery.path, upload)
            known = bool(gallery.catalogue.ids([photo.uri]))
            gallery.catalogue.add([photo])
            identifier = gallery.catalogue.ids([photo.uri])[photo.uri]
            self._change(Change(gallery.catalogue.revision, identifier, content_key(photo.sha256), photo.vector))
            return gallery.catalogue.photos([identifier])[identifier], not known

    def _remove(self, serving: Serving, identifier: int) -> None:
        with self._writing(serving) as gallery:
            photo = serving.photo(identifier)
            if not gallery.catalogue.has_others([identifier]):
                raise RequestProblem(409, "this is the last photo; a gallery cannot be empty")
            gallery.catalogue.remove([identifier])
            self._change(Change(gallery.catalogue.revision, identifier, content_key(photo.sha256), None))
            discard_upload(gallery.path, photo.uri)

    def _describe(self, serving: Serving, identifier: int, changes: dict[str, Any]) -> Photo:
        with self._writing(serving) as gallery:
            photo = serving.photo(identifier)._replace(**changes)
            gallery.catalogue.describe(identifier, photo.label, photo.metadata)
            return photo

    @contextmanager
    def _writing(self, serving: Serving) -> Iterator[Gallery]:
        """The gallery that the request began with, open for writing if it is still the one in service."""
        current = self._serving
        if current.identity != serving.identity or current.bundle.digest != serving.bundle.digest:
            raise RequestProblem(409, "another gallery was put in service meanwhile; send the request again")
        with _open_for_writing(current.path) as gallery:
            yield gallery

    def _change(self, change: Change) -> None:
        self._serving.searcher = self._serving.searcher.with_changes([change])
        self._observe()

    def _observe(self) -> None:
        searcher = self._serving.searcher
        self.metrics.photos.set(searcher.count)
        self.metrics.generation.set(searcher.generation)
        self.metrics.changes.set(len(searcher.changes))


@contextmanager
def _open_for_writing(path: Path) -> Iterator[Gallery]:
    with closing(Gallery.open(path, write=True)) as gallery, gallery.writing():
        yield gallery
