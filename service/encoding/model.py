"""From the bytes of an image to its embedding, in the thread of the worker that asks for it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from index.gallery.palette import color_shares
from service.encoding.batching import MicroBatcher
from service.encoding.decoding import Crop, Decoder
from service.encoding.inference import build_runner
from service.encoding.plan import make_plan
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings
from training.base.cache import default_cache_directory
from training.base.errors import ImageTooLarge
from training.base.rejects import reject_reason
from training.drawings.ink import BLANK, is_blank
from training.model.bundle import Bundle
from training.model.encoders import Modality
from training.model.images import ImageFacts

__all__ = ["EncodingModel"]

_COLOR_DRAFT = 128  # pixels of the shorter side of what colours are measured in, at least
_MODALITIES: tuple[Modality, ...] = ("sketch", "photo")


class EncodingModel:
    """The encoders of a bundle, ready for concurrent requests.

    Args:
        bundle: the loaded model bundle.
        settings: settings of the service, with its limits.
        metrics: metrics of the encoder.
        decoder: decoder of images.
    """

    def __init__(self, bundle: Bundle, settings: ServiceSettings, metrics: Metrics, decoder: Decoder) -> None:
        self.bundle = bundle
        self._decoder = decoder
        self._metrics = metrics
        plan, cache = make_plan(settings, bundle.device), default_cache_directory() / "onnx"
        self._runners = {
            "sketch": build_runner(bundle, bundle.sketch, settings.runtime, cache, plan.threads, settings.precision),
            "photo": build_runner(bundle, bundle.photo, "torch", cache, plan.threads),  # few, as they are stored
        }
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
            RequestProblem: 400 if the bytes are not a usable image, 413 if the image has too many pixels, 422 if it
                has no such part, or is a blank sketch.
        """
        with stopwatch.stage("decode"):
            image = self._decode(content, modality, crop)
        with stopwatch.stage("encode"):
            return self._embedders[modality](image)

    def colors(self, content: bytes) -> int:
        """What ``color_shares`` measures in a photo.

        Raises:
            RequestProblem: 400 if it is no usable image, 413 if it has too many pixels.
        """
        with self._refusing("photo"), self._decoder.image(content, _COLOR_DRAFT) as image:
            return color_shares(image)

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

    def _decode(self, content: bytes, modality: Modality, crop: Crop | None) -> Tensor:
        preprocessing = self.bundle.encoders.encoder(modality).preprocessing
        decoded = self._decoder.image(content, preprocessing.draft, crop, drawing=modality == "sketch")
        with self._refusing(modality), decoded as image:
            arranged = preprocessing.arrange(image)
        if modality == "sketch" and is_blank(arranged):
            self._metrics.rejected.inc()
            raise RequestProblem(422, BLANK)
        return preprocessing.tensor(arranged)

    @contextmanager
    def _refusing(self, modality: Modality) -> Iterator[None]:
        """Turns whatever is wrong with an image into an answer that says so."""
        try:
            yield
        except (MemoryError, RequestProblem):  # of the machine, or said already
            raise
        except Exception as error:
            self._metrics.rejected.inc()
            status = 413 if isinstance(error, ImageTooLarge) else 400
            raise RequestProblem(status, f"the {modality} cannot be used: {reject_reason(error)}") from error

    def _encode(self, modality: Modality, images: Sequence[Tensor]) -> NDArray[np.float32]:
        started = time.perf_counter()
        embeddings = self._runners[modality](torch.stack(list(images)))
        self._metrics.batches.observe(len(images))
        self._metrics.encoding.observe(time.perf_counter() - started)
        return embeddings
