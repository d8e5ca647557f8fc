"""Reading tables row by row, CSV, JSON lines and Parquet, with one clear error for whatever is wrong with a row."""

import csv
import datetime
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from training.base.charsets import text_encoding
from training.base.errors import DataError

__all__ = ["TABLE_SUFFIXES", "Table", "as_text", "open_table", "parse_number"]

Row = dict[str, Any]

_LONGEST_HEADER = 1 << 20  # characters

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it


@dataclass(frozen=True)
class Table:
    """A table that is open for reading.

    Attributes:
        columns: names of the columns, all different.
        typed: whether cells have the types of the file (Parquet, JSON); otherwise every cell is text (CSV).
        rows: number of each row, from 1, and its cells by column; an empty cell is left out. Can be read once.
    """

    columns: tuple[str, ...]
    typed: bool
    rows: Iterator[tuple[int, Row]]


@contextmanager
def open_table(path: Path, encoding: str | None = None) -> Iterator[Table]:
    """Opens a table, its format told by the suffix.

    It is ``.parquet``; ``.jsonl`` or ``.ndjson`` with a JSON object a line; ``.tsv``; or else CSV. The first line of
    CSV and TSV names the columns; if it has no comma, semicolons or tabs separate the cells of CSV. Rows are read as
    they are asked for, so that a large table does not fill the memory.

    Args:
        path: the table.
        encoding: of the characters of CSV or TSV; found out when omitted, see ``text_encoding``.

    Raises:
        DataError: if the file is missing or is no such table, here or while rows are read; the message names the row.
    """
    with _FORMATS.get(path.suffix.lower(), _open_csv)(path, encoding) as table:
        twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
        if twice:
            raise DataError(f"{path} has more than one column {twice[0]!r}; rename or remove all but one")
        yield table


def as_text(value: Any) -> str:
    """A cell as text: text as it is, bytes as UTF-8, anything else as Python writes it.

    Dates and times are written as ISO 8601, those with an offset in UTC, so that comparing texts compares times:
    ``2024-05-01T12:00:00+00:00``, ``2024-05-01T12:00:00`` without an offset, ``2024-05-01``.

    Raises:
        ValueError: if bytes are not UTF-8, or a time has no year of four digits in UTC.
    """
    try:
        if isinstance(value, datetime.datetime) and value.tzinfo:
            value = value.astimezone(datetime.UTC)
        if isinstance(value, datetime.date | datetime.time):
            return value.isoformat()
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise ValueError(f"{value[:8]!r}... is not UTF-8 text") from None
    except OverflowError:
        raise ValueError(f"{value} is out of range in UTC") from None


def parse_number(value: Any) -> float:
    """A cell as a finite number.

    Raises:
        ValueError: if it is none; the message says what it is.
    """
    try:
        number = float("" if isinstance(value, str) and "_" in value else value)  # float() reads 1_0 as 10
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


@contextmanager
def _open_csv(path: Path, encoding: str | None, *, delimiter: str | None = None) -> Iterator[Table]:
    with _readable(path):
        name = text_encoding(path, encoding)
        # Bytes that are no text become surrogates, so that the row that holds them can be named.
        file = path.open(encoding=name, errors="surrogateescape", newline="")
    with file:
        lines = csv.reader(file, strict=True, delimiter=delimiter or _delimiter(file))
        header = _next_line(path, "the header", name, lines)
        if header is None:
            raise DataError(f"{path} is empty; its first line must name the columns")
        yield Table(tuple(header), typed=False, rows=_csv_rows(path, header, name, lines))


def _delimiter(file: TextIO) -> str:
    """What separates the names of the columns: spreadsheets write semicolons where the comma is for decimals."""
    try:
        while (line := file.readline(_LONGEST_HEADER)) and not line.strip():
            pass
    except UnicodeError:  # reading the header says so
        line = ""
    file.seek(0)
    return next((mark for mark in ",;\t" if mark in line), ",")


def _csv_rows(
    path: Path, header: Sequence[str], encoding: str, lines: Iterator[list[str]]
) -> Iterator[tuple[int, Row]]:
    number = 1
    while (cells := _next_line(path, f"row {number}", encoding, lines)) is not None:
        if len(cells) != len(header):
            raise DataError(f"{path}, row {number}: {len(cells)} cells, but the header names {len(header)} columns")
        yield number, {name: cell for name, cell in zip(header, cells, strict=True) if cell}
        number += 1


