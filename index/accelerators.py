"""Exact maximum inner product search over truncatable embeddings, from one copy of the vectors.

A query cut to its first d coordinates is the same query with zeros after them, so one index of full vectors
serves every number of dimensions.
"""

from pathlib import Path
from typing import Protocol, cast

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from training.truncation import truncate, zero_pad

__all__ = ["Accelerator", "DimensionMajorMatrix", "PanoramaIndex", "panorama_levels"]

_LEVEL_WIDTH = 16
_MAX_SCORES = 1 << 26  # floats of one block of scores


class Accelerator(Protocol):
    """What a searcher needs."""

    def search(
        self, queries: NDArray[np.float32], k: int, dimensions: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and positions of the k best vectors a query, best first, each ``(n, k)``."""
        ...

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors at ``(m,)`` positions, ``(m, dim)``."""
        ...


def panorama_levels(dim: int) -> int:
    """Number of levels: one for every 16 coordinates."""
    return max(1, -(-dim // _LEVEL_WIDTH))


class PanoramaIndex:
    """FAISS ``IndexFlatIPPanorama``: prunes by dimension level with a Cauchy-Schwarz bound, results exact.

    Args:
        index: of full vectors.
    """

    def __init__(self, index: faiss.IndexFlatIPPanorama) -> None:
        self.index = index

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> "PanoramaIndex":
        """Indexes ``(n, dim)`` vectors.

        Raises:
            ValueError: if a vector is not finite.
        """
        if not np.isfinite(vectors).all():
            raise ValueError("vectors must be finite")
        index = faiss.IndexFlatIPPanorama(vectors.shape[1], panorama_levels(vectors.shape[1]))
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        return cls(index)

    def search(
        self, queries: NDArray[np.float32], k: int, dimensions: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See ``Accelerator.search``; ``queries`` is ``(n, dim)``."""
        if k > self.index.batch_size:  # FAISS refuses
            prefix = np.ascontiguousarray(truncate(self.vectors(), dimensions))
            compared = np.ascontiguousarray(truncate(queries, dimensions))
            scores, positions = faiss.knn(compared, prefix, k, metric=faiss.METRIC_INNER_PRODUCT)
            return scores, positions
        scores, positions = self.index.search(zero_pad(queries, dimensions), k)
        return scores, positions

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        values: NDArray[np.float32] = self.index.reconstruct_batch(positions)
        return values

    @classmethod
    def read(cls, path: Path) -> "PanoramaIndex":
        """Reads a file of ``write``."""
        return cls(cast(faiss.IndexFlatIPPanorama, faiss.read_index(str(path))))

    def write(self, path: Path) -> None:
        """Writes the index with its vectors.

        Raises:
            RuntimeError: if the file cannot be written, on a full disk for one.
        """
        faiss.write_index(self.index, str(path))

    def vectors(self) -> NDArray[np.float32]:
        """The indexed vectors, ``(n, dim)``; a copy."""
        values: NDArray[np.float32] = self.index.reconstruct_n(0, self.index.ntotal)
        return values


class DimensionMajorMatrix:
    """Vectors as a ``(dim, n)`` matrix on a device, so that any prefix of the coordinates is one contiguous block.

    Args:
        vectors: ``(n, dim)``.
        device: a GPU, as a rule.
    """

    def __init__(self, vectors: NDArray[np.float32], device: torch.device) -> None:
        self.matrix = torch.from_numpy(vectors).to(device).T.contiguous()

    def search(
        self, queries: NDArray[np.float32], k: int, dimensions: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See ``Accelerator.search``; ``queries`` is ``(n, dim)``."""
        prefix = np.ascontiguousarray(truncate(queries, dimensions))
        rows = max(1, _MAX_SCORES // max(1, self.matrix.shape[1]))
        parts = []
        for start in range(0, len(prefix), rows):
            block = torch.from_numpy(prefix[start : start + rows]).to(self.matrix.device)
            parts.append((block @ self.matrix[:dimensions]).topk(k, dim=1))
        scores = torch.cat([part.values for part in parts]).cpu().numpy()
        positions = torch.cat([part.indices for part in parts]).cpu().numpy()
        return scores, positions

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        columns = torch.from_numpy(positions).to(self.matrix.device)
        values: NDArray[np.float32] = self.matrix[:, columns].T.cpu().numpy()
        return values
