"""Vectors in a catalogue: those of 16 consecutive ids share one row, its page.

A row of its own for every vector would waste up to half of the file: SQLite's pages of 4096 bytes hold one vector of
512 dimensions each. A page holds the vectors of the photos that exist, by ascending id, and ``slots`` says which these
are: bit ``id % 16`` is set if there is a vector.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from index.errors import GalleryDamaged

__all__ = ["PAGE", "discard_vectors", "one_vector", "read_vectors", "store_vectors"]

PAGE = 16  # photos; as many as ``slots`` has bits
_BATCH = 4096  # vectors in memory at once


def store_vectors(connection: sqlite3.Connection, vectors: Mapping[int, bytes]) -> None:
    """Adds or replaces vectors, given by id as bytes of ``<f4``, in the present transaction.

    Raises:
        GalleryDamaged: if a vector's size differs from that of its neighbours.
    """
    for some in _batches(vectors):
        pages = _pages(connection, some)
        for identifier in some:
            pages[identifier // PAGE][identifier % PAGE] = vectors[identifier]
        _write(connection, pages)


def discard_vectors(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Removes the vectors of those ids that have one, in the present transaction."""
    for some in _batches(ids):
        pages = _pages(connection, some)
        for identifier in some:
            pages[identifier // PAGE].pop(identifier % PAGE, None)
        _write(connection, pages)


def read_vectors(connection: sqlite3.Connection, ids: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
    """Reads the vectors ``(n, dim)`` of ids ``(n,)``, ascending.

    Raises:
        GalleryDamaged: if one is missing, has another size or is not finite.
    """
    rows = _rows(connection, np.unique(ids // PAGE).tolist())
    slots = np.array([row[1] for row in rows], "<u2")
    content = b"".join(row[2] for row in rows)
    row, slot = np.nonzero(np.unpackbits(slots.view(np.uint8).reshape(-1, 2), axis=1, bitorder="little"))
    there = np.array([row[0] for row in rows], np.int64)[row] * PAGE + slot
    if len(content) != 4 * dim * len(there):
        raise _damaged(f"a vector without {dim} dimensions")
    places = np.searchsorted(there, ids)
    if not np.isin(ids, there).all():
        raise _damaged("a photo without a vector")
    vectors = np.frombuffer(content, "<f4").reshape(len(there), dim)[places]
    if not np.isfinite(vectors).all():
        raise _damaged("a vector that is not finite")
    return vectors


def one_vector(identifier: int, slots: int, content: bytes) -> NDArray[np.float32]:
    """Takes the vector ``(dim,)`` of an id out of its page.

    Raises:
        GalleryDamaged: if it is not there.
    """
    found = _unpacked(slots, content).get(identifier % PAGE)
    if found is None:
        raise _damaged("a photo without a vector")
    return np.frombuffer(found, "<f4")


def _damaged(reason: str) -> GalleryDamaged:
    return GalleryDamaged(f"the catalogue holds {reason}; restore it from a backup or build the gallery again")


def _batches(ids: Iterable[int]) -> Iterator[list[int]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), _BATCH):
        yield ordered[start : start + _BATCH]


def _pages(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, dict[int, bytes]]:
    """Vectors by slot, by page, of all pages that the ids are in."""
    pages: dict[int, dict[int, bytes]] = {page: {} for page in sorted({i // PAGE for i in ids})}
    return pages | {page: _unpacked(slots, content) for page, slots, content in _rows(connection, list(pages))}


def _rows(connection: sqlite3.Connection, pages: list[int]) -> list[tuple[int, int, bytes]]:
    statement = "SELECT page, slots, vectors FROM vectors WHERE page IN (SELECT value FROM json_each(?)) ORDER BY page"
    return connection.execute(statement, (json.dumps(pages),)).fetchall()


def _unpacked(slots: int, content: bytes) -> dict[int, bytes]:
    there = [slot for slot in range(PAGE) if slots >> slot & 1]
    size = len(content) // max(1, len(there))
    return {slot: content[rank * size : (rank + 1) * size] for rank, slot in enumerate(there)}


def _write(connection: sqlite3.Connection, pages: Mapping[int, Mapping[int, bytes]]) -> None:
    for page, vectors in pages.items():
        if len({len(vector) for vector in vectors.values()}) > 1:
            raise _damaged("vectors of different sizes")
        if vectors:
            slots, content = sum(1 << slot for slot in vectors), b"".join(vectors[slot] for slot in sorted(vectors))
            connection.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", (page, slots, content))
        else:
            connection.execute("DELETE FROM vectors WHERE page = ?", (page,))
