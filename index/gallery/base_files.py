"""The arrays of a base, written block by block: the model's embeddings first, which become the base's vectors.

Files are written from front to back, because a memory-mapped file would crash on a full disk.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.accelerators.rows import blocks
from index.gallery.catalogue import Catalogue
from training.base.stored_arrays import load_array
from training.model.gallery_order import GalleryOrder, SecondMoment
from training.model.neighbours import gallery_strength, with_neighbours_blockwise

__all__ = ["FINGERPRINTS", "fingerprints", "take_in_neighbours", "write_embeddings", "write_vectors"]

FINGERPRINTS = "fingerprints.npy"
_EMBEDDINGS, _VECTORS, _MIXED = "embeddings.npy", "vectors.npy", "mixed.npy"


def write_embeddings(folder: Path, catalogue: Catalogue, dim: int, count: int) -> SecondMoment:
    """Writes the model's embeddings of all photos, with their ids, content keys and fingerprints.

    Returns:
        Sums over the embeddings.
    """
    ids, contents = np.empty(count, np.int64), np.empty(count, np.int64)
    prints, moment, start = np.empty(count, np.uint64), SecondMoment(dim), 0

    def read() -> Iterable[NDArray[np.float32]]:
        nonlocal start
        for block in catalogue.blocks(dim):
            rows = slice(start, start + len(block.ids))
            ids[rows], contents[rows], prints[rows] = block.ids, block.contents, fingerprints(block.vectors)
            moment.add(block.vectors)
            start = rows.stop
            yield block.vectors

    _write(folder / _EMBEDDINGS, (count, dim), read())
    for name, values in {"ids.npy": ids, "contents.npy": contents, FINGERPRINTS: prints}.items():
        np.save(folder / name, values, allow_pickle=False)
    return moment


def take_in_neighbours(folder: Path, moment: SecondMoment, count: int) -> tuple[SecondMoment, float]:
    """Takes the nearest photos into the embeddings of each; see ``training.model.neighbours``.

    Args:
        folder: with what ``write_embeddings`` wrote.
        moment: what it returned.
        count: number of neighbours.

    Returns:
        Sums over the new embeddings, and the strength that the gallery gave its neighbours. If that is 0, the
        embeddings stay as they are.
    """
    embeddings: NDArray[np.float32] = load_array(folder / _EMBEDDINGS, mapped=True)
    strength = gallery_strength(embeddings)
    if strength <= 0:
        return moment, strength
    mixed = SecondMoment(embeddings.shape[1])

    def mix() -> Iterable[NDArray[np.float32]]:
        for block in with_neighbours_blockwise(embeddings, moment, count, strength):
            mixed.add(block)
            yield block

    _write(folder / _MIXED, embeddings.shape, mix())
    (folder / _MIXED).replace(folder / _EMBEDDINGS)
    return mixed, strength


def write_vectors(folder: Path, order: GalleryOrder) -> NDArray[np.float32]:
    """Turns the embeddings into vectors in the gallery's coordinates.

    Returns:
        The vectors, ``(n, dim)``, memory-mapped.
    """
    embeddings: NDArray[np.float32] = load_array(folder / _EMBEDDINGS, mapped=True)
    _write(folder / _VECTORS, embeddings.shape, (order.photos(block) for block in blocks(embeddings)))
    (folder / _EMBEDDINGS).unlink()
    vectors: NDArray[np.float32] = load_array(folder / _VECTORS, mapped=True)
    return vectors


def fingerprints(vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
    """A number ``(n,)`` for each vector ``(n, dim)``, by which the catalogue's is known again."""
    bits = np.ascontiguousarray(vectors, dtype="<f4").view("<u4").astype(np.uint64)
    factors = np.random.default_rng(0).integers(1 << 63, size=vectors.shape[1], dtype=np.uint64) * 2 + 1
    numbers: NDArray[np.uint64] = (bits * factors).sum(axis=1, dtype=np.uint64)  # modulo 2^64
    return numbers


def _write(file: Path, shape: tuple[int, ...], parts: Iterable[NDArray[np.float32]]) -> None:
    with file.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part, dtype="<f4").tobytes())
