"""Batches of augmented images, decoded in the background while the step before is computed.

An image that was usable when the run began may be gone or damaged by the time a batch needs it. Its pair is then left
out of that batch and of all later ones, and listed with the run's rejected images; the others still depend on nothing
but the seed and the step.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.base.errors import DataError
from training.base.rejects import reject_reason, report_rejects
from training.data.pairs import PairedData
from training.fit.augmentation import Draws, augment_photos, augment_sketches
from training.fit.distributed import own_rows
from training.fit.sampling import Batch, PairSampler
from training.model.encoders import Encoder, PairedEncoders
from training.model.images import open_image

__all__ = ["ImageBatches"]

_MEMORY = 1 << 30  # bytes of decoded images kept

Pixels = NDArray[np.uint8]


class ImageBatches:
    """Image batches by step number; a step's images depend on nothing but the seed and the step.

    Of several processes, each decodes and augments its own rows of a batch, the same as one process would.

    Args:
        data: sketches, photos and the groups that pairs are drawn from.
        encoders: their preprocessing is used.
        batch_size: number of pairs in a batch; fewer where a file has become unusable.
        seed: seed of the draws and of the augmentation.
        device: device that images are augmented on, and that the batches are on.
        class_pairs: see ``PairSampler``.
        rejects: file to which images that have become unusable are added.
    """

    def __init__(
        self,
        data: PairedData,
        encoders: PairedEncoders,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        class_pairs: int = 1,
        rejects: Path | None = None,
    ) -> None:
        self._data = data
        self._sampler = PairSampler(data, batch_size, seed, class_pairs)
        self._own = own_rows(batch_size)
        self._sketch, self._photo = encoders.sketch, encoders.photo
        self._seed = seed
        self._device = device
        self._rejects = rejects
        self._rejected: dict[Path, str] = {}
        self._decoded: dict[Path, Pixels] = {}
        self._room = _MEMORY
        # One thread of its own, so that preparing a batch does not take both cores from the step being computed.
        self._pool = ThreadPoolExecutor(1, "images", initializer=torch.set_num_threads, initargs=(1,))
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of a step: normalised images, ``(batch_size, 3, size, size)``.

        Raises:
            DataError: if fewer than two of its pairs are usable.
        """
        expected = self._next
        future = expected[1] if expected and expected[0] == step else self._pool.submit(self._prepare, step)
        batch = future.result()
        self._next = (step + 1, self._pool.submit(self._prepare, step + 1))
        return batch

    def close(self) -> None:
        """Stops working ahead, and lists the files that have become unusable."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._rejected:
            reasons = {str(file): reason for file, reason in self._rejected.items()}
            report_rejects(self._rejects, reasons, len(self._data.sketches) + len(self._data.photos), add=True)

    def _prepare(self, step: int) -> Batch:
        sketches, photos, groups = self._sampler.draw(step)
        rows = np.arange(len(groups))[self._own]
        random = np.random.default_rng([self._seed, step, 1])
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        pairs = [
            (drawing, picture, row)
            for row, sketch, photo in zip(rows, sketches[rows], photos[rows], strict=True)
            if (drawing := self._arranged(self._data.sketches[sketch], self._sketch)) is not None
            and (picture := self._arranged(self._data.photos[photo], self._photo)) is not None
        ]
        if len(pairs) < min(2, len(rows)):
            raise DataError(
                f"{len(pairs)} of {len(rows)} pairs of a batch can still be read; check where the images lie and run "
                "the same command again to go on"
            )
        drawings, pictures, usable = zip(*pairs, strict=True)
        kept = list(usable)
        draws = Draws(generator, len(groups), torch.tensor(kept), self._device)
        x = augment_sketches(self._stack(drawings), draws)
        y = augment_photos(self._stack(pictures), draws)
        return Batch(
            self._sketch.preprocessing.normalise(x),
            self._photo.preprocessing.normalise(y),
            *(torch.from_numpy(positions[kept]).to(self._device) for positions in (groups, sketches, photos)),
        )

    def _stack(self, images: Sequence[Pixels]) -> Tensor:
        pixels = torch.from_numpy(np.stack(images)).to(self._device)
        return pixels.permute(0, 3, 1, 2).float().div_(255)

    def _arranged(self, file: Path, encoder: Encoder) -> Pixels | None:
        """Decoded and resized, from memory where there was room for it; None if the file cannot be used any more."""
        pixels = self._decoded.get(file)
        if pixels is None and file not in self._rejected:
            preprocessing = encoder.preprocessing
            try:
                arranged = preprocessing.arrange(open_image(file, draft=preprocessing.draft))
                pixels = np.asarray(arranged.convert("RGB"))
            except MemoryError:
                raise
            except Exception as error:  # no single image may end the training
                self._rejected[file] = reject_reason(error)
                return None
            if pixels.nbytes <= self._room:
                self._decoded[file] = pixels
                self._room -= pixels.nbytes
        return pixels
