"""From an accelerator's scores, which are rounded or of compressed vectors, to positions that hold the true best."""

import numpy as np
from numpy.typing import NDArray

from index.accelerators.interface import FLOAT_NOISE, Accelerator
from training.model.truncation import truncate

__all__ = ["candidates"]

_SPARE = 4  # times as many candidates of compressed vectors as results


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
    """Positions of at least the k best of each query and of all that score the same as the k-th, -1 for none.

    An accelerator's scores differ in the last bits with a vector's place in memory, so which of several equal
    photos it returns is chance, and pages would overlap or miss some. Those of compressed vectors differ by more: an
    exact search takes all that the difference could bring in, another one some to spare.

    Args:
        accelerator: to ask.
        queries: ``(n, dim)``.
        k: how many are wanted, at most ``reachable``.
        dimensions: compare only so many leading coordinates.
        reachable: number of vectors that a search can find.
        effort: see ``Accelerator.search``; more where that finds fewer than are wanted.
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
