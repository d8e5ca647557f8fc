"""Neighbours: each photo's embedding takes in those of the photos of the same gallery that are most like it.

    g' = (g + sum_j w_j g_j) / (1 + sum_j w_j),    w_j = (strength / k) max(0, cos(g - m, g_j - m))^2

over the k photos j with the largest cosine, where m is the mean of the gallery. What a sketch scores is then a mean
over photos that agree with each other, which is less noisy than the score of one. Scores stay inner products, so
nothing changes for a search. A photo that is like no other keeps its embedding.

The gallery itself sets the strength, by how much its photos' nearest neighbours agree. Where a photo is one of many of
its kind, its neighbours are hardly further from each other than from the photo. Where every photo shows a thing of its
own, it lies between its neighbours, which are far from each other; they would only blur it. See ``gallery_strength``.

This is database-side augmentation (Turcot and Lowe, ICCV workshops 2009) with weights by likeness (Gordo et al., IJCV
2017; Radenovic et al., TPAMI 2019), applied to the embeddings of the operator instead of unit descriptors.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.base.row_blocks import row_blocks
from training.model.gallery_order import SecondMoment
from training.model.nearest import directions, nearest, nearest_photos

__all__ = [
    "NEIGHBOURS",
    "STRENGTH",
    "gallery_strength",
    "mix",
    "separation",
    "with_neighbours",
    "with_neighbours_blockwise",
]

NEIGHBOURS = 10
STRENGTH = 5.0  # where the photo itself weighs 1, and neighbours agree
_AGREE, _DISAGREE = 1.175, 1.2  # separations up to which the strength is full, and from which it is none
_COMPARED = 5  # nearest photos that are compared with each other
_SAMPLE, _QUERIES = 10_000, 1_000  # photos that these are looked for among, and photos whose nearest are compared
_ROWS = 1024

Vectors = NDArray[np.float32]


def separation(embeddings: Vectors) -> float:
    """How far the nearest photos of a photo are from each other, relative to how far they are from the photo.

    It is the median, over photos, of the ratio of two mean squared distances between directions. Little above 1 where
    photos are among several of their kind; nearer 2 where neighbours have little in common but the photo between them.

    Args:
        embeddings: of a whole gallery, ``(n, dim)``, which may be memory-mapped. Beyond 10,000 a sample stands for it.
    """
    sample = embeddings[_spread(len(embeddings), _SAMPLE)]
    count = min(_COMPARED, len(sample) - 1)
    if count < 2:
        return 1.0
    units, rows = directions(sample, sample.mean(axis=0, dtype=np.float64)), _spread(len(sample), _QUERIES)
    own, others = units[rows], units[nearest(units, rows, count)]
    likeness = np.einsum("nd,nkd->n", own, others) / count
    among = np.square(others.sum(axis=1)).sum(axis=1) - np.square(others).sum(axis=(1, 2))
    smallest = 1e-5  # photos that are equal agree
    ratios = (1 - among / (count * (count - 1)) + smallest) / (1 - likeness + smallest)
    return float(np.median(ratios))


def gallery_strength(embeddings: Vectors) -> float:
    """The strength in a gallery; full where its neighbours agree, 0 where they do not; see ``separation``."""
    share = (_DISAGREE - separation(embeddings)) / (_DISAGREE - _AGREE)
    return STRENGTH * min(1.0, max(0.0, share))


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Positions of at most so many photos, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def mix(embeddings: Vectors, others: Vectors, cosines: Vectors, count: int, strength: float) -> Vectors:
    """Takes neighbours into embeddings, as this module's docstring says.

    Args:
        embeddings: ``(n, dim)``.
        others: embeddings of the neighbours of each, ``(n, k, dim)``.
        cosines: how much they are alike, ``(n, k)``.
        count: the k of the formula; fewer neighbours weigh less.
        strength: total weight of neighbours that are all alike.
    """
    weights = strength / count * np.square(np.maximum(cosines, 0))
    mixed: Vectors = (embeddings + np.einsum("nk,nkd->nd", weights, others)) / (1 + weights.sum(axis=1, keepdims=True))
    return mixed.astype(np.float32)


def with_neighbours(embeddings: Vectors, count: int = NEIGHBOURS, strength: float | None = None) -> Vectors:
    """Takes the neighbours into the embeddings of a whole gallery, ``(n, dim)``, that fits into memory.

    Args:
        embeddings: ``(n, dim)``.
        count: number of neighbours of each; 0 leaves the embeddings as they are.
        strength: see ``mix``; that of ``gallery_strength`` when omitted.
    """
    if count < 1 or len(embeddings) < 2:
        return embeddings
    if strength is None:
        strength = gallery_strength(embeddings)
    if strength <= 0:
        return embeddings
    moment, mixed, start = SecondMoment(embeddings.shape[1]), np.empty_like(embeddings), 0
    moment.add(embeddings)
    for block in with_neighbours_blockwise(embeddings, moment, count, strength):
        mixed[start : start + len(block)] = block
        start += len(block)
    return mixed


def with_neighbours_blockwise(
    embeddings: Vectors, moment: SecondMoment, count: int, strength: float
) -> Iterator[Vectors]:
    """Takes the neighbours into the embeddings of a gallery, block by block.

    Args:
        embeddings: in the model's coordinates, ``(n, dim)``, which may be memory-mapped.
        moment: sums over them.
        count: number of neighbours of each, at least 1.
        strength: see ``mix``.

    Yields:
        Embeddings, ``(rows, dim)``, in order.
    """
    there = min(count, len(embeddings) - 1)
    if there < 1:
        yield np.asarray(embeddings)
        return
    find = nearest_photos(embeddings, moment, there)
    for rows in row_blocks(len(embeddings), _ROWS):
        own, positions = np.asarray(embeddings[rows]), find(rows)
        others = embeddings[positions.reshape(-1)].reshape(*positions.shape, -1)
        units = directions(others.reshape(-1, others.shape[-1]), moment.mean).reshape(others.shape)
        cosines = np.einsum("nd,nkd->nk", directions(own, moment.mean), units)
        cosines[positions < 0] = 0
        yield mix(own, others, cosines, count, strength)
