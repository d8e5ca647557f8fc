"""Vectors to search (random, or resampled from a gallery), and embeddings of sketches."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.gallery.generations import load_generation
from measurements.command import BenchmarkError
from training.model.bundle import load_bundle
from training.model.images import IMAGE_SUFFIXES, open_image

__all__ = ["Stored", "Vectors", "image_files", "random_vectors", "resampled", "stored_vectors"]

Vectors = NDArray[np.float32]

_BLOCK = 1 << 16


class Stored(NamedTuple):
    """Vectors ``(photos, dim)`` and embeddings of sketches ``(queries, dim)``, in the gallery's coordinates."""

    vectors: Vectors
    queries: Vectors


def image_files(folder: Path) -> list[Path]:
    """Image files below a folder, sorted."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise BenchmarkError(f"{folder} holds no pictures")
    return files


def random_vectors(count: int, random: np.random.Generator, dim: int) -> Vectors:
    """Random vectors ``(count, dim)`` whose coordinates decrease like 1 / sqrt(mode)."""
    decay = np.sqrt(np.arange(1, dim + 1, dtype=np.float32))
    return random.standard_normal((count, dim), dtype=np.float32) / decay


def resampled(vectors: Vectors, count: int, random: np.random.Generator, noise: float) -> Vectors:
    """Draws ``count`` of the vectors with replacement, and moves each by ``noise`` standard deviations."""
    scale = noise * vectors.std(axis=0)
    found = np.empty((count, vectors.shape[1]), np.float32)
    for block in _blocks(found):
        block[:] = vectors[random.integers(len(vectors), size=len(block))]
        block += scale * random.standard_normal(block.shape, dtype=np.float32)
    return found


def _blocks(vectors: Vectors) -> Iterator[Vectors]:
    return (vectors[start : start + _BLOCK] for start in range(0, len(vectors), _BLOCK))


def stored_vectors(gallery: Path, sketches: Path, count: int, dim: int, random: np.random.Generator) -> Stored:
    """Loads a gallery's vectors and embeds at most ``count`` sketches of a folder, cut to ``dim`` coordinates."""
    generation = load_generation(gallery)
    vectors = np.concatenate([vectors for _, vectors in generation.blocks()])[:, :dim]
    files = image_files(sketches)
    chosen = random.choice(len(files), min(count, len(files)), replace=False)
    embeddings = load_bundle(gallery / "model", "cpu").encode_sketches([open_image(files[i]) for i in chosen])
    return Stored(vectors, np.ascontiguousarray(generation.order.apply(embeddings)[:, :dim]))