def _next_line(path: Path, place: str, encoding: str, lines: Iterator[list[str]]) -> list[str] | None:
    """The cells of the next line that is not blank, or None at the end."""
    try:
        cells = next((line for line in lines if line), None)
        text = "".join(cells or ())
        text.encode()
    except csv.Error as error:
        hint = "; is a quotation mark left open?" if "field limit" in str(error) or "end of data" in str(error) else ""
        raise DataError(f"{path}, {place}: {error}{hint}") from error
    except UnicodeError as error:
        raise DataError(f"{path}, {place}: not text in {encoding}; save the table in UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}, {place}: holds a NUL character; save the table in UTF-8")
    return cells


@contextmanager
def _open_json_lines(path: Path, encoding: str | None) -> Iterator[Table]:
    with _readable(path):
        # Read twice, for any line may bring a column. A mark at the beginning is not part of the text.
        columns = dict.fromkeys(name for _, row in _json_rows(path) for name in row)
    if not columns:
        raise DataError(f"{path} is empty; every line must be a JSON object")
    yield Table(tuple(columns), typed=True, rows=((number, _filled(row)) for number, row in _json_rows(path)))


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    number = 0
    with path.open("rb") as file:
        for line in file:
            text = line.removeprefix(b"\xef\xbb\xbf").strip()
            if text:
                number += 1
                yield number, _json_object(f"{path}, row {number}", text)


def _json_object(place: str, text: bytes) -> Row:
    try:
        row = json.loads(text.decode())
        if b"\\u" in text and _NUL.search(json.dumps(row, ensure_ascii=False).encode()):
            raise DataError(f"{place}: holds a NUL character; remove it")
    except UnicodeError as error:
        raise DataError(f"{place}: not text in UTF-8; save the table in UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: not a JSON object; every line must be one, with the columns as its keys")
    return row


def _refuse_json(path: Path, encoding: str | None) -> AbstractContextManager[Table]:
    raise DataError(f"{path} is one JSON value; write one object a line instead and call the file .jsonl")


@contextmanager
def _open_parquet(path: Path, encoding: str | None) -> Iterator[Table]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"reading {path} needs pyarrow: pip install pyarrow, or give the table as CSV") from error
    errors: tuple[type[Exception], ...] = (pyarrow.ArrowException, ValueError, OverflowError)
    with _readable(path, *errors):
        file = pyarrow.parquet.ParquetFile(path)
    with file:
        schema = pyarrow.schema([(field.name, _in_utc(field.type)) for field in file.schema_arrow])
        batches = (batch.cast(schema, safe=False) for batch in file.iter_batches())
        lists = _each(path, ([_filled(row) for row in batch.to_pylist()] for batch in batches), *errors)
        rows = enumerate((row for rows in lists for row in rows), start=1)
        yield Table(tuple(file.schema_arrow.names), typed=True, rows=rows)


def _in_utc(kind: Any) -> Any:
    """A type of Arrow with times in UTC and in microseconds, which are what Python has."""
    import pyarrow

    types = pyarrow.types
    if types.is_timestamp(kind):
        return pyarrow.timestamp("us" if kind.unit == "ns" else kind.unit, kind.tz and "UTC")
    if types.is_time64(kind) or (types.is_duration(kind) and kind.unit == "ns"):
        return pyarrow.time64("us") if types.is_time64(kind) else pyarrow.duration("us")
    if types.is_list(kind):
        return pyarrow.list_(_in_utc(kind.value_type))
    if types.is_struct(kind):
        return pyarrow.struct([(field.name, _in_utc(field.type)) for field in kind])
    return kind


def _filled(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None and value != ""}


def _each(path: Path, items: Iterator[list[Row]], *errors: type[Exception]) -> Iterator[list[Row]]:
    while True:
        with _readable(path, *errors):
            item = next(items, None)
        if item is None:
            return
        yield item


@contextmanager
def _readable(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turns the failure to read a file, and other ``errors``, into one line."""
    kinds: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except kinds as error:
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error


_FORMATS: dict[str, Callable[[Path, str | None], AbstractContextManager[Table]]] = {
    ".csv": _open_csv,
    ".tsv": partial(_open_csv, delimiter="\t"),
    ".jsonl": _open_json_lines,
    ".ndjson": _open_json_lines,
    ".parquet": _open_parquet,
    ".json": _refuse_json,
}

TABLE_SUFFIXES = frozenset(_FORMATS)  # of files that ``open_table`` reads, or refuses with advice
