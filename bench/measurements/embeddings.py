"""Embeddings of photos, of random parts of them and of sketches, in a file."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from measurements.command import BenchmarkError
from measurements.vectors import image_files
from training.model.bundle import load_bundle
from training.model.images import open_image
from training.model.starter import STARTER_MODEL

__all__ = ["Embeddings", "embed", "read_embeddings"]

SHARE = (0.06, 0.6)  # of a photo's area that a part has
STRETCH = 0.4  # logarithm of how much wider or higher than the photo a part is
BATCH = 32


class Embeddings(NamedTuple):
    """What the file holds, in the model's coordinates.

    Attributes:
        photos: embeddings of photos and their parts, ``(n, dim)``.
        source: number of the photo that each is a part of, ``(n,)``; the whole photo comes first.
        sketches: embeddings of sketches, ``(m, dim)``.
        spectrum: the model's spectrum, ``(dim,)``.
    """

    photos: NDArray[np.float32]
    source: NDArray[np.int64]
    sketches: NDArray[np.float32]
    spectrum: NDArray[np.float64]


def read_embeddings(file: Path) -> Embeddings:
    """Reads a file that ``embed`` wrote."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return Embeddings(**stored)
    except (OSError, ValueError, TypeError) as error:
        raise BenchmarkError(f"{file} cannot be read as embeddings; write it with bench/embeddings.py") from error


def embed(options: Namespace) -> None:
    """Embeds everything and writes the file."""
    bundle = load_bundle(options.model or STARTER_MODEL, "auto")
    files = [file for folder in options.photos for file in image_files(folder)]
    photos, source = [], []
    for number, file in enumerate(tqdm(files, unit="photo")):
        pictures = [*_with_parts(open_image(file), options.parts, np.random.default_rng(number))]
        photos += [bundle.encode_photos(some) for some in _batches(pictures)]
        source += [number] * len(pictures)
    drawn = image_files(options.sketches)
    sketches = [bundle.encode_sketches([open_image(file) for file in some]) for some in _batches(drawn)]
    found = Embeddings(np.concatenate(photos), np.array(source), np.concatenate(sketches), np.array(bundle.spectrum))
    np.savez(options.out, **found._asdict())
    print(f"{len(found.photos)} photos and parts, {len(found.sketches)} sketches in {options.out}")


def _with_parts(photo: Image.Image, count: int, random: np.random.Generator) -> Iterator[Image.Image]:
    """Yields a photo and ``count`` random rectangles of it."""
    yield photo
    for _ in range(count):
        size = np.sqrt(random.uniform(*SHARE) * np.exp(random.uniform(-STRETCH, STRETCH) * np.array([1, -1])))
        width, height = np.maximum(1, np.minimum(1, size) * photo.size).astype(int).tolist()
        left, top = (int(random.integers(room + 1)) for room in (photo.width - width, photo.height - height))
        yield photo.crop((left, top, left + width, top + height))


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
