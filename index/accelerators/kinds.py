"""The kinds of accelerators: which there are, which one suits a gallery, and how each is built and read."""

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from index.accelerators.hnsw import GraphIndex
from index.accelerators.interface import Accelerator
from index.accelerators.ivf import ClusteredIndex
from index.accelerators.panorama import PanoramaIndex
from training.base.machine import memory_limit

__all__ = ["COMPRESSED", "Kind", "KindChoice", "WritableAccelerator", "build_kind", "choose_kind", "read_kind"]

Kind = Literal["exact", "ivf", "fp16", "sq8", "hnsw"]
KindChoice = Literal["auto", "exact", "ivf", "fp16", "sq8", "hnsw"]
COMPRESSED = frozenset({"fp16", "sq8"})  # kinds that keep the original vectors on disk, in vectors.npy

_FLAT_UP_TO = 100_000  # vectors; with fewer, clusters make an exact search no faster


class WritableAccelerator(Accelerator, Protocol):
    """An accelerator that can be saved to a folder."""

    def write(self, folder: Path) -> None:
        """Writes everything that ``read_kind`` needs."""
        ...


def choose_kind(count: int, dim: int) -> Kind:
    """Chooses a kind by size: flat, clustered, or compressed if the vectors would not fit into half of the memory."""
    if count < _FLAT_UP_TO:
        return "exact"
    return "ivf" if 4 * count * dim <= memory_limit() // 2 else "sq8"


def build_kind(kind: Kind, vectors: NDArray[np.float32]) -> WritableAccelerator:
    """Builds an accelerator over ``(n, dim)`` finite vectors, which may be memory-mapped."""
    if kind == "exact":
        return PanoramaIndex.build(vectors)
    if kind == "hnsw":
        return GraphIndex.build(vectors)
    return ClusteredIndex.build(kind, vectors)


def read_kind(kind: Kind, folder: Path) -> WritableAccelerator:
    """Reads an accelerator. Original vectors beside compressed ones are memory-mapped, not loaded."""
    if kind == "exact":
        return PanoramaIndex.read(folder)
    if kind == "hnsw":
        return GraphIndex.read(folder)
    originals = np.load(folder / "vectors.npy", mmap_mode="r") if kind in COMPRESSED else None
    return ClusteredIndex.read(folder, originals)
