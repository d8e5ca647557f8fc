"""Search over clustered vectors, either exact with a proof or approximate, from one copy of the vectors.

The vectors are grouped into clusters. By the Cauchy-Schwarz inequality on every block of coordinates, no vector x of a
cluster with centre c scores more than q.c + sum over blocks of |q_block| * (largest |x_block - c_block| of the
cluster). An exact search scans the most promising clusters first, then those whose bound reaches the k-th best score
found so far, and no others. A query that is cut to its first d coordinates has zeros after them, so the same bounds
hold for every number of dimensions.

An approximate search scans the most promising clusters only. The best vector of a cluster scores more than the centre
but far less than the bound. A point a quarter of the way from the centre's score to the bound ranks clusters best, on
photos and on random vectors alike.
"""

import math
from pathlib import Path
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.clustering import LEADING, Clusters, assign, block_norms, blocks, describe
from index.accelerators.interface import FLOAT_NOISE
from index.accelerators.panorama import FaissIndex, read_faiss, selector
from training.model.truncation import truncate, zero_pad

__all__ = ["CODES", "ClusteredIndex"]

CODES = {
    "ivf": None,
    "fp16": faiss.ScalarQuantizer.QT_fp16,
    "sq8": faiss.ScalarQuantizer.QT_8bit,
}
_BATCH = 16  # vectors stored together; lists are padded to a multiple of this
_FIRST = 16  # clusters scanned first, to find the score that others must reach
_LEVEL_WIDTH = 32  # wider than in a flat index: fewer bytes per vector, and no slower
_QUERIES = 64  # searched together
_LIKELY = 0.25  # of the way from a centre's score to the bound, where the best vector is expected
_SPARE = 32  # clusters preselected by leading coordinates, beyond twice the wanted number


