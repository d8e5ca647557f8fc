"""The photos of a gallery that are most like each photo: all compared in small galleries, by FAISS in large ones."""

from collections.abc import Callable, Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

from training.model.gallery_order import SecondMoment
from training.model.neighbours import directions, mix, nearest

__all__ = ["with_neighbours_blockwise"]

_SMALL = 5_000  # photos; with more, neighbours are looked for in the nearest of many cells
_COORDINATES = 96  # principal directions that cells are made in
_CELLS = 4  # times the square root of the number of photos
_SAMPLE = 64  # photos for each cell that its centre is learned from
_PROBES = 12  # cells that are looked into
_ROWS = 1024

Find = Callable[[slice], NDArray[np.int64]]


def with_neighbours_blockwise(
    vectors: NDArray[np.float32], moment: SecondMoment, count: int, strength: float
) -> Iterator[NDArray[np.float32]]:
    """Takes the neighbours into the embeddings of a gallery, block by block.

    Args:
        vectors: embeddings in the model's coordinates, ``(n, dim)``, which may be memory-mapped.
        moment: sums over them.
        count: number of neighbours of each, at least 1.
        strength: how much they count; see ``training.model.neighbours``.

    Yields:
        Embeddings, ``(rows, dim)``, in order.
    """
    there = min(count, len(vectors) - 1)
    if there < 1:
        yield np.asarray(vectors)
        return
    find = _compare_all(vectors, moment, there) if len(vectors) <= _SMALL else _look_in_cells(vectors, moment, there)
    for start in range(0, len(vectors), _ROWS):
        rows = slice(start, min(start + _ROWS, len(vectors)))
        own, positions = np.asarray(vectors[rows]), find(rows)
        others = vectors[positions.reshape(-1)].reshape(*positions.shape, -1)
        units = directions(others.reshape(-1, others.shape[-1]), moment.mean).reshape(others.shape)
        cosines = np.einsum("nd,nkd->nk", directions(own, moment.mean), units)
        cosines[positions < 0] = 0
        yield mix(own, others, cosines, count, strength)


def _compare_all(vectors: NDArray[np.float32], moment: SecondMoment, count: int) -> Find:
    units = directions(vectors, moment.mean)
    return lambda rows: nearest(units, rows, count)


def _look_in_cells(vectors: NDArray[np.float32], moment: SecondMoment, count: int) -> Find:
    """Finds most of the true neighbours; where too few are found, the position -1 stands for none."""
    dim = vectors.shape[1]
    axes = np.linalg.eigh(moment.about_mean)[1][:, ::-1][:, : min(_COORDINATES, dim)].astype(np.float32)

    def project(rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        reduced = directions(vectors[rows], moment.mean) @ axes
        return np.ascontiguousarray(reduced / np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-12))

    cells = int(_CELLS * len(vectors) ** 0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(axes.shape[1]), axes.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).permutation(len(vectors))[: _SAMPLE * cells]
    index.train(project(np.sort(sample)))
    for start in range(0, len(vectors), 1 << 14):
        index.add(project(slice(start, start + (1 << 14))))
    index.nprobe = _PROBES

    def find(rows: slice) -> NDArray[np.int64]:
        found = index.search(project(rows), count + 1)[1]
        others = found != np.arange(rows.start, rows.stop)[:, None]
        last = np.argsort(~others, axis=1, kind="stable")[:, :count]  # the others in order, and the photo itself last
        positions: NDArray[np.int64] = np.take_along_axis(found, last, axis=1)
        return positions

    return find
