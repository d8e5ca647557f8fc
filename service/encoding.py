"""From the bytes of an image to its embedding: decoded in few threads, encoded in shared batches."""

import asyncio
import os
from collections.abc import Sequence
from functools import partial

import anyio
import anyio.to_thread
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.batching import MicroBatcher
from service.errors import RequestProblem
from service.inference import build_runner
from service.metrics import Metrics
from service.settings import ServiceSettings
from training.bundle import Bundle
from training.encoders import Modality
from training.errors import ImageError, ImageTooLarge
from training.features import default_cache_directory
from training.images import open_image

__all__ = ["EncodingModel"]

_MODALITIES: tuple[Modality, ...] = ("sketch", "photo")


class EncodingModel:
    """The encoders of a bundle, ready for concurrent requests.

    Args:
        bundle: loaded.
        settings: limits.
        metrics: to observe.
    """

    def __init__(self, bundle: Bundle, settings: ServiceSettings, metrics: Metrics) -> None:
        self.bundle = bundle
        self._max_pixels = settings.max_pixels
        self._metrics = metrics
        cache = default_cache_directory() / "onnx"
        self._runners = {
            "sketch": build_runner(bundle, bundle.sketch, settings.runtime, cache),
            "photo": build_runner(bundle, bundle.photo, "torch", cache),  # photos come one by one, exports take long
        }
        self._decoders = anyio.CapacityLimiter(os.cpu_count() or 1)  # decoded images are large; bounds their memory
        self._batchers = {
            modality: MicroBatcher(
                partial(self._encode, modality),
                max_batch=settings.max_batch,
                max_waiting=settings.max_waiting,
                on_batch=self._observe,
            )
            for modality in _MODALITIES
        }

    def warm_up(self) -> None:
        """Encodes blank images, so that the first request is as quick as the others."""
        for modality in _MODALITIES:
            size = self.bundle.encoders.encoder(modality).preprocessing.size
            for count in (1, 2):
                self._encode(modality, [torch.zeros(3, size, size)] * count)

    async def decode(self, content: bytes, modality: Modality) -> Tensor:
        """Preprocesses an image file for an encoder, ``(3, size, size)``.

        Raises:
            RequestProblem: 400 if it is no usable image, 413 if it has too many pixels.
        """
        return await anyio.to_thread.run_sync(self._decode, content, modality, limiter=self._decoders)

    async def embed(self, image: Tensor, modality: Modality) -> NDArray[np.float32]:
        """Embeds one preprocessed image, ``(dim,)``.

        Raises:
            RequestProblem: 503 if too many images wait.
        """
        return await asyncio.wrap_future(self._batchers[modality].submit(image))

    def close(self) -> None:
        """Encodes what is waiting, then ends the threads."""
        for batcher in self._batchers.values():
            batcher.close()

    def _decode(self, content: bytes, modality: Modality) -> Tensor:
        preprocessing = self.bundle.encoders.encoder(modality).preprocessing
        try:
            return preprocessing(open_image(content, max_pixels=self._max_pixels, draft=preprocessing.size))
        except ImageError as error:
            self._metrics.rejected.inc()
            status = 413 if isinstance(error, ImageTooLarge) else 400
            raise RequestProblem(status, f"the {modality} cannot be used: {error.reason}") from error

    def _encode(self, modality: Modality, images: Sequence[Tensor]) -> NDArray[np.float32]:
        return self._runners[modality](torch.stack(list(images)))

    def _observe(self, size: int, seconds: float) -> None:
        self._metrics.batches.observe(size)
        self._metrics.encoding.observe(seconds)
        self._metrics.waiting.set(sum(batcher.waiting for batcher in self._batchers.values()))
