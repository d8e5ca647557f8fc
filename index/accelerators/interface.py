"""The interface of accelerators.

An accelerator is a vector index over the photos of a generation. It answers maximum inner product searches at any
number of dimensions.

A query that is cut to its first d coordinates equals the same query with zeros in the other places. One index of
full vectors therefore serves every number of dimensions.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOAT_NOISE", "Accelerator"]

FLOAT_NOISE = 1e-5  # how much equal scores may differ by rounding, relative to the largest score or product of norms


class Accelerator(Protocol):
    """A vector index, as the searcher uses it.

    Attributes:
        error: the largest distance between a stored vector and its original. A score is wrong by at most this distance
            times the norm of the query. It is 0 if nothing is compressed.
        largest_effort: the ``effort`` beyond which results do not improve. It is 0 if every search is exact.
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
        """Finds the k best vectors for each query; returns scores and positions ``(n, k)``, best first.

        Args:
            queries: the queries, ``(n, dim)``.
            k: number of results for each query.
            dimensions: number of leading coordinates to compare.
            effort: how much of the index to look at, in a unit of the accelerator's own. When omitted, the search looks
                at everything that can matter, and the results are exact except for ``error``.
            allowed: ``(vectors,)``; only positions where it is True can be results. If there are fewer than k, the
                remaining places hold -1.
        """
        ...

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the original vectors ``(m, dim)`` at ``(m,)`` positions."""
        ...
