"""FAISS's exact search over one flat list."""

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.brute_force import compare_all
from training.model.truncation import zero_pad

__all__ = ["PanoramaIndex", "panorama_levels", "selector"]

_LEVEL_WIDTH = 64  # narrower levels stop earlier, but cost more than they save
_CHUNK = 1 << 14
_FILE = "photos.faiss"


def panorama_levels(dim: int) -> int:
    """Number of levels of Panorama: one for every 64 coordinates."""
    return max(1, -(-dim // _LEVEL_WIDTH))


def selector(allowed: NDArray[np.bool_] | None) -> faiss.IDSelector | None:
    """Converts a mask of positions to FAISS's form."""
    return None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


class PanoramaIndex:
    """FAISS ``IndexFlatIPPanorama``: prunes level by level with a Cauchy-Schwarz bound; results are exact.

    Args:
        index: the FAISS index, which holds the vectors.
    """

    error = 0.0
    largest_effort = 0

    def __init__(self, index: faiss.IndexFlatIPPanorama) -> None:
        self.index = index

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> "PanoramaIndex":
        """Builds the index over ``(n, dim)`` finite vectors."""
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
        if k > self.index.batch_size:  # FAISS refuses more results than a batch holds
            blocks = (self.gather(positions) for positions in _ranges(self.index.ntotal))
            return compare_all(queries, blocks, k, dimensions, allowed=allowed)
        parameters = None if allowed is None else faiss.SearchParameters(sel=selector(allowed))
        scores, positions = self.index.search(zero_pad(queries, dimensions), k, params=parameters)
        return scores, positions

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        values: NDArray[np.float32] = self.index.reconstruct_batch(positions)
        return values

    def write(self, folder: Path) -> None:
        """Writes the index into a folder.

        Raises:
            RuntimeError: if the file cannot be written, for example on a full disk.
        """
        faiss.write_index(self.index, str(folder / _FILE))

    @classmethod
    def read(cls, folder: Path) -> "PanoramaIndex":
        """Reads an index that ``write`` wrote."""
        return cls(faiss.read_index(str(folder / _FILE)))


def _ranges(count: int) -> Iterator[NDArray[np.int64]]:
    return (np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
