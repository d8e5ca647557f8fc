"""Search by comparing every vector, block by block: the truth that others are measured against."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from training.model.truncation import truncate

__all__ = ["compare_all"]


def compare_all(
    queries: NDArray[np.float32],
    blocks: Iterable[NDArray[np.float32]],
    k: int,
    dimensions: int,
    *,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and positions of the k best vectors a query, best first, each ``(n, k)``; -1 where there are fewer.

    Args:
        queries: ``(n, dim)``.
        blocks: all vectors in order, ``(m, dim)`` at a time.
        k: how many.
        dimensions: compare only so many leading coordinates.
        allowed: ``(vectors,)``; only these positions.
    """
    prefix = truncate(queries, dimensions)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    positions = np.full((len(queries), k), -1, np.int64)
    start = 0
    for vectors in blocks:
        stop = start + len(vectors)
        found = prefix @ truncate(vectors, dimensions).T
        if allowed is not None:
            found[:, ~allowed[start:stop]] = -np.inf
        places = np.where(np.isneginf(found), -1, np.arange(start, stop))
        scores = np.concatenate([scores, found], axis=1)
        positions = np.concatenate([positions, places], axis=1)
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, positions = np.take_along_axis(scores, best, 1), np.take_along_axis(positions, best, 1)
        start = stop
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)
