"""Vectors block by block, so that a memory-mapped array is never in memory as a whole."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["blocks"]

_ROWS = 1 << 14


def blocks(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yields blocks of ``(n, dim)`` vectors."""
    for start in range(0, len(vectors), _ROWS):
        yield np.ascontiguousarray(vectors[start : start + _ROWS], dtype=np.float32)
