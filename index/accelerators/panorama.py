"""FAISS's own indexes as accelerators, and its exact search over one flat list."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.brute_force import compare_all
from training.model.truncation import zero_pad

__all__ = ["FaissIndex", "PanoramaIndex", "panorama_levels", "read_faiss", "selector"]

_LEVEL_WIDTH = 16
_CHUNK = 1 << 14
_FILE = "photos.faiss"


def panorama_levels(dim: int) -> int:
    """Number of levels: one for every 16 coordinates."""
    return max(1, -(-dim // _LEVEL_WIDTH))


def selector(allowed: NDArray[np.bool_] | None) -> faiss.IDSelector | None:
    """FAISS's form of a mask of positions."""
    return None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def read_faiss(folder: Path) -> faiss.Index:
    """Reads what ``FaissIndex.write`` wrote."""
    return faiss.read_index(str(folder / _FILE))


class FaissIndex:
    """What accelerators that FAISS keeps have in common, by default one with the original vectors.

    Args:
        index: FAISS's.
    """

    error = 0.0
    largest_effort = 0

    def __init__(self, index: faiss.Index) -> None:
        self.index = index

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        values: NDArray[np.float32] = self.index.reconstruct_batch(positions)
        return values

    def write(self, folder: Path) -> None:
        """Writes the index into the folder of a base.

        Raises:
            RuntimeError: if the file cannot be written, on a full disk for one.
        """
        faiss.write_index(self.index, str(folder / _FILE))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads what ``write`` wrote."""
        return cls(read_faiss(folder))


class PanoramaIndex(FaissIndex):
    """FAISS ``IndexFlatIPPanorama``: prunes by dimension level with a Cauchy-Schwarz bound, results exact."""

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> "PanoramaIndex":
        """Indexes ``(n, dim)`` finite vectors."""
        index = faiss.IndexFlatIPPanorama(vectors.shape[1], panorama_levels(vectors.shape[1]))
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
        """See ``Accelerator.search``."""
        if k > self.index.batch_size:  # FAISS refuses
            blocks = (self.gather(positions) for positions in _ranges(self.index.ntotal))
            return compare_all(queries, blocks, k, dimensions, allowed=allowed)
        parameters = None if allowed is None else faiss.SearchParameters(sel=selector(allowed))
        scores, positions = self.index.search(zero_pad(queries, dimensions), k, params=parameters)
        return scores, positions


def _ranges(count: int) -> Iterator[NDArray[np.int64]]:
    return (np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
