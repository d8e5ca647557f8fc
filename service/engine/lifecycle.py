"""The engine: answers requests, and switches to a new generation or model without failing a request."""

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.generations import read_generation
from index.gallery.photos import NewPhoto, Photo, content_key
from index.gallery.searcher import Change
from service.encoding.decoding import Decoder
from service.encoding.plan import make_plan
from service.encoding.workers import Workers
from service.engine.building import build_base, should_build_base
from service.engine.loops import Loop
from service.engine.memory import Leftovers
from service.engine.serving import Serving, open_serving
from service.engine.tenure import Tenure
from service.engine.thumbnails import Thumbnails
from service.engine.uploads import Upload, discard_upload, keep_upload
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from training.model.devices import resolve_device

__all__ = ["Engine"]

logger = logging.getLogger(__name__)

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")
_PUBLISH_SECONDS = 2.0  # between two checks of how much has changed live, or fallen out of use
_BASE_SECONDS = 10.0  # between two checks of how much has changed since the base was built
_STORE_SECONDS = 60.0  # between two times that sums over the sketches are stored


class Engine:
    """The gallery that is served, the live changes to it, and switches to other generations.

    Args:
        settings: settings of the service.
        metrics: metrics of the service.

    Attributes:
        workers: threads that answer requests with images.
        thumbnails: thumbnails of photos.
        loops: loops that run in the background.

    Raises:
        GalleryError: if the gallery cannot be served; the message says why.
        BundleError: if the gallery's model cannot be loaded.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self.metrics = metrics
        plan = make_plan(settings, resolve_device(settings.device))
        self._decoder = Decoder.for_service(settings, plan.cores, metrics)
        self._tenure = Tenure(open_serving(settings, metrics, self._decoder))
        self.workers = Workers(plan.workers, plan.waiting, metrics, plan.at_once)
        self.thumbnails = Thumbnails(settings.thumbnail_cache_bytes, self._decoder)
        self._leftovers = Leftovers()
        self.loops = [
            Loop("decoding", self._decoder.check, _PUBLISH_SECONDS, metrics),
            Loop("publish", self.publish_if_due, _PUBLISH_SECONDS, metrics),
            Loop("base", self.build_base_if_due, _BASE_SECONDS, metrics),
            Loop("memory", self.release_memory, _PUBLISH_SECONDS, metrics),
        ]
        if settings.learn_queries:
            self.loops.append(Loop("queries", self.store_drawn, _STORE_SECONDS, metrics))
        if settings.reload_seconds:
            self.loops.append(Loop("reload", self.reload_if_changed, settings.reload_seconds, metrics))
        self._line = anyio.CapacityLimiter(1)  # changes and switches queue here one at a time, without a thread,
        self._changing = threading.Lock()  # and here: a cancelled request leaves that queue before its thread ends
        self._closed = False
        self._observe()

    @property
    def alarms(self) -> list[str]:
        """Problems in the background that have occurred several times in a row."""
        return [loop.alarm for loop in self.loops if loop.alarm]

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Serving]:
        """Yields the gallery that is served now, and keeps it open until the block ends.

        Raises:
            RequestProblem: 503 if the engine is closed.
        """
        while (serving := (tenure := self._tenure).acquire()) is None:  # the engine has just switched
            if self._closed:
                raise _stopping()
        try:
            yield serving
        finally:
            tenure.release()

    def close(self) -> None:
        """Ends what still waits for an image, answers other requests, and closes all files."""
        self._closed = True
        self._decoder.close()
        try:
            self.workers.close()
        finally:
            with self._changing:
                self._tenure.retire()

    async def reload(self) -> Serving:
        """Switches to the generation that was published last. Running requests finish on the old one.

        Raises:
            SvdrawError: if the new generation cannot be served; the old one stays in service.
        """
        return await self._in_line(self._reload)

    async def reload_if_changed(self) -> None:
        """Switches to a new generation if one was published.

        Raises:
            SvdrawError: if the new generation cannot be served; the old one stays in service.
        """
        if await anyio.to_thread.run_sync(self._is_outdated):
            await self.reload()

    async def publish_if_due(self) -> None:
        """Publishes a generation with the same base once many photos were changed live.

        Raises:
            SvdrawError: if the generation cannot be published.
        """
        if len(self._tenure.serving.searcher.changes) >= self._settings.live_changes:
            await self._in_line(self._publish)

    async def build_base_if_due(self) -> None:
        """Has a child process build a new base if one is due, and switches to it. A job builds its own when it ends.

        Raises:
            SvdrawError: if the base cannot be built or served.
        """
        path = self._tenure.serving.path
        if await self._in_line(should_build_base, path):
            await build_base(path, self.metrics)
            await self.reload_if_changed()

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
            RequestProblem: 409 if the service switched to another gallery in the meantime.
        """
        return await self._in_line(self._add, serving, upload)

    async def remove(self, serving: Serving, identifier: int) -> None:
        """Removes a photo. Searches that begin afterwards do not find it.

        Raises:
            GalleryLocked: if a job is writing to the gallery.
            RequestProblem: 404 if there is no such photo, 409 if it is the last one.
        """
        await self._in_line(self._remove, serving, identifier)

    async def describe(self, serving: Serving, identifier: int, changes: dict[str, Any]) -> Photo:
        """Changes the ``label`` or the ``metadata`` of a photo.

        Raises:
            GalleryLocked: if a job is writing to the gallery.
            RequestProblem: 404 if there is no such photo.
        """
        return await self._in_line(self._describe, serving, identifier, changes)

    async def _in_line(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Calls a function that changes photos or switches generations in a thread; only one runs at a time."""
        return await anyio.to_thread.run_sync(lambda: self._alone(function, *arguments), limiter=self._line)

    def _alone(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        with self._changing:
            if self._closed:
                raise _stopping()
            return function(*arguments)

    def _reload(self) -> Serving:
        retiring = self._tenure
        try:
            new = self._successor(retiring.serving)
        except Exception:
            self.metrics.reloads.labels("failed").inc()
            raise
        self._tenure = Tenure(new)
        base = retiring.serving.searcher.base
        if base is not None and base is not new.searcher.base:
            self._leftovers.watch(base.accelerator)
        retiring.retire()
        self.metrics.reloads.labels("switched").inc()
        self._observe()
        logger.info("serving generation %d of %s, %d photos", new.searcher.generation, new.path, new.searcher.count)
        return new

    def _successor(self, old: Serving) -> Serving:
        """Opens the generation that was published last, with the live changes that it does not contain."""
        new = open_serving(self._settings, self.metrics, self._decoder, old)
        if new.identity != old.identity:
            return new
        published = new.searcher.manifest.revision
        try:
            searcher = new.searcher.with_changes(c for c in old.searcher.changes if c.revision > published)
        except BaseException:
            new.close()
            raise
        return replace(new, searcher=searcher)

    def _is_outdated(self) -> bool:
        serving, path = self._tenure.serving, self._settings.gallery.resolve()
        return path != serving.path or read_generation(path) != serving.searcher.manifest

    def _publish(self) -> None:
        with closing(Gallery.open(self._tenure.serving.path, write=True)) as gallery:
            if gallery.publish_layer() is None:
                raise GalleryError("the live changes cannot be published before a new base is built")
        self._reload()

    def _add(self, serving: Serving, upload: Upload) -> tuple[Photo, bool]:
        with self._writing(serving) as gallery:
            photo = _stored(gallery.path, upload)
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
            try:
                discard_upload(gallery.path, photo.uri)
            except OSError as error:  # the photo is out of the gallery, as the client asked
                logger.warning("the file of a removed photo could not be deleted: %s", error)

    def _describe(self, serving: Serving, identifier: int, changes: dict[str, Any]) -> Photo:
        with self._writing(serving) as gallery:
            photo = serving.photo(identifier)._replace(**changes)
            gallery.catalogue.describe({identifier: (photo.label, photo.metadata)})
            return photo

    @contextmanager
    def _writing(self, serving: Serving) -> Iterator[Gallery]:
        """Opens the gallery that the request began with for writing, if it is still the one in service."""
        current = self._tenure.serving
        if current.identity != serving.identity or current.bundle.digest != serving.bundle.digest:
            raise RequestProblem(409, "the service has switched to another gallery; send the request again")
        with closing(Gallery.open(current.path, write=True)) as gallery, gallery.writing():
            yield gallery

    def _change(self, change: Change) -> None:
        self._tenure.change([change])
        self._observe()

    def _observe(self) -> None:
        searcher = self._tenure.serving.searcher
        self.metrics.photos.set(searcher.count)
        self.metrics.generation.set(searcher.generation)
        self.metrics.changes.set(len(searcher.changes))


def _stopping() -> RequestProblem:
    return RequestProblem(503, "the service is stopping; try again soon", {"Retry-After": "2"})


def _stored(gallery: Path, upload: Upload) -> NewPhoto:
    try:
        return keep_upload(gallery, upload)
    except OSError as error:
        logger.error("a photo cannot be stored: %s", error)
        raise RequestProblem(503, "the photo cannot be stored at the moment; the service's log says why") from error
