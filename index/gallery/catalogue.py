"""The catalogue of a gallery: one SQLite file with the vector and the facts of every photo.

It is the source of truth; everything else in a gallery but the model can be rebuilt from it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import GalleryDamaged, GalleryError
from index.gallery.database import Database
from index.gallery.filters import filter_condition
from index.gallery.uris import is_text

__all__ = ["Block", "Catalogue", "KnownContent", "NewPhoto", "Photo", "PhotoState", "content_key"]

_COUNT_REVISION = (
    "INSERT INTO facts VALUES ('revision', '1') ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
)
_COLUMNS = "id, uri, sha256, bytes, width, height, label, metadata"
_CHUNK = 500  # bound variables in one statement
_BLOCK = 4096  # vectors read at once


class Photo(NamedTuple):
    """One photo of a gallery. ``bytes`` is the size of its file; ``width`` and ``height`` are in pixels."""

    id: int
    uri: str
    sha256: str
    bytes: int
    width: int
    height: int
    label: str | None
    metadata: dict[str, Any]


class NewPhoto(NamedTuple):
    """A photo to add. ``modified`` is its file's modification time in nanoseconds, or None if there is none."""

    uri: str
    sha256: str
    bytes: int
    modified: int | None
    width: int
    height: int
    label: str | None
    metadata: dict[str, Any]
    vector: NDArray[np.float32]


class PhotoState(NamedTuple):
    """Facts that show whether a file has changed since it was indexed."""

    sha256: str
    bytes: int
    modified: int | None


class KnownContent(NamedTuple):
    """Facts that depend on a photo's bytes alone; ``width`` and ``height`` are in pixels, ``vector`` is ``(dim,)``."""

    width: int
    height: int
    vector: NDArray[np.float32]


class Block(NamedTuple):
    """Photos by ascending id: ids ``(n,)``, content keys ``(n,)`` and vectors ``(n, dim)``.

    Identical files have the same content key.
    """

    ids: NDArray[np.int64]
    contents: NDArray[np.int64]
    vectors: NDArray[np.float32]


def content_key(sha256: str) -> int:
    """Returns a number that stands for a photo's bytes: the first 60 bits of their SHA-256, given in hexadecimal."""
    return int(sha256[:15], 16)


