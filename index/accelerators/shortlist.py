"""A shortlist of the likely best vectors, found by product quantization with 4-bit codes (FAISS's fast scan).

The coordinates come in order of importance. The first ones have a code each, the next ones a code for every two, and
the rest is left out. A code of a vector takes 32 bytes, and comparing all of them takes a thirtieth of the time of
comparing the vectors. What is found has to be ranked by the vectors themselves.
"""

from pathlib import Path
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.rows import blocks

__all__ = ["Shortlist"]

_SINGLES = 32  # coordinates with a code each
_PAIRS = 32  # codes of two coordinates each
_TRAINING = 4096
_ITERATIONS = 10
_FILE = "shortlist.faiss"


class Shortlist:
    """Codes of vectors.

    Args:
        codes: FAISS's index of the codes, over the leading coordinates in the places of ``_places``.
    """

    def __init__(self, codes: faiss.IndexPQFastScan) -> None:
        self.codes = codes

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> Self:
        """Trains the codes on a sample of ``(n, dim)`` finite vectors, which may be memory-mapped, and encodes all."""
        dim = vectors.shape[1]
        groups = int(_places(dim).max()) // 2 + 1
        index = faiss.IndexPQFastScan(2 * groups, groups, 4, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.niter, index.pq.cp.min_points_per_centroid = _ITERATIONS, 1
        chosen = np.random.default_rng(0).permutation(len(vectors))[:_TRAINING]
        sample = _spread(vectors[np.sort(chosen)], groups)
        index.train(np.resize(sample, (max(len(sample), index.pq.ksub), 2 * groups)))  # FAISS wants one for each code
        for block in blocks(vectors):
            index.add(_spread(block, groups))
        return cls(index)

    def search(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Finds vectors that are likely the best for a query ``(dim,)``; returns at most ``count`` positions."""
        if count >= self.codes.ntotal:  # FAISS would leave out those with the smallest score that it can represent
            return np.arange(self.codes.ntotal)
        positions: NDArray[np.int64] = self.codes.search(_spread(query[None], self.codes.pq.M), count)[1][0]
        return positions[positions >= 0]

    def write(self, folder: Path) -> None:
        """Writes the codes into a folder.

        Raises:
            RuntimeError: if the file cannot be written, for example on a full disk.
        """
        faiss.write_index(self.codes, str(folder / _FILE))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the codes that ``write`` wrote."""
        return cls(faiss.read_index(str(folder / _FILE)))


def _places(dim: int) -> NDArray[np.int64]:
    """Places of the leading coordinates among pairs of places, each of which has one code."""
    singles = min(_SINGLES, dim)
    pairs = min(2 * _PAIRS, dim - singles)
    return np.concatenate([2 * np.arange(singles), 2 * singles + np.arange(pairs)])


def _spread(vectors: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """Puts the leading coordinates of ``(n, dim)`` vectors into their places; the others are zero."""
    places = _places(vectors.shape[1])
    spread = np.zeros((len(vectors), 2 * groups), np.float32)
    spread[:, places] = vectors[:, : len(places)]
    return spread
