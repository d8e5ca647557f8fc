"""Vectors to search that are made up: random ones, and near copies of real ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from measurements.command import BenchmarkError
from training.model.images import IMAGE_SUFFIXES

__all__ = ["Vectors", "image_files", "near_copies", "random_vectors"]

Vectors = NDArray[np.float32]

_BLOCK = 1 << 16


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


def near_copies(vectors: Vectors, count: int, random: np.random.Generator, noise: float) -> Vectors:
    """Draws ``count`` of the vectors with replacement, and moves each by ``noise`` standard deviations."""
    scale = noise * vectors.std(axis=0)
    found = np.empty((count, vectors.shape[1]), np.float32)
    for block in _blocks(found):
        block[:] = vectors[random.integers(len(vectors), size=len(block))]
        block += scale * random.standard_normal(block.shape, dtype=np.float32)
    return found


def _blocks(vectors: Vectors) -> Iterator[Vectors]:
    return (vectors[start : start + _BLOCK] for start in range(0, len(vectors), _BLOCK))
