"""Tables of photos: where each one is, its label, and its metadata as values that JSON can hold."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from index.errors import SourceError
from index.gallery.fields import FACTS
from training.base.tables import as_text, open_table, parse_number

__all__ = ["PhotoRow", "read_photo_table"]

logger = logging.getLogger(__name__)


class PhotoRow(NamedTuple):
    """A row of a table: path or URI of a photo, as it stands there, its label and its metadata."""

    uri: str
    label: str | None
    metadata: dict[str, Any]


def read_photo_table(path: Path, encoding: str | None = None) -> list[PhotoRow]:
    """Reads a table of photos with a column ``uri`` (or ``path``), optionally ``label``, and metadata in the others.

    Cells of CSV are text unless a column is called ``NAME:int``, ``NAME:float`` or ``NAME:bool``. Of typed tables
    metadata become what JSON can hold: dates and times are written as ISO 8601 (see ``as_text``), decimals become
    numbers, durations seconds.

    Args:
        path: the table.
        encoding: see ``open_table``.

    Raises:
        SourceError: if a column or a cell is not as it must be; the message names it.
        DataError: if the table cannot be read.
    """
    with open_table(path, encoding) as table:
        column = next((name for name in ("uri", "path") if name in table.columns), None)
        if column is None:
            columns = ", ".join(repr(name) for name in table.columns)
            raise SourceError(f"{path} has no column 'uri' or 'path'; its columns are {columns}")
        fields = [_field(path, name, typed=table.typed) for name in table.columns if name not in (column, "label")]
        names = [field.name for field in fields]
        if twice := {name for name in names if names.count(name) > 1}:
            raise SourceError(f"{path} has two columns for the metadata field {min(twice)!r}; remove one")
        if hidden := ", ".join(f'"metadata.{name}"' for name in names if name in FACTS):
            logger.warning("%s: filter on columns that are called as facts of a photo are by %s", path, hidden)
        return [_row(path, number, cells, column, fields) for number, cells in table.rows]


class _Field(NamedTuple):
    """A column of a table, the metadata field that it fills, and what turns its cells into values."""

    column: str
    name: str
    parse: Callable[[Any], Any]


def _field(path: Path, column: str, *, typed: bool) -> _Field:
    name, _, kind = column.rpartition(":")
    if typed or kind not in _PARSERS:
        return _Field(column, column, _plain)
    if name in ("", "uri", "path", "label"):
        raise SourceError(f"{path}: column {column!r} needs the name of a metadata field before the colon")
    return _Field(column, name, _PARSERS[kind])


def _row(path: Path, number: int, cells: Mapping[str, Any], column: str, fields: Sequence[_Field]) -> PhotoRow:
    def value(name: str, parse: Callable[[Any], Any]) -> Any:
        try:
            return parse(cells[name]) if name in cells else None
        except ValueError as error:
            raise SourceError(f"{path}, row {number}: {name}: {error}") from error

    uri = value(column, as_text)
    if not uri or "\0" in uri:
        raise SourceError(f"{path}, row {number}: {column}: every row needs the path or URI of a photo there")
    metadata = {field.name: value(field.column, field.parse) for field in fields if field.column in cells}
    return PhotoRow(uri, value("label", _label), metadata)


def _label(value: Any) -> str:
    return as_text(parse_number(value) if isinstance(value, float) else value)


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, float):
        return parse_number(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**63 else parse_number(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, str | int) else as_text(value)


def _parse_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text.strip()) or abs(int(text)) >= 2**63:
        raise ValueError(f"{text!r} is not a whole number of 64 bits")
    return int(text)


def _parse_bool(text: str) -> bool:
    value = {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower())
    if value is None:
        raise ValueError(f"{text!r} is neither true nor false")
    return value


_PARSERS: dict[str, Callable[[Any], Any]] = {"int": _parse_int, "float": parse_number, "bool": _parse_bool}
