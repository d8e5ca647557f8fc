"""The photos of a gallery that are most like each photo: all compared in small galleries, by FAISS in large ones."""

from collections.abc import Callable

import faiss
import numpy as np
from numpy.typing import NDArray

from training.base.row_blocks import map_rows, row_blocks
from training.model.gallery_order import SecondMoment

__all__ = ["directions", "nearest", "nearest_photos"]

_SMALL = 5_000  # photos; with more, neighbours are looked for in the nearest of many cells
_COORDINATES = 96  # principal directions that cells are made in
_CELLS = 4  # times the square root of the number of photos
_SAMPLE = 64  # photos for each cell that its centre is learned from
_PROBES = 12  # cells that are looked into

Vectors = NDArray[np.float32]
Find = Callable[[slice], NDArray[np.int64]]


def directions(embeddings: Vectors, mean: NDArray[np.floating]) -> Vectors:
    """Scales embeddings ``(n, dim)`` about their mean to unit length; one that is the mean stays zero."""
    centred: Vectors = embeddings.astype(np.float32) - mean.astype(np.float32)
    lengths: Vectors = np.linalg.norm(centred, axis=1, keepdims=True).astype(np.float32)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)


def nearest(units: Vectors, rows: slice | NDArray[np.int64], count: int) -> NDArray[np.int64]:
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


def nearest_photos(embeddings: Vectors, moment: SecondMoment, count: int) -> Find:
    """Prepares a search for the other photos with the largest cosines about the mean.

    In a gallery of more than 5,000 photos the search looks into a dozen of many cells, and finds most of the true
    neighbours; what it needs grows with the number of photos, and not with its square.

    Args:
        embeddings: of a whole gallery, ``(n, dim)``, which may be memory-mapped.
        moment: sums over them.
        count: number of neighbours of each, from 1 to ``n`` - 1.

    Returns:
        A function that finds the positions ``(rows, count)`` of the neighbours of a slice of photos, in no particular
        order; where too few were found, the position -1 stands for none.
    """
    if len(embeddings) > _SMALL:
        return _look_in_cells(embeddings, moment, count)
    units = directions(embeddings, moment.mean)
    return lambda rows: nearest(units, rows, count)


def _look_in_cells(embeddings: Vectors, moment: SecondMoment, count: int) -> Find:
    dim = embeddings.shape[1]
    axes = np.linalg.eigh(moment.about_mean)[1][:, ::-1][:, : min(_COORDINATES, dim)].astype(np.float32)

    def project(rows: slice | NDArray[np.int64]) -> Vectors:
        reduced = directions(embeddings[rows], moment.mean) @ axes
        return np.ascontiguousarray(reduced / np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-12))

    cells = int(_CELLS * len(embeddings) ** 0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(axes.shape[1]), axes.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).permutation(len(embeddings))[: _SAMPLE * cells]
    index.train(map_rows(project, np.sort(sample), axes.shape[1]))
    for rows in row_blocks(len(embeddings)):
        index.add(project(rows))
    index.nprobe = _PROBES

    def find(rows: slice) -> NDArray[np.int64]:
        found = index.search(project(rows), count + 1)[1]
        others = found != np.arange(rows.start, rows.stop)[:, None]
        last = np.argsort(~others, axis=1, kind="stable")[:, :count]  # the others in order, and the photo itself last
        positions: NDArray[np.int64] = np.take_along_axis(found, last, axis=1)
        return positions

    return find
