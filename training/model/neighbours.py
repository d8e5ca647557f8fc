"""Neighbours: each photo's embedding takes in those of the photos of the same gallery that are most like it.

    g' = (g + sum_j w_j g_j) / (1 + sum_j w_j),    w_j = (strength / k) max(0, cos(g - m, g_j - m))

over the k photos j with the largest cosine, where m is the mean of the gallery. What a sketch scores is then a mean
over photos that agree with each other, which is less noisy than the score of one. Scores stay inner products, so
nothing changes for a search. A photo that is like no other keeps its embedding.

This is database-side augmentation (Turcot and Lowe, ICCV workshops 2009) with weights by likeness (Gordo et al., IJCV
2017), applied to the embeddings of the operator instead of unit descriptors.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEIGHBOURS", "STRENGTH", "directions", "mix", "nearest", "with_neighbours"]

NEIGHBOURS = 10
STRENGTH = 2.0  # where the photo itself weighs 1
_ROWS = 1024

Vectors = NDArray[np.float32]


def directions(embeddings: Vectors, mean: NDArray[np.floating]) -> Vectors:
    """Scales embeddings ``(n, dim)`` about their mean to unit length; one that is the mean stays zero."""
    centred: Vectors = embeddings.astype(np.float32) - mean.astype(np.float32)
    lengths: Vectors = np.linalg.norm(centred, axis=1, keepdims=True).astype(np.float32)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)


def nearest(units: Vectors, rows: slice, count: int) -> NDArray[np.int64]:
    """Finds the other photos with the largest cosines, by comparing all.

    Args:
        units: directions of all photos, ``(n, dim)``.
        rows: of the photos whose neighbours are wanted.
        count: number of neighbours, less than ``n``.

    Returns:
        Positions ``(rows, count)``, in no particular order.
    """
    cosines = units[rows] @ units.T
    own = np.arange(len(units))[rows]
    cosines[np.arange(len(own)), own] = -np.inf
    found: NDArray[np.int64] = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    return found


def mix(embeddings: Vectors, others: Vectors, cosines: Vectors, count: int, strength: float = STRENGTH) -> Vectors:
    """Takes neighbours into embeddings, as this module's docstring says.

    Args:
        embeddings: ``(n, dim)``.
        others: embeddings of the neighbours of each, ``(n, k, dim)``.
        cosines: how much they are alike, ``(n, k)``.
        count: the k of the formula; fewer neighbours weigh less.
        strength: total weight of neighbours that are all alike.
    """
    weights = strength / count * np.maximum(cosines, 0)
    mixed: Vectors = (embeddings + np.einsum("nk,nkd->nd", weights, others)) / (1 + weights.sum(axis=1, keepdims=True))
    return mixed.astype(np.float32)


def with_neighbours(embeddings: Vectors, count: int = NEIGHBOURS, strength: float = STRENGTH) -> Vectors:
    """Takes the neighbours into the embeddings of a whole gallery, ``(n, dim)``, that fits into memory.

    Args:
        embeddings: ``(n, dim)``.
        count: number of neighbours of each; 0 leaves the embeddings as they are.
        strength: see ``mix``.
    """
    if not (there := min(count, len(embeddings) - 1)) > 0:
        return embeddings
    units, mixed = directions(embeddings, embeddings.mean(axis=0, dtype=np.float64)), np.empty_like(embeddings)
    for start in range(0, len(embeddings), _ROWS):
        rows = slice(start, start + _ROWS)
        positions = nearest(units, rows, there)
        cosines = np.einsum("nd,nkd->nk", units[rows], units[positions])
        mixed[rows] = mix(embeddings[rows], embeddings[positions], cosines, count, strength)
    return mixed
