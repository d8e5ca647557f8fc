"""Approximate search by walking a graph of neighbours: FAISS's HNSW over the uncompressed vectors."""

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.panorama import FaissIndex, selector
from training.model.truncation import zero_pad

__all__ = ["GraphIndex"]

_LINKS = 16  # neighbours of a vector; the bottom level has twice as many, 128 bytes
_BUILD_EFFORT = 100
_LARGEST_EFFORT = 2048


class GraphIndex(FaissIndex):
    """FAISS ``IndexHNSWFlat``. A search without an ``effort`` compares every vector and is exact.

    Args:
        index: FAISS's graph over the uncompressed vectors.
    """

    largest_effort = _LARGEST_EFFORT

    def __init__(self, index: faiss.IndexHNSWFlat) -> None:
        super().__init__(index)
        self.flat: faiss.IndexFlat = faiss.downcast_index(index.storage)

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> "GraphIndex":
        """Builds the graph over ``(n, dim)`` finite vectors."""
        index = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BUILD_EFFORT
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        return cls(index)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        dimensions: int,
        *,
        effort: int | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See ``Accelerator.search``; ``effort`` is HNSW's ``efSearch``."""
        padded, chosen = zero_pad(queries, dimensions), selector(allowed)
        if effort is None:
            scores, positions = self.flat.search(padded, k, params=faiss.SearchParameters(sel=chosen))
        else:
            parameters = faiss.SearchParametersHNSW(sel=chosen, efSearch=max(effort, k))
            scores, positions = self.index.search(padded, k, params=parameters)
        return scores, positions
