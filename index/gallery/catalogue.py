"""The catalogue of a gallery: one SQLite file with the vector and the facts of every photo.

It is the source of truth; everything else in a gallery but the model can be rebuilt from it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import GalleryError
from index.gallery.color_table import ColorTable
from index.gallery.database import PATIENCE, Database
from index.gallery.photo_rows import chunks, photos_after, photos_by_id
from index.gallery.photos import Block, KnownContent, NewPhoto, Photo, PhotoState, content_key
from index.gallery.postings import add_postings, remove_postings, set_filterable
from index.gallery.selection import select
from index.gallery.uri_table import UriTable
from index.gallery.uris import is_text
from index.gallery.vector_pages import PAGE, discard_vectors, one_vector, read_vectors, store_vectors

__all__ = ["Catalogue"]

_COUNT_REVISION = (
    "INSERT INTO facts VALUES ('revision', '1') ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
)
_REVISION = "(SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'revision')"
# Without the names of the indices SQLite would read all photos, by id.
_CHANGED = "SELECT id FROM photos INDEXED BY photos_by_revision WHERE revision > ?"
_REMOVED = "SELECT id FROM removed INDEXED BY removed_by_revision WHERE revision > ?"
_BLOCK = 4096  # vectors read at once


class Catalogue:
    """Access to a catalogue file. One object may be used from many threads.

    Args:
        path: the SQLite file.
        create: create the file if it is missing, and allow writing.
        patience: seconds that a change waits for other processes that write.

    Raises:
        GalleryDamaged: if the file is missing or unreadable, is not a catalogue, or is of an earlier version.
    """

    def __init__(self, path: Path, *, create: bool = False, patience: float = PATIENCE) -> None:
        self.path = path
        self._database = Database(path, create=create, patience=patience)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    @contextmanager
    def frozen(self) -> Iterator["Catalogue"]:
        """Yields a view of the present state, from which everything can be read whatever is written meanwhile."""
        with closing(Catalogue(self.path)) as view:
            view._database.freeze()
            yield view

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
        names = "uri, sha256, bytes, modified, width, height, label, metadata, colors, revision"
        updates = ", ".join(f"{name} = excluded.{name}" for name in names.split(", ")[1:])
        statement = (
            f"INSERT INTO photos ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {_REVISION}) "
            f"ON CONFLICT (uri) DO UPDATE SET {updates} RETURNING id"
        )
        vectors: dict[int, bytes] = {}
        with self._database.writing() as connection:
            connection.execute(_COUNT_REVISION)
            uris = json.dumps([photo.uri for photo in photos])
            replaced = connection.execute(
                "SELECT id FROM photos WHERE uri IN (SELECT value FROM json_each(?))", (uris,)
            )
            remove_postings(connection, [row[0] for row in replaced])
            for photo in photos:
                values = (*photo[:7], json.dumps(photo.metadata), photo.colors)
                [identifier] = connection.execute(statement, values).fetchone()
                vectors[identifier] = np.ascontiguousarray(photo.vector, dtype="<f4").tobytes()
            add_postings(connection, vectors)
            store_vectors(connection, vectors)

    def remove(self, ids: Sequence[int]) -> int:
        """Removes photos by id, records that they were removed, and returns how many of them existed."""
        different = set(ids)
        rows = [(identifier,) for identifier in different]
        with self._database.writing() as connection:
            connection.execute(_COUNT_REVISION)
            connection.executemany(f"INSERT INTO removed SELECT id, {_REVISION} FROM photos WHERE id = ?", rows)
            discard_vectors(connection, different)
            remove_postings(connection, different)
            return connection.executemany("DELETE FROM photos WHERE id = ?", rows).rowcount

    def forget_removed(self, revision: int) -> None:
        """Deletes the records of photos that were removed up to a revision; ``removed_since`` says so afterwards."""
        self._database.write(
            ("DELETE FROM removed WHERE revision <= ?", [(revision,)]),
            (
                "UPDATE facts SET value = max(CAST(value AS INTEGER), ?) WHERE name = 'removed_since'",
                [(revision,)],
            ),
        )

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
        for chunk in chunks(list(filter(is_text, uris))):
            marks = ", ".join("?" * len(chunk))
            statement = f"SELECT uri, sha256, bytes, modified FROM photos WHERE uri IN ({marks})"
            found |= {row[0]: PhotoState(*row[1:]) for row in self._database.query(statement, chunk)}
        return found

    def uris(self) -> Mapping[str, int]:
        """Returns the id of every URI, as a view that holds nothing in memory."""
        return UriTable(self._database)

    @property
    def colors(self) -> ColorTable:
        """Which photos have which colours, and which photos' colours were never measured."""
        return ColorTable(self._database)

    def color_names(self) -> list[str]:
        """Names of the colours that some photo has; see ``ColorTable.names``."""
        return self.colors.names()

    @property
    def removed_since(self) -> int:
        """The earliest revision for which ``removed_after`` is complete."""
        return int(self.fact("removed_since") or 0)

    def changed_after(self, revision: int) -> NDArray[np.int64]:
        """Returns the ids ``(n,)``, ascending, of photos that were added or got another vector after a revision."""
        return np.sort(_ids(self._database.query(_CHANGED, (revision,))))

    def removed_after(self, revision: int) -> NDArray[np.int64]:
        """Returns the ids ``(n,)``, ascending, of photos that were removed after a revision.

        They are complete if the revision is not below ``removed_since``.
        """
        return np.sort(_ids(self._database.query(_REMOVED, (revision,))))

    def select(self, wanted: Mapping[str, Any], seconds: float | None = None) -> NDArray[np.int64]:
        """Returns the ids ``(n,)``, ascending, of the photos that match a filter; see ``index.gallery.filters``.

        Args:
            wanted: the filter.
            seconds: that it may take.

        Raises:
            FilterError: if the filter is not valid.
            QueryTimeout: if it takes longer.
        """
        return select(self._database, wanted, seconds)

    def set_filterable(self, names: Iterable[str]) -> None:
        """Chooses the facts and fields of metadata that filters are to find quickly; see ``index.gallery.postings``.

        Raises:
            FilterError: if a field cannot be chosen.
        """
        with self._database.writing() as connection:
            set_filterable(connection, names)

    def ids(self, uris: Iterable[str]) -> dict[str, int]:
        """Returns the ids of those URIs that the catalogue holds."""
        found: dict[str, int] = {}
        for chunk in chunks(list(filter(is_text, uris))):
            marks = ", ".join("?" * len(chunk))
            found |= dict(self._database.query(f"SELECT uri, id FROM photos WHERE uri IN ({marks})", chunk))
        return found

    def same_content(self, sha256: str) -> KnownContent | None:
        """Returns the facts of a photo with this content, or None if there is none."""
        rows = self._database.query(
            "SELECT photos.id, width, height, colors, coalesce(slots, 0), coalesce(vectors, x'') FROM photos "
            f"LEFT JOIN vectors ON page = photos.id / {PAGE} WHERE sha256 = ? LIMIT 1",
            (sha256,),
        )
        for identifier, width, height, colors, slots, vectors in rows:
            return KnownContent(width, height, one_vector(identifier, slots, vectors), colors)
        return None

    def with_content(self, sha256: str, limit: int) -> list[tuple[int, str]]:
        """Returns ids and URIs of at most ``limit`` photos with this content."""
        return self._database.query("SELECT id, uri FROM photos WHERE sha256 = ? LIMIT ?", (sha256, limit))

    def photo(self, identifier: int) -> Photo | None:
        """Returns a photo by id, or None if it does not exist."""
        return self.photos([identifier]).get(identifier)

    def photos(self, ids: Sequence[int], *, most: int | None = None) -> dict[int, Photo]:
        """Returns those photos among the ids that exist.

        Args:
            ids: the ids.
            most: largest number of bytes of all their metadata; 0 leaves the metadata out.

        Raises:
            MetadataError: if their metadata is larger.
        """
        return photos_by_id(self._database, ids, most)

    def page(self, after: int, limit: int, *, most: int | None = None) -> list[Photo]:
        """Returns at most ``limit`` photos with an id above ``after``, in order of id.

        Args:
            after: the id.
            limit: the number of photos.
            most: bytes of metadata after which the page ends early.
        """
        return photos_after(self._database, after, limit, most)

    def describe(self, descriptions: Mapping[int, tuple[str | None, dict[str, Any]]]) -> None:
        """Replaces label and metadata of photos that exist, by id, all or none. No generation holds them."""
        rows = [(label, json.dumps(metadata), identifier) for identifier, (label, metadata) in descriptions.items()]
        with self._database.writing() as connection:
            remove_postings(connection, descriptions)
            connection.executemany("UPDATE photos SET label = ?, metadata = ? WHERE id = ?", rows)
            add_postings(connection, descriptions)

    def blocks(self, dim: int, *, changed_after: int | None = None) -> Iterator[Block]:
        """Yields ids and vectors of all photos by ascending id, block by block, from one consistent state.

        Args:
            dim: number of coordinates.
            changed_after: yield only photos that changed in a later revision than this.

        Raises:
            GalleryDamaged: if a vector is missing, has another size or is not finite.
        """
        condition, values = ("1", ()) if changed_after is None else (f"id IN ({_CHANGED})", (changed_after,))
        with self._database.reading() as connection:
            photos = connection.execute(f"SELECT id, sha256 FROM photos WHERE {condition} ORDER BY id", values)
            while rows := photos.fetchmany(_BLOCK):
                ids = np.array([row[0] for row in rows], np.int64)
                contents = np.array([content_key(row[1]) for row in rows], np.int64)
                yield Block(ids, contents, read_vectors(connection, ids, dim))

    def vectors(self, dim: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns the ids ``(n,)`` and vectors ``(n, dim)`` of all photos; see ``blocks``."""
        blocks = [Block(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, dim), np.float32))]
        blocks += self.blocks(dim)
        return np.concatenate([b.ids for b in blocks]), np.concatenate([b.vectors for b in blocks])

    def problems(self) -> list[str]:
        """Returns what SQLite's own integrity check finds wrong, one line each."""
        try:
            rows = self._database.query("PRAGMA quick_check")
        except GalleryError as error:
            return [str(error)]
        return [f"{self.path}: {row[0]}" for row in rows if row[0] != "ok"]


def _ids(rows: Sequence[tuple[int]]) -> NDArray[np.int64]:
    return np.fromiter((row[0] for row in rows), np.int64, len(rows))