class ClusteredIndex(FaissIndex):
    """Inverted lists of full vectors, which FAISS's Panorama prunes, or of compressed vectors.

    Args:
        index: FAISS's inverted lists, with the centres of the clusters in the quantizer.
        clusters: facts about the clusters.
        originals: the uncompressed vectors ``(n, dim)``, on disk; None if the lists hold them.
    """

    def __init__(self, index: faiss.IndexIVF, clusters: Clusters, originals: NDArray[np.float32] | None) -> None:
        super().__init__(index)
        self.clusters = clusters
        self.error = float(clusters.error)
        self.largest_effort = index.nlist  # clusters
        self.originals = originals
        stored = faiss.downcast_index(index.quantizer).get_xb()
        self.centres: NDArray[np.float32] = faiss.rev_swig_ptr(stored, index.nlist * index.d).reshape(-1, index.d)
        self._coarse = _lists_of_clusters(_side_by_side(self.centres, _LIKELY * clusters.radii))
        if originals is None:
            index.make_direct_map()

    @classmethod
    def build(cls, kind: str, vectors: NDArray[np.float32]) -> "ClusteredIndex":
        """Clusters ``(n, dim)`` vectors, which may be memory-mapped, and builds the lists.

        Args:
            kind: one of the keys of ``CODES``.
            vectors: the vectors to index, all finite.
        """
        numbers = assign(vectors, _number_of_clusters(len(vectors)))
        centres, clusters = describe(vectors, numbers)
        index = _empty_lists(kind, centres, vectors, numbers)
        start = 0
        for block in blocks(vectors):
            some = numbers[start : start + len(block)]
            index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(some))
            start += len(block)
        if CODES[kind] is None:
            return cls(index, clusters, None)
        return cls(index, clusters._replace(error=np.array(_largest_error(index, vectors))), vectors)

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
            self._search(padded[start : start + _QUERIES], k, dimensions, effort, allowed)
            for start in range(0, len(padded), _QUERIES)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        if self.originals is not None:
            return np.asarray(self.originals[positions])
        return super().gather(positions)

    def write(self, folder: Path) -> None:
        """Writes the lists and the facts about clusters; see ``FaissIndex.write``."""
        super().write(folder)
        np.savez(folder / "clusters.npz", **self.clusters._asdict())

    @classmethod
    def read(cls, folder: Path, originals: NDArray[np.float32] | None = None) -> Self:
        """Reads an index that ``write`` wrote."""
        with np.load(folder / "clusters.npz", allow_pickle=False) as stored:
            clusters = Clusters(**stored)
        return cls(read_faiss(folder), clusters, originals)

    def _search(
        self,
        queries: NDArray[np.float32],
        k: int,
        dimensions: int,
        effort: int | None,
        allowed: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        norms = block_norms(queries)
        if effort is not None:
            return self._scan(queries, k, *self._promising(queries, norms, effort), allowed)
        scores = truncate(queries, dimensions) @ truncate(self.centres, dimensions).T
        spread = norms @ self.clusters.radii.T
        first = _best(scores + _LIKELY * spread, _FIRST)
        found = self._scan(queries, k, first, np.take_along_axis(scores, first, 1), allowed)
        whole = np.linalg.norm(norms, axis=1)[:, None]
        rounding = FLOAT_NOISE * whole * self.clusters.longest
        bounds = scores + np.minimum(spread, whole * self.clusters.radius) + rounding
        wanted = bounds >= found[0][:, -1:] - self.error * whole
        if np.take_along_axis(wanted, first, 1).sum() == wanted.sum():
            return found
        lists = _best(np.where(wanted, bounds, -np.inf), int(wanted.sum(axis=1).max()))
        lists = np.where(np.take_along_axis(wanted, lists, 1), lists, -1)  # -1 marks an unused place
        return self._scan(queries, k, lists, np.take_along_axis(scores, np.maximum(lists, 0), 1), allowed)

    def _promising(
        self, queries: NDArray[np.float32], norms: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Chooses clusters to scan, best first; returns them and the scores of their centres, ``(queries, count)``."""
        wanted = min(2 * count + _SPARE, len(self.centres))
        lists = self._coarse.nlist // 8 + -(-4 * wanted * self._coarse.nlist // len(self.centres))
        parameters = faiss.SearchParametersIVF(nprobe=lists)
        near = self._coarse.search(_side_by_side(queries, norms), wanted, params=parameters)[1]
        scores = np.matmul(self.centres[near], queries[:, :, None])[:, :, 0]
        spread = np.matmul(self.clusters.radii[near], norms[:, :, None])[:, :, 0]
        likely = np.where(near < 0, -np.inf, scores + _LIKELY * spread)  # near is -1 where too few were found
        best = np.argsort(-likely, axis=1)[:, :count]
        return np.take_along_axis(near, best, 1), np.take_along_axis(scores, best, 1)

    def _scan(
        self,
        queries: NDArray[np.float32],
        k: int,
        lists: NDArray[np.int64],
        to_centres: NDArray[np.float32],
        allowed: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scans the lists ``(queries, n)`` in order, given the scores of their centres."""
        found = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        parameters = faiss.SearchParametersIVF(sel=selector(allowed), nprobe=lists.shape[1])
        arrays = [faiss.swig_ptr(np.ascontiguousarray(one)) for one in (lists, to_centres)]
        self.index.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(queries),
            k,
            *arrays,
            faiss.swig_ptr(found[0]),
            faiss.swig_ptr(found[1]),
            False,
            parameters,
        )
        return found


def _number_of_clusters(count: int) -> int:
    """Eight times the square root of ``count``, limited so that padding costs about a fifteenth of the memory."""
    return max(1, min(8 * math.isqrt(count), 2 * count // (15 * _BATCH)))


def _empty_lists(
    kind: str, centres: NDArray[np.float32], vectors: NDArray[np.float32], numbers: NDArray[np.int64]
) -> faiss.IndexIVF:
    (clusters, dim), code = centres.shape, CODES[kind]
    quantizer = faiss.IndexFlatL2(dim)
    quantizer.add(centres)
    if code is None:
        index = faiss.IndexIVFFlatPanorama(
            quantizer, dim, clusters, -(-dim // _LEVEL_WIDTH), faiss.METRIC_INNER_PRODUCT, True, _BATCH
        )
    else:
        index = faiss.IndexIVFScalarQuantizer(quantizer, dim, clusters, code, faiss.METRIC_INNER_PRODUCT, True)
        index.sq.train(_extremes(vectors, centres, numbers))  # so that every coordinate is within the range of its code
    index.is_trained = True
    quantizer.this.disown()
    index.own_fields = True
    return index


def _extremes(
    vectors: NDArray[np.float32], centres: NDArray[np.float32], numbers: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Smallest and largest value of every coordinate of the vectors minus their centres, ``(2, dim)``."""
    extremes = np.zeros((2, vectors.shape[1]), np.float32)
    start = 0
    for block in blocks(vectors):
        from_centre = block - centres[numbers[start : start + len(block)]]
        extremes[0] = np.minimum(extremes[0], from_centre.min(axis=0))
        extremes[1] = np.maximum(extremes[1], from_centre.max(axis=0))
        start += len(block)
    return extremes


def _largest_error(index: faiss.IndexIVF, vectors: NDArray[np.float32]) -> float:
    """Largest distance between a vector and the one that its code decodes to."""
    index.make_direct_map()
    largest, start = 0.0, 0
    for block in blocks(vectors):
        decoded = index.reconstruct_n(start, len(block))
        largest = max(largest, float(np.linalg.norm(block - decoded, axis=1).max()))
        start += len(block)
    index.set_direct_map_type(faiss.DirectMap.NoMap)
    return largest


def _lists_of_clusters(rows: NDArray[np.float32]) -> faiss.IndexIVF:
    """An index over the centres, in clusters of their own, so that a search need not look at every centre."""
    lists = faiss.index_factory(
        rows.shape[1], f"IVF{min(2 * math.isqrt(len(rows)), len(rows))},Flat", faiss.METRIC_INNER_PRODUCT
    )
    lists.cp.min_points_per_centroid = 1
    lists.train(rows)
    lists.add(rows)
    return lists


def _side_by_side(vectors: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leading coordinates and norms by block, side by side; inner products of rows preselect clusters."""
    return np.concatenate([vectors[:, :LEADING], norms], axis=1)


def _best(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Columns of the ``count`` largest values of every row, best first; all columns if there are no more."""
    first = max(0, values.shape[1] - count)
    chosen = np.argpartition(values, first, axis=1)[:, first:] if first else np.indices(values.shape)[1]
    order = np.argsort(-np.take_along_axis(values, chosen, 1), axis=1)
    columns: NDArray[np.int64] = np.take_along_axis(chosen, order, 1)
    return columns
