"""Exact search that compares a query with every vector, block by block. Other searches are measured against it."""

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
    """Finds the k best vectors for each query by comparing all of them; returns scores and positions, ``(n, k)``.

    Results come best first. Unused places hold -1.

    Args:
        queries: the queries, ``(n, dim)``.
        blocks: all vectors in order of position, as blocks ``(m, dim)``.
        k: number of results for each query.
        dimensions: number of leading coordinates to compare.
        allowed: ``(vectors,)``; only positions where it is True can be results. All can when omitted.
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
