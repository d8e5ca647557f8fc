"""The kinds of accelerators: which one suits a gallery, how each is built, and what each reads from disk."""

from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from index.accelerators.coded import CodedIndex
from index.accelerators.interface import Accelerator
from index.accelerators.panorama import PanoramaIndex

__all__ = ["KEEP_VECTORS", "KINDS", "Kind", "KindChoice", "WritableAccelerator", "build_kind", "read_kind"]

Kind = Literal["exact", "codes", "disk"]
KindChoice = Literal["auto", "exact", "codes", "disk"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KEEP_VECTORS = frozenset({"codes", "disk"})  # kinds that read the vectors from vectors.npy


class WritableAccelerator(Accelerator, Protocol):
    """An accelerator that can be saved to a folder."""

    def write(self, folder: Path) -> None:
        """Writes everything that ``read_kind`` needs, except ``vectors.npy``."""
        ...


def build_kind(kind: Kind, vectors: NDArray[np.float32]) -> WritableAccelerator:
    """Builds an accelerator over ``(n, dim)`` finite vectors, which may be memory-mapped."""
    return PanoramaIndex.build(vectors) if kind == "exact" else CodedIndex.build(vectors)


def read_kind(kind: Kind, folder: Path) -> WritableAccelerator:
    """Reads an accelerator. The vectors of the kind ``disk`` are memory-mapped, not loaded."""
    if kind == "exact":
        return PanoramaIndex.read(folder)
    return CodedIndex.read(folder, mapped=kind == "disk")
