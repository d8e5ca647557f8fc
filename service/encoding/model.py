"""From the bytes of an image to its embedding, in the thread of the worker that asks for it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from index.gallery.palette import color_shares
from index.gallery.precision import PhotoPrecision
from service.encoding.decoding import Crop, Decoder
from service.encoding.places import Place
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings
from training.base.errors import ImageTooCostly, ImageTooLarge
from training.base.rejects import reject_reason
from training.drawings.ink import BLANK
from training.inference.batching import MicroBatcher
from training.inference.plan import make_plan
from training.inference.runners import build_runner
from training.model.bundle import Bundle
from training.model.encoders import Modality
from training.model.images import ImageFacts, open_image

__all__ = ["EncodingModel"]

_COLOR_SIDE = 256  # pixels of the square that a photo is scaled down to before its colours are measured
_MODALITIES: tuple[Modality, ...] = ("sketch", "photo")
_STATUSES = {ImageTooLarge: 413, ImageTooCostly: 422}


class EncodingModel:
    """The encoders of a bundle, ready for concurrent requests.

    Args:
        bundle: the loaded model bundle.
        settings: settings of the service, with its limits.
        metrics: metrics of the encoder.
        decoder: decoder of images.
        photos: precision that photos are embedded in.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: ServiceSettings,
        metrics: Metrics,
        decoder: Decoder,
        photos: PhotoPrecision = "fp32",
    ) -> None:
        self.bundle = bundle
        self.photos = photos
        self._decoder = decoder
        self._metrics = metrics
        self._sketch_bytes = settings.max_sketch_bytes
        plan = make_plan(bundle.device)
        sketch = build_runner(bundle.sketch, settings.runtime, settings.precision, int8=bundle.int8("sketch"))
        photo = build_runner(bundle.photo, settings.runtime, photos, int8=bundle.int8("photo"), like=sketch)
        self._runners = {"sketch": sketch, "photo": photo}
        self._owners = 1
        self._lock = threading.Lock()
        self._batchers: list[MicroBatcher] = []
        self._embedders = {modality: self._embedder(modality, plan.max_batch) for modality in _MODALITIES}

    def warm_up(self) -> None:
        """Encodes blank images, so that the first request is as fast as the others."""
        for modality in _MODALITIES:
            size = self.bundle.encoders.encoder(modality).preprocessing.size
            for count in (1, 2):
                self._encode(modality, [torch.zeros(3, size, size)] * count)

    def embed(
        self, content: bytes, modality: Modality, stopwatch: Stopwatch, crop: Crop | None = None
    ) -> NDArray[np.float32]:
        """Embeds an image file or a part of it, ``(dim,)``, and records the stages ``decode`` and ``encode``.

        Raises:
            RequestProblem: 400 if the bytes are not a usable image, 413 if the image is too large, 422 if it has no
                such part, takes too long to decode, or is a blank sketch.
        """
        with self.place(stopwatch) as place:
            with stopwatch.stage("decode"):
                image = self._decode(content, modality, crop, place)
            if self._batchers:  # an image that waits for its batch keeps no core
                place.leave()
            else:
                place.take()
            with stopwatch.stage("encode"):
                return self._embedders[modality](image)

    def place(self, stopwatch: Stopwatch) -> AbstractContextManager[Place]:
        """Waits for a share of the machine; see ``Places.hold``."""
        return self._decoder.place(stopwatch)

    def colors(self, content: bytes) -> int:
        """What ``color_shares`` measures in a photo.

        Raises:
            RequestProblem: 400 if it is no usable image, 413 if it has too many pixels.
        """
        with self._refusing("photo"):
            return color_shares(open_image(self._decoder.thumbnail(content, _COLOR_SIDE)))

    def describe(self, content: bytes) -> ImageFacts:
        """What a photo's file is.

        Raises:
            RequestProblem: 400 if it is no usable image, 413 if it has too many pixels.
        """
        with self._refusing("photo"):
            return self._decoder.describe(content)

    def share(self) -> Self:
        """Returns this model for one more owner, who must close it as well."""
        with self._lock:
            self._owners += 1
        return self

    def close(self) -> None:
        """Ends the threads once every owner has closed the model."""
        with self._lock:
            self._owners -= 1
            last = not self._owners
        if last:
            for batcher in self._batchers:
                batcher.close()

    def _embedder(self, modality: Modality, max_batch: int) -> Callable[[Tensor], NDArray[np.float32]]:
        if max_batch == 1:
            return lambda image: self._encode(modality, [image])[0]
        self._batchers.append(MicroBatcher(partial(self._encode, modality), max_batch))
        return self._batchers[-1].embed

    def _decode(self, content: bytes, modality: Modality, crop: Crop | None, place: Place) -> Tensor:
        if modality == "sketch" and len(content) > self._sketch_bytes:
            raise RequestProblem(413, f"the sketch is larger than the limit of {self._sketch_bytes} bytes")
        preprocessing = self.bundle.encoders.encoder(modality).preprocessing
        with self._refusing(modality):
            arranged = self._decoder.arranged(content, preprocessing, place, sketch=modality == "sketch", crop=crop)
        if modality == "sketch" and arranged.is_blank:
            self._metrics.rejected.inc()
            raise RequestProblem(422, BLANK)
        return preprocessing.tensor(arranged.pixels)

    @contextmanager
    def _refusing(self, modality: Modality) -> Iterator[None]:
        """Turns whatever is wrong with an image into an answer that says so."""
        try:
            yield
        except (MemoryError, RequestProblem):  # of the machine, or said already
            raise
        except Exception as error:
            self._metrics.rejected.inc()
            status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 400)
            raise RequestProblem(status, f"the {modality} cannot be used: {reject_reason(error)}") from error

    def _encode(self, modality: Modality, images: Sequence[Tensor]) -> NDArray[np.float32]:
        started = time.perf_counter()
        embeddings = self._runners[modality](torch.stack(list(images)))
        self._metrics.batches.observe(len(images))
        self._metrics.encoding.observe(time.perf_counter() - started)
        return embeddings
