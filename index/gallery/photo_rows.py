"""Photos read from a catalogue's table, with bounds on the metadata that is read."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from pydantic_core import from_json

from index.errors import MetadataError
from index.gallery.database import Database
from index.gallery.palette import color_names
from index.gallery.photos import NewPhoto, Photo
from index.gallery.vector_pages import read_vectors

__all__ = ["chunks", "photos_after", "photos_by_id", "stored_photos"]

_FACTS = "id, uri, sha256, bytes, width, height, label"
_COLUMNS = f"{_FACTS}, metadata, colors"
_STORED = "id, uri, sha256, bytes, modified, width, height, label, metadata, colors"
_CHUNK = 500  # bound variables in one statement


def photos_by_id(database: Database, ids: Sequence[int], most: int | None) -> dict[int, Photo]:
    """Reads those photos among the ids that exist; see ``Catalogue.photos``."""
    columns = f"{_FACTS}, '{{}}', colors" if most == 0 else _COLUMNS
    found: dict[int, Photo] = {}
    taken = 0
    for chunk in chunks(list(ids)):
        marks = ", ".join("?" * len(chunk))
        rows = database.query(f"SELECT {columns} FROM photos WHERE id IN ({marks})", chunk)
        taken += sum(len(row[7]) for row in rows)
        if most and taken > most:
            raise MetadataError(most)
        found |= {row[0]: _photo(row) for row in rows}
    return found


def photos_after(database: Database, after: int, limit: int, most: int | None) -> list[Photo]:
    """Reads photos in order of id; see ``Catalogue.page``."""
    page: list[Photo] = []
    taken = 0
    statement = f"SELECT {_COLUMNS} FROM photos WHERE id > ? ORDER BY id LIMIT ?"
    with database.reading() as connection, closing(connection.execute(statement, (after, limit))) as rows:
        for row in rows:
            page.append(_photo(row))
            taken += len(row[7])
            if most is not None and taken > most:
                break
    return page


def stored_photos(database: Database, dim: int, size: int) -> Iterator[list[NewPhoto]]:
    """Yields all photos by ascending id, with their vectors, from one consistent state.

    Args:
        database: of the catalogue.
        dim: number of coordinates.
        size: number of photos that are yielded together.

    Raises:
        GalleryDamaged: if a vector is missing, has another size or is not finite.
    """
    with database.reading() as connection:
        photos = connection.execute(f"SELECT {_STORED} FROM photos ORDER BY id")
        while rows := photos.fetchmany(size):
            vectors = read_vectors(connection, np.array([row[0] for row in rows], np.int64), dim)
            yield [
                NewPhoto._make((*row[1:8], from_json(row[8]), vector, row[9]))
                for row, vector in zip(rows, vectors, strict=True)
            ]


def chunks(values: list[Any]) -> Iterator[list[Any]]:
    """Yields values in parts, each of which may be bound to one statement."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _photo(row: Any) -> Photo:
    return Photo._make((*row[:7], from_json(row[7]), color_names(row[8])))
