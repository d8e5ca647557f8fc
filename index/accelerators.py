"""Maximum inner product search over truncatable embeddings: the interface, and exact search on CPU and GPU.

A query cut to its first d coordinates is the same query with zeros after them, so one index of full vectors
serves every number of dimensions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from index.brute_force import compare_all
from training.truncation import truncate, zero_pad

__all__ = [
    "FLOAT_NOISE",
    "Accelerator",
    "DimensionMajorMatrix",
    "PanoramaIndex",
    "panorama_levels",
    "read_faiss",
    "selector",
    "write_faiss",
]

FLOAT_NOISE = 1e-5  # of the largest score or product of norms; what rounding can make of equal scores

_LEVEL_WIDTH = 16
_CHUNK = 1 << 14
_MAX_SCORES = 1 << 26  # floats of one block of scores


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


def panorama_levels(dim: int) -> int:
    """Number of levels: one for every 16 coordinates."""
    return max(1, -(-dim // _LEVEL_WIDTH))


def selector(allowed: NDArray[np.bool_] | None) -> faiss.IDSelector | None:
    """FAISS's form of a mask of positions."""
    return None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def write_faiss(index: faiss.Index, folder: Path) -> None:
    """Writes an index into the folder of a base.

    Raises:
        RuntimeError: if the file cannot be written, on a full disk for one.
    """
    faiss.write_index(index, str(folder / "photos.faiss"))


def read_faiss(folder: Path) -> faiss.Index:
    """Reads what ``write_faiss`` wrote."""
    return faiss.read_index(str(folder / "photos.faiss"))


class PanoramaIndex:
    """FAISS ``IndexFlatIPPanorama``: prunes by dimension level with a Cauchy-Schwarz bound, results exact.

    Args:
        index: of full vectors.
    """

    error = 0.0
    largest_effort = 0

    def __init__(self, index: faiss.IndexFlatIPPanorama) -> None:
        self.index = index

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

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        values: NDArray[np.float32] = self.index.reconstruct_batch(positions)
        return values

    def write(self, folder: Path) -> None:
        """Writes the index with its vectors; see ``write_faiss``."""
        write_faiss(self.index, folder)

    @classmethod
    def read(cls, folder: Path) -> "PanoramaIndex":
        """Reads what ``write`` wrote."""
        return cls(cast(faiss.IndexFlatIPPanorama, read_faiss(folder)))


class DimensionMajorMatrix:
    """Vectors as a ``(dim, n)`` matrix on a device, so that any prefix of the coordinates is one contiguous block.

    Args:
        vectors: ``(n, dim)``.
        device: a GPU, as a rule.
        half: keep 16 bits a coordinate on the device; ``vectors`` stay on the host for exact scores.
    """

    largest_effort = 0

    def __init__(self, vectors: NDArray[np.float32], device: torch.device, *, half: bool = False) -> None:
        self.originals = vectors if half else None
        rounded = vectors.astype(np.float16) if half else vectors
        self.error = _half_error(vectors, rounded) if half else 0.0
        self.matrix = torch.from_numpy(rounded).to(device).T.contiguous()

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
        prefix = np.ascontiguousarray(truncate(queries, dimensions))
        rows = max(1, _MAX_SCORES // max(1, self.matrix.shape[1]))
        mask = None if allowed is None else torch.from_numpy(~allowed).to(self.matrix.device)
        parts = []
        for start in range(0, len(prefix), rows):
            scores = self._scores(torch.from_numpy(prefix[start : start + rows]), dimensions)
            parts.append((scores if mask is None else scores.masked_fill(mask, -torch.inf)).topk(k, dim=1))
        scores = torch.cat([part.values for part in parts])
        positions = torch.cat([part.indices for part in parts]).masked_fill(scores.isneginf(), -1)
        return scores.cpu().numpy(), positions.cpu().numpy()

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        if self.originals is not None:
            return self.originals[positions]
        columns = torch.from_numpy(positions).to(self.matrix.device)
        values: NDArray[np.float32] = self.matrix[:, columns].T.cpu().numpy()
        return values

    def _scores(self, queries: torch.Tensor, dimensions: int) -> torch.Tensor:
        matrix = self.matrix[:dimensions]
        return (queries.to(matrix) @ matrix).float()


def _ranges(count: int) -> Iterator[NDArray[np.int64]]:
    return (np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))


def _half_error(vectors: NDArray[np.float32], rounded: NDArray[np.floating]) -> float:
    """What rounding vectors, a query and scores to 16 bits adds up to, for a query of norm 1."""
    longest = np.linalg.norm(vectors, axis=1).max()
    return float(np.linalg.norm(vectors - rounded, axis=1).max() + 2.0**-10 * longest)
