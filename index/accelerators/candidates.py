"""Candidates: positions that an accelerator finds, with enough to spare for its inexact scores.

An accelerator's scores are rounded, or belong to compressed vectors. The searcher computes the exact scores of the
candidates afterwards and keeps the best.
"""

import numpy as np
from numpy.typing import NDArray

from index.accelerators.interface import FLOAT_NOISE, Accelerator
from training.model.truncation import truncate

__all__ = ["candidates"]

_SPARE = 4  # candidates for each result where vectors are compressed


def candidates(
    accelerator: Accelerator,
    queries: NDArray[np.float32],
    k: int,
    dimensions: int,
    *,
    reachable: int,
    effort: int | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Finds positions of at least the k best vectors of each query, and of all that score the same as the k-th.

    An accelerator's scores differ in the last bits with a vector's place in memory. Which of several equal photos it
    returns is therefore arbitrary, and pages of results would overlap or miss some. Scores of compressed vectors differ
    by more: an exact search takes all vectors that the error could lift among the best, and an approximate search takes
    a few to spare. Unused places hold -1.

    Args:
        accelerator: the vector index to search.
        queries: the queries, ``(n, dim)``.
        k: number of results that are wanted, at most ``reachable``.
        dimensions: number of leading coordinates to compare.
        reachable: number of vectors that the search can find.
        effort: see ``Accelerator.search``. It is raised where it finds fewer vectors than are wanted.
        allowed: see ``Accelerator.search``.
    """
    exact = effort is None
    blurred = exact and accelerator.error > 0
    blur = 2 * accelerator.error * np.linalg.norm(truncate(queries, dimensions), axis=1) if blurred else 0
    fetch = min((k if exact or not accelerator.error else _SPARE * k) + 1, reachable)
    while True:
        scores, positions = accelerator.search(queries, fetch, dimensions, effort=effort, allowed=allowed)
        noise = blur + FLOAT_NOISE * np.maximum(np.abs(scores[:, 0]), np.abs(scores[:, k - 1]))
        exhausted = positions[:, -1] < 0
        if effort is not None and effort < accelerator.largest_effort and (positions[:, k - 1] < 0).any():
            effort *= 2
        elif fetch == reachable or (exhausted | (scores[:, k - 1] - scores[:, -1] > noise)).all():
            return positions
        else:
            fetch = min(2 * fetch, reachable)
