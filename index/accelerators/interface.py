"""Maximum inner product search over truncatable embeddings: the interface of what does it.

A query cut to its first d coordinates is the same query with zeros after them, so one index of full vectors
serves every number of dimensions.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOAT_NOISE", "Accelerator"]

FLOAT_NOISE = 1e-5  # of the largest score or product of norms; what rounding can make of equal scores


class Accelerator(Protocol):
    """What a searcher needs.

    Attributes:
        error: largest distance of a stored vector from its original; scores are off by at most this times the norm
            of the query. 0 if nothing is compressed.
        largest_effort: the ``effort`` beyond which nothing improves; 0 if every search is exact.
    """

    @property
    def error(self) -> float: ...  # noqa: D102

    @property
    def largest_effort(self) -> int: ...  # noqa: D102

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        dimensions: int,
        *,
        effort: int | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and positions of the k best vectors a query, best first, each ``(n, k)``.

        Args:
            queries: ``(n, dim)``.
            k: how many.
            dimensions: compare only so many leading coordinates.
            effort: how much to look at; all that can matter when omitted, then the k best are the true ones but for
                ``error``.
            allowed: ``(vectors,)``; only these positions. Where there are fewer than k, -1 takes their places.
        """
        ...

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The original vectors at ``(m,)`` positions, ``(m, dim)``."""
        ...
