"""Embedding photos in the way that is usual: PyTorch's DataLoader with a worker process a core, in batches of 32.

    python indexing_rival.py MODEL PHOTOS DEVICE

Workers decode and resize with Pillow, and the same network embeds in single precision, with all cores. There is no
gallery: nothing is hashed, compared, or written. What it measured is printed as JSON.
"""

import json
import sys
import time
from pathlib import Path

import torch
from indexing_job import processor_seconds
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.base.machine import processors
from training.model.bundle import load_bundle
from training.model.images import image_files
from training.model.preprocessing import Preprocessing

BATCH = 32


class Photos(Dataset[Tensor]):
    """Photos by number, as tensors ``(3, size, size)``; a damaged one is black."""

    def __init__(self, files: list[Path], preprocessing: Preprocessing) -> None:
        self._files = files
        self._preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Tensor:
        size, preprocessing = self._preprocessing.size, self._preprocessing
        try:
            with Image.open(self._files[number]) as image:
                image.draft("RGB", (size, size))
                arranged = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        except OSError:
            arranged = Image.new("RGB", (size, size))
        return preprocessing.tensor(arranged)


def main(model: str, photos: str, device: str) -> None:
    """Embeds all photos, after a first batch that does not count."""
    cores = processors()
    torch.set_num_threads(cores)
    bundle = load_bundle(Path(model), device)
    files = image_files(Path(photos))

    def embed(some: list[Path]) -> None:
        loader = DataLoader(Photos(some, bundle.photo.preprocessing), BATCH, num_workers=cores)
        for batch in loader:
            bundle.encode(bundle.photo, batch)

    embed(files[:BATCH])
    started, before = time.monotonic(), processor_seconds()
    embed(files)
    passed, used = time.monotonic() - started, processor_seconds() - before
    print(json.dumps({"done": len(files), "seconds": passed, "processor": used}))


if __name__ == "__main__":
    main(*sys.argv[1:])
