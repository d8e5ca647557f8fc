"""Photos read from a catalogue's table, with bounds on the metadata that is read."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from pydantic_core import from_json

from index.errors import MetadataError
from index.gallery.database import Database
from index.gallery.palette import color_names
from index.gallery.photos import Photo

__all__ = ["chunks", "photos_after", "photos_by_id"]

_FACTS = "id, uri, sha256, bytes, width, height, label"
_COLUMNS = f"{_FACTS}, metadata, colors"
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


def chunks(values: list[Any]) -> Iterator[list[Any]]:
    """Yields values in parts, each of which may be bound to one statement."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _photo(row: Any) -> Photo:
    return Photo._make((*row[:7], from_json(row[7]), color_names(row[8])))
