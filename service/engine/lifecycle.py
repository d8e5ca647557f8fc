"""The engine: answers requests, and switches to a new generation or model without failing a request."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.generations import read_generation
from index.gallery.photos import Photo
from index.gallery.searcher import Change
from service.encoding.decoding import Decoder
from service.encoding.workers import Workers
from service.engine.building import build_base, should_build_base
from service.engine.changes import add_photo, changes_after, describe_photo, remove_photo
from service.engine.line import Line
from service.engine.loops import Loop
from service.engine.memory import Leftovers
from service.engine.probing import probe
from service.engine.serving import GalleryServing, Serving, open_serving, open_successor
from service.engine.siblings import Siblings
from service.engine.tenure import Tenure
from service.engine.thumbnails import Thumbnails
from service.engine.uploads import Upload
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from training.inference.plan import make_plan
from training.model.devices import resolve_device

__all__ = ["Engine"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
_PROBE_SECONDS = 2.0  # between two searches that show whether searches are answered
_PUBLISH_SECONDS = 2.0  # between two checks of how much has changed live, or fallen out of use
_BASE_SECONDS = 10.0  # between two checks of how much has changed since the base was built
_OTHERS_SECONDS = 0.5  # in which another service has made its change; a job takes longer
_STORE_SECONDS = 60.0  # between two times that sums over the sketches are stored


class Engine:
    """The gallery that is served, the live changes to it, and switches to other generations.

    Args:
        settings: settings of the service.
        metrics: metrics of the service.
        leads: whether this process publishes live changes and has bases built; one of several that serve together does.

    Attributes:
        workers: threads that answer requests with images.
        thumbnails: thumbnails of photos.
        loops: loops that run in the background.

    Raises:
        GalleryError: if the gallery cannot be served; the message says why.
        BundleError: if the gallery's model cannot be loaded.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics, *, leads: bool = True) -> None:
        self._settings, self.metrics = settings, metrics
        plan = make_plan(resolve_device(settings.device), settings.processes)
        self._decoder = Decoder.for_service(settings, plan.cores, metrics)
        self._tenure = Tenure(open_serving(settings, metrics, self._decoder))
        self.workers = Workers.for_service(settings, plan, metrics)
        self.thumbnails = Thumbnails(settings.thumbnail_cache_bytes, self._decoder)
        self._leftovers = Leftovers()
        self.loops = [
            Loop("search", self.search_once, _PROBE_SECONDS, metrics, vital=True),
            Loop("decoding", self._decoder.check, _PUBLISH_SECONDS, metrics),
            Loop("memory", self.release_memory, _PUBLISH_SECONDS, metrics),
        ]
        if leads:
            self.loops.append(Loop("publish", self.publish_if_due, _PUBLISH_SECONDS, metrics))
            self.loops.append(Loop("base", self.build_base_if_due, _BASE_SECONDS, metrics))
        if settings.learn_queries:
            self.loops.append(Loop("queries", self.store_drawn, _STORE_SECONDS, metrics))
        if settings.reload_seconds:
            self.loops.append(Loop("reload", self.reload_if_changed, settings.reload_seconds, metrics))
        self._line = Line()  # of changes and switches
        self._seen = self._tenure.serving.searcher.manifest.revision  # of the catalogue; searches know of what is in it
        self._closed = False
        shares = settings.processes > 1
        self._siblings = Siblings(self._line, self._is_behind, self._catch_up) if shares else None
        self._observe()

    @property
    def alarms(self) -> list[str]:
        """What keeps searches from being answered, and problems in the background that occur again and again."""
        return [loop.alarm for loop in self.loops if loop.alarm]

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[GalleryServing]:
        """Yields what is served now, and keeps it open until the block ends; 503 if the engine is closed."""
        if self._siblings:
            await self._siblings.meet()
        with self._held() as serving:
            yield serving

    def close(self) -> None:
        """Ends what still waits for an image, answers other requests, and closes all files."""
        self._closed = True
        self._decoder.close()
        try:
            self.workers.close()
        finally:
            self._line.close()
            self._tenure.retire()

    async def reload(self) -> GalleryServing:
        """Switches to the generation that was published last. Running requests finish on the old one.

        Raises:
            SvdrawError: if the new generation cannot be served; the old one stays in service.
        """
        return await self._line.run(self._reload)

    async def reload_if_changed(self) -> None:
        """Switches to a new generation if one was published, or takes over what other processes have changed since.

        Raises:
            SvdrawError: if the new generation cannot be served; the old one stays in service.
        """
        try:
            outdated = await anyio.to_thread.run_sync(self._is_outdated)
        except Exception:
            self.metrics.reloads.labels("failed").inc()
            raise
        if outdated:
            await self.reload()
        elif await anyio.to_thread.run_sync(self._is_behind):
            await self._line.run(self._catch_up)

    async def publish_if_due(self) -> None:
        """Publishes a generation with the same base once many photos were changed live.

        Raises:
            SvdrawError: if the generation cannot be published.
        """
        if len(self._tenure.serving.searcher.changes) >= self._settings.live_changes:
            await self._line.run(self._publish)

    async def build_base_if_due(self) -> None:
        """Has a child process build a new base if one is due, and switches to it. A job builds its own when it ends.

        Raises:
            SvdrawError: if the base cannot be built or served.
        """
        path = self._tenure.serving.path
        if await self._line.run(should_build_base, path):
            await build_base(path, self.metrics)
            await self.reload_if_changed()

    async def search_once(self) -> None:
        """Searches as a request does, and fails if that would fail."""
        async with self.lease() as serving:
            await probe(serving, self.workers)

    async def release_memory(self) -> None:
        """Gives back the memory of a base once no request uses it any more."""
        await anyio.to_thread.run_sync(self._leftovers.clear)

    async def store_drawn(self) -> None:
        """Stores the sums over the sketches that were drawn.

        Raises:
            GalleryError: if the gallery's folder cannot be written.
        """
        async with self.lease() as serving:
            await anyio.to_thread.run_sync(serving.store_drawn)

    async def add(self, serving: Serving, upload: Upload) -> tuple[Photo, bool]:
        """Adds a photo. If the same file was added before, its description is replaced. Later searches find the photo.

        Returns:
            The photo, and whether it is new.

        Raises:
            GalleryLocked: if a job is writing to the gallery.
            GalleryBusy: if another process keeps the catalogue from being written.
            GalleryFull: if the disk is full.
            RequestProblem: 409 if the service switched to another gallery in the meantime; 503 if other changes take
                too long.
        """
        return await self._write(serving, lambda gallery: add_photo(gallery, upload))

    async def remove(self, serving: Serving, identifier: int) -> None:
        """Removes a photo. Searches that begin afterwards do not find it.

        Raises:
            RequestProblem: 404 if there is no such photo, 409 if it is the last one; see ``add`` for other errors.
        """
        await self._write(serving, lambda gallery: remove_photo(gallery, serving.photo(identifier)))

    async def describe(self, serving: Serving, identifier: int, changes: dict[str, Any]) -> Photo:
        """Changes the ``label`` or the ``metadata`` of a photo.

        Raises:
            RequestProblem: 404 if there is no such photo; see ``add`` for other errors.
        """
        return await self._write(serving, lambda gallery: describe_photo(gallery, serving.photo(identifier), changes))

    async def _write(self, serving: Serving, change: Callable[[Gallery], tuple[Result, list[Change]]]) -> Result:
        until = time.monotonic() + self._settings.write_seconds

        def write() -> Result:
            with self._writing(serving, until) as gallery:
                result, changes = change(gallery)
                self._change_own(changes)
                return result

        return await self._line.run(write, until=until)

    @contextmanager
    def _held(self) -> Iterator[GalleryServing]:
        while (serving := (tenure := self._tenure).acquire()) is None:  # the engine has just switched
            if self._closed:
                raise RequestProblem(503, "the service is stopping; try again soon", {"Retry-After": "2"})
        try:
            yield serving
        finally:
            tenure.release()

    def _reload(self) -> GalleryServing:
        retiring = self._tenure
        try:
            new = open_successor(self._settings, self.metrics, self._decoder, retiring.serving)
        except Exception:
            self.metrics.reloads.labels("failed").inc()
            raise
        self._tenure = Tenure(new)
        published = new.searcher.manifest.revision
        self._seen = max(self._seen, published) if new.identity == retiring.serving.identity else published
        base = retiring.serving.searcher.base
        if base is not None and base is not new.searcher.base:
            self._leftovers.watch(base.accelerator)
        retiring.retire()
        self.metrics.reloads.labels("switched").inc()
        self._observe()
        logger.info("serving generation %d of %s, %d photos", new.searcher.generation, new.path, new.searcher.count)
        return new

    def _is_outdated(self) -> bool:
        serving, path = self._tenure.serving, self._settings.gallery.resolve()
        return path != serving.path or read_generation(path) != serving.searcher.manifest

    def _is_behind(self) -> bool:
        with self._held() as serving:
            return serving.gallery.catalogue.revision > self._seen

    def _catch_up(self) -> None:
        """Lets searches know of what other processes have changed; a job publishes a generation of its own."""
        serving = self._tenure.serving
        if serving.gallery.is_being_written():
            return
        found = changes_after(serving.gallery.catalogue, self._seen, serving.searcher.dim, self._settings.live_changes)
        if found is None:
            self._publish()
        else:
            changes, self._seen = found
            self._change(changes)

    def _publish(self) -> None:
        with closing(Gallery.open(self._tenure.serving.path, write=True)) as gallery:
            if gallery.publish_layer() is None:
                raise GalleryError("the live changes cannot be published before a new base is built")
        self._reload()

    @contextmanager
    def _writing(self, serving: Serving, until: float) -> Iterator[Gallery]:
        """Opens the gallery that the request began with for writing, if it is still the one in service."""
        current = self._tenure.serving
        assert isinstance(serving, GalleryServing)
        if current.identity != serving.identity or current.bundle.digest != serving.bundle.digest:
            raise RequestProblem(409, "the service has switched to another gallery; send the request again")
        patience = max(_OTHERS_SECONDS, until - time.monotonic())
        opened = closing(Gallery.open(current.path, write=True, patience=patience))
        with opened as gallery, gallery.writing(_OTHERS_SECONDS):
            yield gallery

    def _change_own(self, changes: Sequence[Change]) -> None:
        if [change.revision for change in changes] == [self._seen + 1]:  # else another process has changed more
            self._seen += 1
        self._change(changes)

    def _change(self, changes: Sequence[Change]) -> None:
        self._tenure.change(changes)
        self._observe()

    def _observe(self) -> None:
        searcher = self._tenure.serving.searcher
        self.metrics.photos.set(searcher.count)
        self.metrics.generation.set(searcher.generation)
        self.metrics.changes.set(len(searcher.changes))
