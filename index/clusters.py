"""Search over clustered vectors that is exact by proof, or as near as asked, from one copy of the vectors.

Vectors lie in clusters. By Cauchy-Schwarz on every block of coordinates, no vector x of a cluster with centre c scores
more than q.c + sum over blocks of |q_block| * (largest |x_block - c_block| of the cluster). A search scans the most
promising clusters, then those whose bound reaches the k-th score found, and no others. A query cut to its first d
coordinates has zeros after them, so the same bounds hold for every number of dimensions.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators import FLOAT_NOISE, panorama_levels, read_faiss, selector, write_faiss
from training.truncation import zero_pad

__all__ = ["CODES", "ClusteredIndex"]

CODES = {
    "ivf": None,
    "fp16": faiss.ScalarQuantizer.QT_fp16,
    "sq8": faiss.ScalarQuantizer.QT_8bit,
}
_BATCH = 16  # vectors that lie together; lists are filled up to a multiple
_FIRST = 16  # clusters that find the score to beat
_CHUNK = 1 << 14
_QUERIES = 256  # searched together
_TRAINING = 64  # vectors a centroid


class _Clusters(NamedTuple):
    """Centres ``(clusters, dim)``, radii by block and of the whole, longest vector and largest error of a code."""

    centroids: NDArray[np.float32]
    radii: NDArray[np.float32]
    radius: NDArray[np.float32]
    longest: NDArray[np.float64]
    error: NDArray[np.float64]


class ClusteredIndex:
    """Inverted lists of full vectors (pruned by FAISS's Panorama) or of compressed ones.

    Args:
        index: FAISS's lists.
        clusters: facts about them.
        originals: ``(n, dim)`` uncompressed vectors, on disk; None if the lists hold them.
    """

    def __init__(self, index: faiss.IndexIVF, clusters: _Clusters, originals: NDArray[np.float32] | None) -> None:
        self.index = index
        self.clusters = clusters
        self.originals = originals
        if originals is None:
            index.make_direct_map()

    @property
    def largest_effort(self) -> int:
        """Number of clusters."""
        return len(self.clusters.centroids)

    @property
    def error(self) -> float:
        """Largest distance of a compressed vector from its original."""
        return float(self.clusters.error)

    @classmethod
    def build(cls, kind: str, vectors: NDArray[np.float32]) -> "ClusteredIndex":
        """Clusters ``(n, dim)`` vectors, which may be memory-mapped.

        Args:
            kind: a key of ``CODES``.
            vectors: finite.
        """
        count, dim = vectors.shape
        centroids = _centroids(vectors, _number_of_clusters(count))
        quantizer = faiss.IndexFlatL2(dim)
        quantizer.add(centroids)
        index = _empty_lists(kind, quantizer, vectors)
        radii, radius = np.zeros_like(_block_norms(centroids)), np.zeros(len(centroids), np.float32)
        longest = 0.0
        for block in _blocks(vectors):
            nearest = np.ascontiguousarray(quantizer.search(block, 1)[1][:, 0])
            index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(nearest))
            from_centre = _block_norms(block - centroids[nearest])
            np.maximum.at(radii, nearest, from_centre)
            np.maximum.at(radius, nearest, np.linalg.norm(from_centre, axis=1))
            longest = max(longest, float(np.linalg.norm(block, axis=1).max()))
        compressed = CODES[kind] is not None
        error = _largest_error(index, vectors) if compressed else 0.0
        clusters = _Clusters(centroids, radii, radius, np.array(longest), np.array(error))
        return cls(index, clusters, vectors if compressed else None)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        dimensions: int,
        *,
        effort: int | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See ``Accelerator.search``; ``effort`` is the number of clusters to scan."""
        padded = zero_pad(queries, dimensions)
        parts = [
            self._search(padded[start : start + _QUERIES], k, effort, allowed)
            for start in range(0, len(padded), _QUERIES)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        if self.originals is not None:
            return np.asarray(self.originals[positions])
        values: NDArray[np.float32] = self.index.reconstruct_batch(positions)
        return values

    def write(self, folder: Path) -> None:
        """Writes the lists and the clusters; see ``write_faiss``."""
        write_faiss(self.index, folder)
        np.savez(folder / "clusters.npz", **self.clusters._asdict())

    @classmethod
    def read(cls, folder: Path, originals: NDArray[np.float32] | None) -> "ClusteredIndex":
        """Reads what ``write`` wrote."""
        with np.load(folder / "clusters.npz", allow_pickle=False) as stored:
            clusters = _Clusters(**stored)
        return cls(cast(faiss.IndexIVF, read_faiss(folder)), clusters, originals)

    def _search(
        self, queries: NDArray[np.float32], k: int, effort: int | None, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores = queries @ self.clusters.centroids.T
        if effort is not None:
            return self._scan(queries, k, scores, _best(scores, min(effort, scores.shape[1])), allowed)
        bounds = self._bounds(queries, scores)
        first = _best(bounds, min(_FIRST, scores.shape[1]))
        found = self._scan(queries, k, scores, first, allowed)
        slack = self.error * np.linalg.norm(queries, axis=1)
        wanted = bounds >= (found[0][:, -1] - slack)[:, None]
        if np.take_along_axis(wanted, first, 1).sum() == wanted.sum():
            return found
        lists = _best(np.where(wanted, bounds, -np.inf), int(wanted.sum(axis=1).max()))
        return self._scan(queries, k, scores, np.where(np.take_along_axis(wanted, lists, 1), lists, -1), allowed)

    def _bounds(self, queries: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """What no vector of a cluster exceeds, ``(queries, clusters)``, rounding included."""
        blocks = _block_norms(queries)
        norms = np.linalg.norm(blocks, axis=1)[:, None]
        spread = np.minimum(blocks @ self.clusters.radii.T, norms * self.clusters.radius)
        bounds: NDArray[np.float32] = scores + spread + FLOAT_NOISE * norms * self.clusters.longest
        return bounds

    def _scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        scores: NDArray[np.float32],
        lists: NDArray[np.int64],
        allowed: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scans ``(queries, n)`` lists in order; -1 is none."""
        lists = np.ascontiguousarray(lists)
        to_centres = np.take_along_axis(scores, np.maximum(lists, 0), 1)
        found = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        parameters = faiss.SearchParametersIVF(sel=selector(allowed), nprobe=lists.shape[1])
        self.index.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(queries),
            k,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(to_centres),
            faiss.swig_ptr(found[0]),
            faiss.swig_ptr(found[1]),
            False,
            parameters,
        )
        return found


def _number_of_clusters(count: int) -> int:
    """Twice the root, but clusters of enough vectors that filling up lists costs at most a twentieth of the memory."""
    return max(1, min(2 * math.isqrt(count), count // (10 * _BATCH)))


def _centroids(vectors: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    """K-means on a sample."""
    kmeans = faiss.Kmeans(vectors.shape[1], clusters, niter=8, seed=1, min_points_per_centroid=1)
    chosen = np.random.default_rng(1).permutation(len(vectors))[: _TRAINING * clusters]
    kmeans.train(np.ascontiguousarray(vectors[np.sort(chosen)]))
    centroids: NDArray[np.float32] = kmeans.centroids
    return centroids


def _empty_lists(kind: str, quantizer: faiss.IndexFlatL2, vectors: NDArray[np.float32]) -> faiss.IndexIVF:
    dim, clusters, code = vectors.shape[1], quantizer.ntotal, CODES[kind]
    if code is None:
        index = faiss.IndexIVFFlatPanorama(
            quantizer, dim, clusters, panorama_levels(dim), faiss.METRIC_INNER_PRODUCT, True, _BATCH
        )
        index.is_trained = True
    else:
        index = faiss.IndexIVFScalarQuantizer(quantizer, dim, clusters, code, faiss.METRIC_INNER_PRODUCT, True)
        every = max(1, len(vectors) // (_TRAINING * clusters))
        index.train(np.ascontiguousarray(vectors[::every]))
    quantizer.this.disown()
    index.own_fields = True
    return index


def _largest_error(index: faiss.IndexIVF, vectors: NDArray[np.float32]) -> float:
    """Largest distance between a vector and what its code stands for."""
    index.make_direct_map()
    largest, start = 0.0, 0
    for block in _blocks(vectors):
        decoded = index.reconstruct_n(start, len(block))
        largest = max(largest, float(np.linalg.norm(block - decoded, axis=1).max()))
        start += len(block)
    index.set_direct_map_type(faiss.DirectMap.NoMap)
    return largest


def _blocks(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(vectors), _CHUNK):
        yield np.ascontiguousarray(vectors[start : start + _CHUNK], dtype=np.float32)


def _block_norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Norm of every block of coordinates, ``(n, levels)``."""
    dim = vectors.shape[1]
    width = -(-dim // panorama_levels(dim))
    norms: NDArray[np.float32] = np.sqrt(np.add.reduceat(vectors * vectors, np.arange(0, dim, width), axis=1))
    return norms


def _best(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Columns of the largest values of every row, best first."""
    chosen = np.argpartition(-values, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(values, chosen, 1), axis=1)
    columns: NDArray[np.int64] = np.take_along_axis(chosen, order, 1)
    return columns
