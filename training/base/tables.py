"""Reading CSV and Parquet tables row by row, with one clear error for whatever is wrong with a row."""

import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.base.errors import DataError

__all__ = ["TABLE_SUFFIXES", "Table", "as_text", "open_table", "parse_number"]

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table that is open for reading.

    Attributes:
        columns: names of the columns, all different.
        typed: whether cells have the types of the file (Parquet); otherwise every cell is text (CSV).
        rows: number of each row, from 1, and its cells by column; an empty cell is left out. Can be read once.
    """

    columns: tuple[str, ...]
    typed: bool
    rows: Iterator[tuple[int, Row]]


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """Opens a table, its format told by the suffix: ``.parquet``, or CSV in UTF-8 with a header.

    Rows are read as they are asked for, so that a large table does not fill the memory.

    Raises:
        DataError: if the file is missing or is no such table, here or while rows are read; the message names the row.
    """
    opened = _open_parquet(path) if path.suffix.lower() == ".parquet" else _open_csv(path)
    with opened as table:
        twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
        if twice:
            raise DataError(f"{path} has more than one column {twice[0]!r}; rename or remove all but one")
        yield table


def as_text(value: Any) -> str:
    """A cell as text: text as it is, bytes as UTF-8, anything else as Python writes it.

    Raises:
        ValueError: if bytes are not UTF-8.
    """
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise ValueError(f"{value[:8]!r}... is not UTF-8 text") from None


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
def _open_csv(path: Path) -> Iterator[Table]:
    with _readable(path):
        # Bytes that are not UTF-8 become surrogates, so that the row that holds them can be named.
        file = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    with file:
        lines = csv.reader(file, strict=True)
        header = _next_line(path, "the header", lines)
        if header is None:
            raise DataError(f"{path} is empty; its first line must name the columns")
        yield Table(tuple(header), typed=False, rows=_csv_rows(path, header, lines))


def _csv_rows(path: Path, header: Sequence[str], lines: Iterator[list[str]]) -> Iterator[tuple[int, Row]]:
    number = 1
    while (cells := _next_line(path, f"row {number}", lines)) is not None:
        if len(cells) != len(header):
            raise DataError(f"{path}, row {number}: {len(cells)} cells, but the header names {len(header)} columns")
        yield number, {name: cell for name, cell in zip(header, cells, strict=True) if cell}
        number += 1


def _next_line(path: Path, place: str, lines: Iterator[list[str]]) -> list[str] | None:
    """The cells of the next line that is not blank, or None at the end."""
    try:
        cells = next((line for line in lines if line), None)
        text = "".join(cells or ())
        text.encode()
    except csv.Error as error:
        hint = "; is a quotation mark left open?" if "field limit" in str(error) or "end of data" in str(error) else ""
        raise DataError(f"{path}, {place}: {error}{hint}") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}, {place}: not UTF-8 text; save the table as CSV in UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}, {place}: holds a NUL character; save the table as CSV in UTF-8")
    return cells


@contextmanager
def _open_parquet(path: Path) -> Iterator[Table]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"reading {path} needs pyarrow: pip install pyarrow, or give the table as CSV") from error
    errors: tuple[type[Exception], ...] = (pyarrow.ArrowException, ValueError)
    with _readable(path, *errors):
        file = pyarrow.parquet.ParquetFile(path)
    with file:
        batches = _each(path, map(_plain_rows, file.iter_batches()), *errors)
        rows = enumerate((row for batch in batches for row in batch), start=1)
        yield Table(tuple(file.schema_arrow.names), typed=True, rows=rows)


def _plain_rows(batch: Any) -> list[Row]:
    return [
        {name: value for name, value in row.items() if value is not None and value != ""} for row in batch.to_pylist()
    ]


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
