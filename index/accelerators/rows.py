"""Rows of a large array: all of them block by block, or inner products with some of them, without copying the array."""

from collections.abc import Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

__all__ = ["blocks", "inner_products"]

_ROWS = 1 << 14


def blocks(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yields blocks of ``(n, dim)`` vectors, which may be memory-mapped."""
    for start in range(0, len(vectors), _ROWS):
        yield np.ascontiguousarray(vectors[start : start + _ROWS], dtype=np.float32)


def inner_products(
    query: NDArray[np.float32], vectors: NDArray[np.float32], positions: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Computes the inner products ``(m,)`` of a query ``(dim,)`` with vectors ``(n, dim)`` at positions ``(m,)``."""
    found = np.empty(len(positions), np.float32)
    arrays = [faiss.swig_ptr(one) for one in (found, query, vectors, positions)]
    faiss.fvec_inner_products_by_idx(*arrays, vectors.shape[1], 1, len(positions))
    return found
