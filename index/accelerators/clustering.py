"""Clusters of vectors: which cluster each vector belongs to, and how far it lies from the cluster's centre.

Coordinates come in order of importance, so k-means looks at the leading ones only. It works on two levels: it finds
groups first, and then clusters within each group. This costs a small part of k-means on whole vectors and finds
clusters that are as good.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.panorama import panorama_levels

__all__ = ["LEADING", "Clusters", "assign", "block_norms", "blocks", "describe"]

LEADING = 64  # leading coordinates by which clusters are found
_TRAINING = 32  # training vectors for each centroid
_ITERATIONS = 5
_CHUNK = 1 << 14


class Clusters(NamedTuple):
    """Facts about clusters that bound the scores of their vectors.

    Attributes:
        radii: ``(clusters, levels)``, the largest norm of each block of coordinates of a vector minus its centre.
        radius: ``(clusters,)``, the same for whole vectors.
        longest: the largest norm of a vector.
        error: the largest distance between a compressed vector and its original.
    """

    radii: NDArray[np.float32]
    radius: NDArray[np.float32]
    longest: NDArray[np.float32]
    error: NDArray[np.float32]


def assign(vectors: NDArray[np.float32], clusters: int) -> NDArray[np.int64]:
    """Assigns ``(n, dim)`` vectors to at most ``clusters`` clusters, none empty; returns their numbers, ``(n,)``."""
    chosen = np.random.default_rng(1).permutation(len(vectors))[: _TRAINING * clusters]
    sample = _leading(vectors[:, :LEADING][np.sort(chosen)])
    groups = _kmeans(sample, math.isqrt(clusters))
    centres = []
    for members in _members(_nearest(groups, sample), len(groups)):
        share = round(clusters * len(members) / len(sample))
        centres.append(_kmeans(sample[members], max(1, min(share, len(members)))) if len(members) else groups[:0])
    firsts = np.cumsum([0, *(len(some) for some in centres)])
    found = np.empty(len(vectors), np.int64)
    start = 0
    for block in blocks(vectors):
        leading = _leading(block)
        for group, members in enumerate(_members(_nearest(groups, leading), len(groups))):
            if len(members):
                found[start + members] = firsts[group] + _nearest(centres[group], leading[members])
        start += len(block)
    numbers: NDArray[np.int64] = np.unique(found, return_inverse=True)[1]
    return numbers


def describe(vectors: NDArray[np.float32], numbers: NDArray[np.int64]) -> tuple[NDArray[np.float32], Clusters]:
    """Computes the centres ``(clusters, dim)`` and facts of clusters, from vectors ``(n, dim)`` and their numbers."""
    sizes = np.bincount(numbers).astype(np.float32)[:, None]
    centres = np.zeros((len(sizes), vectors.shape[1]), np.float32)
    for block, some in _with_numbers(vectors, numbers):
        _reduce(np.add, centres, some, block)
    centres /= sizes
    radii = np.zeros_like(block_norms(centres))
    radius, longest = np.zeros(len(sizes), np.float32), np.float32(0)
    for block, some in _with_numbers(vectors, numbers):
        from_centre = block_norms(block - centres[some])
        _reduce(np.maximum, radii, some, from_centre)
        _reduce(np.maximum, radius, some, np.linalg.norm(from_centre, axis=1))
        longest = max(longest, np.linalg.norm(block, axis=1).max())
    return centres, Clusters(radii, radius, np.array(longest), np.array(0, np.float32))


def blocks(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yields blocks of ``(n, dim)`` vectors, which may be memory-mapped."""
    for start in range(0, len(vectors), _CHUNK):
        yield np.ascontiguousarray(vectors[start : start + _CHUNK], dtype=np.float32)


def block_norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Computes the norm of every block of coordinates, ``(n, levels)``."""
    dim = vectors.shape[1]
    width = -(-dim // panorama_levels(dim))
    norms: NDArray[np.float32] = np.sqrt(np.add.reduceat(vectors * vectors, np.arange(0, dim, width), axis=1))
    return norms


def _with_numbers(
    vectors: NDArray[np.float32], numbers: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yields blocks of vectors with their cluster numbers, sorted by cluster."""
    start = 0
    for block in blocks(vectors):
        some = numbers[start : start + len(block)]
        order = np.argsort(some, kind="stable")
        yield block[order], some[order]
        start += len(block)


def _reduce(by: np.ufunc, into: NDArray[np.float32], numbers: NDArray[np.int64], values: NDArray[np.float32]) -> None:
    """Reduces the values of each cluster, given in order of cluster, into the cluster's row."""
    clusters, starts = np.unique(numbers, return_index=True)
    into[clusters] = by(into[clusters], by.reduceat(values, starts, axis=0))


def _leading(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(vectors[:, :LEADING], dtype=np.float32)


def _members(numbers: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Positions of the members of each of ``count`` clusters."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.searchsorted(numbers[order], np.arange(1, count)))


def _kmeans(vectors: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    kmeans = faiss.Kmeans(vectors.shape[1], clusters, niter=_ITERATIONS, seed=1, min_points_per_centroid=1)
    kmeans.train(vectors)
    centroids: NDArray[np.float32] = kmeans.centroids
    return centroids


def _nearest(centres: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    nearest: NDArray[np.int64] = faiss.knn(vectors, centres, 1)[1][:, 0]
    return nearest
