"""What answers queries: the gallery, its searcher and its sketch encoder, loaded together and never mixed."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio.to_thread
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from index.catalogue import Photo
from index.errors import ModelMismatch
from index.gallery import Gallery
from index.searcher import Hit, Searcher
from service.batching import MicroBatcher
from service.errors import RequestProblem
from service.metrics import Metrics
from service.settings import ServiceSettings
from training.bundle import Bundle, load_bundle
from training.errors import ImageError, ImageTooLarge
from training.images import open_image

__all__ = ["Answer", "Engine", "Stopwatch"]


@dataclass
class Stopwatch:
    """Seconds by stage of one query."""

    stages: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Ends a stage."""
        now = time.perf_counter()
        self.stages[stage] = now - self._since
        self._since = now

    def server_timing(self) -> str:
        """Value of a ``Server-Timing`` header, in milliseconds."""
        return ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in self.stages.items())


@dataclass(frozen=True)
class Answer:
    """Hits in order with the photos that still exist, and how long each stage took."""

    hits: list[tuple[Hit, Photo]]
    stopwatch: Stopwatch


class Engine:
    """Loaded gallery and encoder.

    Args:
        settings: limits and device.
        metrics: to observe.

    Raises:
        GalleryError: if the gallery cannot be served; the message says why.
        BundleError: if its model cannot be loaded.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self.metrics = metrics
        self.searcher = Searcher.open(settings.gallery, settings.device)
        self.gallery = Gallery.open(settings.gallery)
        try:
            self.bundle: Bundle = load_bundle(self.gallery.model_directory, settings.device)
            if self.searcher.manifest.model != self.bundle.digest:
                raise ModelMismatch(
                    f"{settings.gallery} was built with another model than the one in it; build it again"
                )
        except BaseException:
            self.gallery.close()
            raise
        self._batcher = MicroBatcher(
            self._encode,
            max_batch=settings.max_batch,
            max_waiting=settings.max_waiting,
            on_batch=self._observe_batch,
        )
        self._warm_up()
        metrics.photos.set(self.searcher.count)
        metrics.generation.set(self.searcher.generation)

    @property
    def default_dimensions(self) -> int:
        """Coordinates compared where a search does not say: those that suffice, as the model's training measured."""
        return min(self.bundle.manifest.sufficient_dimensions or self.searcher.dim, self.searcher.dim)

    def close(self) -> None:
        """Answers what is waiting and closes files."""
        self._batcher.close()
        self.gallery.close()

    async def search(
        self, content: bytes, limit: int, *, offset: int, dimensions: int, score_threshold: float | None
    ) -> Answer:
        """Finds the photos that a sketch depicts.

        Args:
            content: bytes of an image file.
            limit: at most so many photos.
            offset: skip so many.
            dimensions: compare only so many leading coordinates.
            score_threshold: leave out lower scores.

        Raises:
            RequestProblem: if the content is no usable image, or too many queries wait.
            DimensionsError: if the gallery has no such number of dimensions.
        """
        stopwatch = Stopwatch()
        image = await anyio.to_thread.run_sync(self._decode, content)
        stopwatch.lap("decode")
        embedding = await self._embed(image)
        stopwatch.lap("encode")
        hits = await anyio.to_thread.run_sync(
            lambda: self.searcher.search(
                embedding[None], limit, offset=offset, dimensions=dimensions, score_threshold=score_threshold
            )[0]
        )
        photos = self.gallery.catalogue.photos([hit.id for hit in hits])
        stopwatch.lap("search")
        for stage, seconds in stopwatch.stages.items():
            self.metrics.stages.labels(stage).observe(seconds)
        return Answer([(hit, photos[hit.id]) for hit in hits if hit.id in photos], stopwatch)

    async def _embed(self, image: Tensor) -> NDArray[np.float32]:
        return await asyncio.wrap_future(self._batcher.submit(image))

    def _decode(self, content: bytes) -> Tensor:
        preprocessing = self.bundle.sketch.preprocessing
        try:
            return preprocessing(open_image(content, max_pixels=self._settings.max_pixels, draft=preprocessing.size))
        except ImageError as error:
            self.metrics.rejected.inc()
            status = 413 if isinstance(error, ImageTooLarge) else 400
            raise RequestProblem(status, f"the sketch cannot be used: {error.reason}") from error

    def _encode(self, images: Sequence[Tensor]) -> NDArray[np.float32]:
        return self.bundle.encode(self.bundle.sketch, torch.stack(list(images)))

    def _observe_batch(self, size: int, seconds: float) -> None:
        self.metrics.batches.observe(size)
        self.metrics.waiting.set(self._batcher.waiting)

    def _warm_up(self) -> None:
        size = self.bundle.sketch.preprocessing.size
        for count in (1, 2):
            embeddings = self._encode([torch.zeros(3, size, size)] * count)
        self.searcher.search(embeddings, 10)
