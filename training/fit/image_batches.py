"""Batches of augmented images, decoded in the background while the step before is computed."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.pairs import PairedData
from training.fit.augmentation import augment_photos, augment_sketches
from training.fit.sampling import Batch, PairSampler
from training.model.encoders import Encoder, PairedEncoders
from training.model.images import open_image

__all__ = ["ImageBatches"]

_MEMORY = 1 << 30  # bytes of decoded images kept

Pixels = NDArray[np.uint8]


class ImageBatches:
    """Image batches by step number; a step's images depend on nothing but the seed and the step.

    Args:
        data: files and groups; every file must be usable.
        encoders: their preprocessing is used.
        batch_size: pairs a batch.
        seed: of all randomness.
        device: where the batches go.
    """

    def __init__(
        self,
        data: PairedData,
        encoders: PairedEncoders,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._data = data
        self._sampler = PairSampler(data, batch_size, seed)
        self._sketch, self._photo = encoders.sketch, encoders.photo
        self._seed = seed
        self._device = device
        self._decoded: dict[Path, Pixels] = {}
        self._room = _MEMORY
        # One thread of its own, so that preparing a batch does not take both cores from the step being computed.
        self._pool = ThreadPoolExecutor(1, "images", initializer=torch.set_num_threads, initargs=(1,))
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of a step: normalised images, ``(batch_size, 3, size, size)``."""
        expected = self._next
        future = expected[1] if expected and expected[0] == step else self._pool.submit(self._prepare, step)
        batch = future.result()
        self._next = (step + 1, self._pool.submit(self._prepare, step + 1))
        return Batch(*(part.to(self._device, non_blocking=True) for part in batch))

    def close(self) -> None:
        """Stops working ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self, step: int) -> Batch:
        sketches, photos, groups = self._sampler.draw(step)
        random = np.random.default_rng([self._seed, step, 1])
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        drawings = [self._arranged(self._data.sketches[row], self._sketch) for row in sketches]
        pictures = [self._arranged(self._data.photos[row], self._photo) for row in photos]
        return Batch(
            self._sketch.preprocessing.normalise(augment_sketches(_stack(drawings), generator)),
            self._photo.preprocessing.normalise(augment_photos(_stack(pictures), generator)),
            torch.from_numpy(groups),
        )

    def _arranged(self, file: Path, encoder: Encoder) -> Pixels:
        """Decoded and resized, from memory where there was room for it."""
        pixels = self._decoded.get(file)
        if pixels is None:
            preprocessing = encoder.preprocessing
            pixels = np.asarray(preprocessing.arrange(open_image(file, draft=preprocessing.draft)))
            if pixels.nbytes <= self._room:
                self._decoded[file] = pixels
                self._room -= pixels.nbytes
        return pixels


def _stack(images: list[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)
