"""Batches of augmented images, decoded in the background while the step before is computed.

An image that was usable when the run began may be gone or damaged by the time a batch needs it. Its pair is then left
out of that batch and of all later ones, and listed with the run's rejected images; the others still depend on nothing
but the seed and the step.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.base.errors import DataError
from training.base.machine import processors
from training.base.rejects import reject_reason, report_rejects
from training.data.pairs import PairedData
from training.fit.augmentation import Draws, augment_photos, augment_sketches
from training.fit.distributed import own_rows
from training.fit.sampling import Batch, PairSampler
from training.model.encoders import Encoder, PairedEncoders
from training.model.images import open_image
from training.model.preprocessing import Preprocessing

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
        self._pool = ThreadPoolExecutor(1, "images", initializer=torch.set_num_threads, initargs=(1,))
        # On a CPU one thread decodes, so that it does not take the cores from the step being computed.
        self._decoders = ThreadPoolExecutor(processors() if device.type == "cuda" else 1, "decode")
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
        self._decoders.shutdown(wait=True, cancel_futures=True)
        if self._rejected:
            reasons = {str(file): reason for file, reason in self._rejected.items()}
            report_rejects(self._rejects, reasons, len(self._data.sketches) + len(self._data.photos), add=True)

    def _prepare(self, step: int) -> Batch:
        sketches, photos, groups = self._sampler.draw(step)
        rows = np.arange(len(groups))[self._own]
        random = np.random.default_rng([self._seed, step, 1])
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        drawn = self._arranged([self._data.sketches[row] for row in sketches[rows]], self._sketch)
        shown = self._arranged([self._data.photos[row] for row in photos[rows]], self._photo)
        pairs = [
            (drawing, picture, row)
            for drawing, picture, row in zip(drawn, shown, rows, strict=True)
            if drawing is not None and picture is not None
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
        pixels = torch.from_numpy(np.stack(images))
        if self._device.type == "cuda":  # the copy then does not wait for the step being computed
            pixels = pixels.pin_memory()
        pixels = pixels.to(self._device, non_blocking=True)
        return pixels.permute(0, 3, 1, 2).float().div_(255)

    def _arranged(self, files: Sequence[Path], encoder: Encoder) -> list[Pixels | None]:
        """Decoded and resized, from memory where there was room; None for a file that cannot be used any more."""
        missing = [file for file in dict.fromkeys(files) if file not in self._decoded and file not in self._rejected]
        found = dict(zip(missing, self._decoders.map(partial(_arrange, encoder.preprocessing), missing), strict=True))
        for file, pixels in found.items():
            if isinstance(pixels, str):
                self._rejected[file] = pixels
            elif pixels.nbytes <= self._room:
                self._decoded[file] = pixels
                self._room -= pixels.nbytes
        usable = {file: pixels for file, pixels in found.items() if not isinstance(pixels, str)}
        return [usable[file] if file in usable else self._decoded.get(file) for file in files]


def _arrange(preprocessing: Preprocessing, file: Path) -> Pixels | str:
    """Decoded and resized; or why the file cannot be used."""
    try:
        return np.asarray(preprocessing.arrange(open_image(file, draft=preprocessing.draft)).convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # no single image may end the training
        return reject_reason(error)
