"""The engine of a service whose photos are in several shards, here or on other machines."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio.to_thread

from index.errors import GalleryDamaged, ModelMismatch
from index.gallery.directory import Gallery
from index.gallery.photos import Photo
from index.gallery.precision import photo_precision
from index.gallery.publishing import SHARED_ORDER
from index.shards.layout import read_shards, shard_folder, shard_of
from service.encoding.decoding import Decoder
from service.encoding.model import EncodingModel
from service.encoding.workers import Workers
from service.engine.loops import Loop
from service.engine.serving import Serving
from service.engine.thumbnails import Thumbnails
from service.engine.uploads import Upload
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from service.shards.fleet import Fleet, open_local
from service.shards.searching import Heard, ShardsCatalogue, ShardsSearcher, ShardsServing, shard_and_id
from training.inference.plan import make_plan
from training.model.bundle import load_bundle
from training.model.devices import resolve_device
from training.model.gallery_order import read_gallery_order

__all__ = ["ShardsEngine"]

_LOOK_SECONDS = 1.0  # between two questions what the shards hold, by which one that was away is found again
_START_SECONDS = 300.0  # in which every shard must first answer
_CHECK_SECONDS = 2.0  # between two checks of the decoders
_TEND_SECONDS = 60.0  # in which shards switch to their new generations


class ShardsEngine:
    """The shards that are served; see ``Engine``, which serves one gallery.

    Args:
        settings: settings of the service; ``gallery`` is the folder of the shards.
        metrics: metrics of the service.

    Attributes:
        workers: threads that answer requests with images.
        thumbnails: thumbnails of photos.
        loops: loops that run in the background.

    Raises:
        GalleryError: if the shards cannot be served; the message says why.
        BundleError: if their model cannot be loaded.
        PartsError: if there is no such cluster.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings, self.metrics = settings, metrics
        self._path = settings.gallery.resolve()
        manifest = read_shards(self._path)
        self._order = read_gallery_order(self._path / SHARED_ORDER)
        folders = [shard_folder(self._path, shard) for shard in range(manifest.shards)]
        bundle = load_bundle(folders[0] / "model", settings.device)
        if bundle.digest != manifest.model:
            raise ModelMismatch(f"{folders[0]} holds another model than {self._path} says; build the shards again")
        with closing(Gallery.open(folders[0])) as gallery:
            precision = photo_precision(gallery.catalogue, bundle)
        plan = make_plan(resolve_device(settings.device), settings.processes)
        with ExitStack() as opened:
            self._decoder = opened.enter_context(closing(Decoder.for_service(settings, plan.cores, metrics)))
            model = EncodingModel(bundle, settings, metrics, self._decoder, precision)
            self._model = opened.enter_context(closing(model))
            self._model.warm_up()
            self._fleet = opened.enter_context(closing(_open(settings, folders)))
            self._fleet.look(_START_SECONDS)
            _check(self._path, manifest.model, self._fleet)
            opened.pop_all()
        self.workers = Workers.for_service(settings, plan, metrics)
        self.thumbnails = Thumbnails(settings.thumbnail_cache_bytes, self._decoder)
        self.loops = [
            Loop("search", self._look, _LOOK_SECONDS, metrics, vital=True),
            Loop("decoding", self._decoder.check, _CHECK_SECONDS, metrics),
        ]
        if settings.reload_seconds:
            self.loops.append(Loop("reload", self._tend, settings.reload_seconds, metrics))
        self._observe()

    @property
    def alarms(self) -> list[str]:
        """See ``Engine.alarms``. Shards that do not answer are no alarm as long as one does."""
        return [loop.alarm for loop in self.loops if loop.alarm]

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Serving]:
        """See ``Engine.lease``."""
        yield self._serving()

    def close(self) -> None:
        """See ``Engine.close``. Replicas on a cluster go on, for whoever serves them next."""
        self._decoder.close()
        self.workers.close()
        self._model.close()
        self._fleet.close()

    async def reload(self) -> Serving:
        """Has the shards switch to the generations that were published last."""
        await self._tend()
        await self._look()
        return self._serving()

    async def add(self, serving: Serving, upload: Upload) -> tuple[Photo, bool]:
        """See ``Engine.add``; the photo goes to the shard of its content."""
        shard = shard_of(upload.sha256, len(self._fleet))
        photo, new = await self._change(shard, "add", upload)
        return photo._replace(id=photo.id * len(self._fleet) + shard), new

    async def remove(self, serving: Serving, identifier: int) -> None:
        """See ``Engine.remove``; the last photo of a shard cannot be removed."""
        await anyio.to_thread.run_sync(serving.photo, identifier)
        shard, own = shard_and_id(identifier, len(self._fleet))
        await self._change(shard, "remove", own)

    async def describe(self, serving: Serving, identifier: int, changes: dict[str, Any]) -> Photo:
        """See ``Engine.describe``."""
        shard, own = shard_and_id(identifier, len(self._fleet))
        photo: Photo | None = await self._change(shard, "describe", own, changes)
        if photo is None:
            raise RequestProblem(404, f"the gallery has no photo {identifier}")
        return photo._replace(id=identifier)

    async def _change(self, shard: int, method: str, *args: Any) -> Any:
        seconds = self._settings.write_seconds

        def change() -> Any:
            result = self._fleet.ask(shard, method, *args, seconds, seconds=2 * seconds)
            self._fleet.look()
            return result

        result = await anyio.to_thread.run_sync(change)
        self._observe()
        return result

    def _serving(self) -> ShardsServing:
        heard = Heard.nothing()
        searcher = ShardsSearcher(self._fleet, heard, self._order)
        catalogue = ShardsCatalogue(self._fleet, heard)
        return ShardsServing(self._path, self._model, searcher, catalogue, None, self._fleet, heard)

    async def _look(self) -> None:
        try:
            await anyio.to_thread.run_sync(self._fleet.look)
        finally:
            self._observe()

    async def _tend(self) -> None:
        await anyio.to_thread.run_sync(self._fleet.tend, _TEND_SECONDS)

    def _observe(self) -> None:
        searcher = self._serving().searcher
        self.metrics.photos.set(searcher.count)
        self.metrics.generation.set(searcher.generation)
        self.metrics.changes.set(len(searcher.changes))
        self.metrics.missing_shards.set(len(self._fleet.away))


def _check(path: Path, model: str, fleet: Fleet) -> None:
    known = [facts.manifest for facts in fleet.facts.values() if facts.manifest is not None]
    if not known:
        raise GalleryDamaged(f"no shard in {path} holds a photo; build the shards again")
    if any((one.model, one.spectrum) != (model, known[0].spectrum) for one in known):
        raise GalleryDamaged(f"the shards in {path} differ in their model or order; build them again")


def _open(settings: ServiceSettings, folders: list[Path]) -> Fleet:
    if settings.ray is None:
        return Fleet(open_local(folders, settings.device, settings.live_changes), settings.shard_seconds)
    from service.shards.ray_serve import open_deployed  # Ray is for those who have a cluster

    return Fleet(open_deployed(settings, folders), settings.shard_seconds)