class Catalogue:
    """Access to a catalogue file. One object may be used from many threads.

    Args:
        path: the SQLite file.
        create: create the file if it is missing, and allow writing.

    Raises:
        GalleryDamaged: if the file is missing or unreadable, is not a catalogue, or is of an earlier version.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self._database = Database(path, create=create)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def fact(self, name: str) -> str | None:
        """Returns a fact about the gallery, such as the digest of its model, or None if it is not recorded."""
        rows = self._database.query("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def set_facts(self, facts: Mapping[str, str]) -> None:
        """Stores facts in one transaction: all of them or none."""
        self._database.write(("INSERT OR REPLACE INTO facts VALUES (?, ?)", list(facts.items())))

    @property
    def revision(self) -> int:
        """A number that grows with every change of the photos."""
        return int(self.fact("revision") or 0)

    def count(self) -> int:
        """Number of photos."""
        return int(self._database.query("SELECT count(*) FROM photos")[0][0])

    def add(self, photos: Sequence[NewPhoto]) -> None:
        """Adds photos in one durable transaction. A photo whose URI is known already is replaced and keeps its id."""
        rows = [
            (*photo[:7], json.dumps(photo.metadata), np.ascontiguousarray(photo.vector, dtype="<f4").tobytes())
            for photo in photos
        ]
        names = "uri, sha256, bytes, modified, width, height, label, metadata, vector, revision"
        updates = ", ".join(f"{name} = excluded.{name}" for name in names.split(", ")[1:])
        revision = "(SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'revision')"
        statement = (
            f"INSERT INTO photos ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {revision}) "
            f"ON CONFLICT (uri) DO UPDATE SET {updates}"
        )
        self._database.write((_COUNT_REVISION, [()]), (statement, rows))

    def remove(self, ids: Sequence[int]) -> int:
        """Removes photos by id and returns how many of them existed."""
        rows = [(identifier,) for identifier in ids]
        return self._database.write((_COUNT_REVISION, [()]), ("DELETE FROM photos WHERE id = ?", rows))

    def has_others(self, ids: Sequence[int]) -> bool:
        """Tells whether the catalogue holds a photo besides these."""
        statement = "SELECT EXISTS (SELECT 1 FROM photos WHERE id NOT IN (SELECT value FROM json_each(?)))"
        return bool(self._database.query(statement, (json.dumps(list(ids)),))[0][0])

    def rename(self, uris: Mapping[int, str]) -> None:
        """Gives photos new URIs, except where another photo has that URI already."""
        rows = [(uri, identifier) for identifier, uri in uris.items()]
        self._database.write(("UPDATE OR IGNORE photos SET uri = ? WHERE id = ?", rows))

    def compact(self) -> None:
        """Shrinks the file by the space that removed photos took."""
        self._database.compact()

    def back_up(self, path: Path) -> None:
        """Copies the catalogue in its present state to a new file, while others may write to it."""
        self._database.back_up(path)

    def states(self, uris: Iterable[str]) -> dict[str, PhotoState]:
        """Returns the recorded state of those URIs that the catalogue holds."""
        found: dict[str, PhotoState] = {}
        for chunk in _chunks(list(filter(is_text, uris))):
            marks = ", ".join("?" * len(chunk))
            statement = f"SELECT uri, sha256, bytes, modified FROM photos WHERE uri IN ({marks})"
            found |= {row[0]: PhotoState(*row[1:]) for row in self._database.query(statement, chunk)}
        return found

    def uris(self) -> dict[str, int]:
        """Returns the id of every URI."""
        return dict(self._database.query("SELECT uri, id FROM photos"))

    def revisions(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the ids ``(n,)`` of all photos, ascending, and the revision in which each changed last."""
        rows = np.array(self._database.query("SELECT id, revision FROM photos ORDER BY id"), dtype=np.int64).reshape(
            -1, 2
        )
        return rows[:, 0], rows[:, 1]

    def select(self, wanted: Mapping[str, Any]) -> NDArray[np.int64]:
        """Returns the ids ``(n,)``, ascending, of the photos that match a filter; see ``index.gallery.filters``.

        Raises:
            FilterError: if the filter is not valid.
        """
        condition, values = filter_condition(wanted)
        rows = self._database.query(f"SELECT id FROM photos WHERE {condition} ORDER BY id", values)
        return np.array([row[0] for row in rows], dtype=np.int64)

    def ids(self, uris: Iterable[str]) -> dict[str, int]:
        """Returns the ids of those URIs that the catalogue holds."""
        found: dict[str, int] = {}
        for chunk in _chunks(list(filter(is_text, uris))):
            marks = ", ".join("?" * len(chunk))
            found |= dict(self._database.query(f"SELECT uri, id FROM photos WHERE uri IN ({marks})", chunk))
        return found

    def same_content(self, sha256: str) -> KnownContent | None:
        """Returns the facts of a photo with this content, or None if there is none."""
        rows = self._database.query("SELECT width, height, vector FROM photos WHERE sha256 = ? LIMIT 1", (sha256,))
        return KnownContent(rows[0][0], rows[0][1], np.frombuffer(rows[0][2], dtype="<f4")) if rows else None

    def with_content(self, sha256: str, limit: int) -> list[tuple[int, str]]:
        """Returns ids and URIs of at most ``limit`` photos with this content."""
        return self._database.query("SELECT id, uri FROM photos WHERE sha256 = ? LIMIT ?", (sha256, limit))

    def photo(self, identifier: int) -> Photo | None:
        """Returns a photo by id, or None if it does not exist."""
        return self.photos([identifier]).get(identifier)

    def photos(self, ids: Sequence[int]) -> dict[int, Photo]:
        """Returns those photos among the ids that exist."""
        found = {}
        for chunk in _chunks(list(ids)):
            marks = ", ".join("?" * len(chunk))
            for row in self._database.query(f"SELECT {_COLUMNS} FROM photos WHERE id IN ({marks})", chunk):
                found[row[0]] = _photo(row)
        return found

    def page(self, after: int, limit: int) -> list[Photo]:
        """Returns at most ``limit`` photos with an id above ``after``, in order of id."""
        rows = self._database.query(f"SELECT {_COLUMNS} FROM photos WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [_photo(row) for row in rows]

    def describe(self, descriptions: Mapping[int, tuple[str | None, dict[str, Any]]]) -> None:
        """Replaces label and metadata of photos that exist, by id, all or none. No generation holds them."""
        rows = [(label, json.dumps(metadata), identifier) for identifier, (label, metadata) in descriptions.items()]
        self._database.write(("UPDATE photos SET label = ?, metadata = ? WHERE id = ?", rows))

    def blocks(self, dim: int, *, changed_after: int | None = None) -> Iterator[Block]:
        """Yields ids and vectors of all photos by ascending id, block by block, from one consistent state.

        Args:
            dim: number of coordinates.
            changed_after: yield only photos that changed in a later revision than this.

        Raises:
            GalleryDamaged: if a vector has another size or is not finite.
        """
        condition, values = ("1", ()) if changed_after is None else ("revision > ?", (changed_after,))
        statement = f"SELECT id, sha256, vector FROM photos WHERE {condition} ORDER BY id"
        for rows in self._database.stream(statement, values, _BLOCK):
            yield self._block(rows, dim)

    def vectors(self, dim: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns the ids ``(n,)`` and vectors ``(n, dim)`` of all photos; see ``blocks``."""
        blocks = [Block(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, dim), np.float32))]
        blocks += self.blocks(dim)
        return np.concatenate([b.ids for b in blocks]), np.concatenate([b.vectors for b in blocks])

    def _block(self, rows: list[tuple[int, str, bytes]], dim: int) -> Block:
        if any(len(row[2]) != 4 * dim for row in rows):
            raise GalleryDamaged(f"{self.path} holds a vector without {dim} dimensions; build the gallery again")
        vectors = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4").reshape(len(rows), dim)
        if not np.isfinite(vectors).all():
            raise GalleryDamaged(f"{self.path} holds a vector that is not finite; build the gallery again")
        contents = np.array([content_key(row[1]) for row in rows], dtype=np.int64)
        return Block(np.array([row[0] for row in rows], dtype=np.int64), contents, vectors)

    def problems(self) -> list[str]:
        """Returns what SQLite's own integrity check finds wrong, one line each."""
        try:
            rows = self._database.query("PRAGMA quick_check")
        except GalleryError as error:
            return [str(error)]
        return [f"{self.path}: {row[0]}" for row in rows if row[0] != "ok"]


def _photo(row: Any) -> Photo:
    return Photo._make((*row[:7], json.loads(row[7])))


def _chunks(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
