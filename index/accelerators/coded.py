"""Search in two steps: short codes in memory find candidates, and the vectors themselves rank them.

An approximate search takes its candidates from the shortlist of 4-bit codes. An exact search ranks a few of them to
learn a score that the k-th best reaches at least. It then asks the 8-bit codes for every vector whose upper bound
reaches this score, and ranks those. No other vector can be among the k best, for any number of dimensions.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.bounds import UpperBounds
from index.accelerators.rows import inner_products
from index.accelerators.shortlist import Shortlist
from training.base.stored_arrays import load_array
from training.model.truncation import zero_pad

__all__ = ["VECTORS", "CodedIndex"]

VECTORS = "vectors.npy"
_LARGEST_EFFORT = 1 << 14
_SAMPLE = 64  # candidates that are ranked to learn the score to reach, at least
_WIDTHS = (80, 160)  # integers of a vector; fewer are quicker, and suffice for few dimensions


class CodedIndex:
    """Two kinds of codes, and the vectors that they stand for.

    Args:
        shortlist: 4-bit codes, for candidates that are likely among the best.
        bounds: 8-bit codes of few and of more coordinates, for upper bounds of scores.
        vectors: the vectors ``(n, dim)``, in memory or memory-mapped.
    """

    error = 0.0

    def __init__(self, shortlist: Shortlist, bounds: Sequence[UpperBounds], vectors: NDArray[np.float32]) -> None:
        self.shortlist = shortlist
        self.bounds = bounds
        self.vectors = vectors
        self.largest_effort = min(len(vectors), _LARGEST_EFFORT)  # candidates

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> Self:
        """Encodes ``(n, dim)`` finite vectors, which may be memory-mapped."""
        return cls(Shortlist.build(vectors), [UpperBounds.build(vectors, width) for width in _WIDTHS], vectors)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        dimensions: int,
        *,
        effort: int | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See ``Accelerator.search``; ``effort`` is the number of candidates."""

        def search(query: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            if effort is None:
                return self._exact(query, k, dimensions, allowed)
            return self._likely(query, k, effort, allowed)

        padded = zero_pad(queries, dimensions)
        if len(padded) > 1:
            with ThreadPoolExecutor(faiss.omp_get_max_threads()) as pool:
                found = list(pool.map(search, padded))
        else:
            found = [search(query) for query in padded]
        scores, positions = (np.stack(part) for part in zip(*found, strict=True))
        return scores, positions

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        return np.asarray(self.vectors[positions])

    def write(self, folder: Path) -> None:
        """Writes the codes; the vectors are in ``VECTORS`` already."""
        self.shortlist.write(folder)
        for number, bounds in enumerate(self.bounds):
            bounds.write(folder, f"bounds{number}")

    @classmethod
    def read(cls, folder: Path, *, mapped: bool) -> Self:
        """Reads the codes that ``write`` wrote, and the vectors; those are memory-mapped if ``mapped``."""
        vectors = load_array(folder / VECTORS, mapped=mapped)
        bounds = [UpperBounds.read(folder, f"bounds{number}") for number in range(len(_WIDTHS))]
        return cls(Shortlist.read(folder), bounds, vectors)

    def _exact(
        self, query: NDArray[np.float32], k: int, dimensions: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best for one query ``(dim,)``."""
        bounds = next((some for some in self.bounds if some.leading >= dimensions), self.bounds[-1])
        if allowed is None:
            first = self.shortlist.search(query, min(max(4 * k, _SAMPLE), len(self.vectors)))
        else:
            first = bounds.best(query, min(2 * k, len(self.vectors)), allowed)
        least = self._ranked(query, first, k)[0][-1]
        return self._ranked(query, bounds.above(query, least, allowed), k)

    def _likely(
        self, query: NDArray[np.float32], k: int, effort: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best of about ``effort`` candidates that are allowed, for one query ``(dim,)``."""
        count = max(effort, k)
        if allowed is not None:
            count = count * len(allowed) // max(1, int(np.count_nonzero(allowed)))
        positions = self.shortlist.search(query, min(count, len(self.vectors)))
        return self._ranked(query, positions if allowed is None else positions[allowed[positions]], k)

    def _ranked(
        self, query: NDArray[np.float32], positions: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores the vectors at ``positions`` ``(m,)`` and keeps the k best, best first; unused places hold -1."""
        count = len(positions)
        scores = np.full(max(count, k), -np.inf, np.float32)
        scores[:count] = inner_products(query, self.vectors, positions)
        best = np.argpartition(scores, -k)[-k:]
        best = best[np.argsort(-scores[best])]
        found = np.full(k, -1, np.int64)
        found[best < count] = positions[best[best < count]]
        return scores[best], found
