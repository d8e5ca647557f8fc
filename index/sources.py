"""Where photos come from: a folder, a text list or a table; local paths or any URI that fsspec opens."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import fsspec
from fsspec.core import url_to_fs

from index.errors import SourceError
from training.base.tables import TABLE_SUFFIXES, as_text, open_table, parse_number
from training.model.images import IMAGE_SUFFIXES

__all__ = ["Candidate", "list_folder", "list_photos", "local_path", "read_uri"]


class Candidate(NamedTuple):
    """A photo to index: absolute path or URI, label and metadata."""

    uri: str
    label: str | None
    metadata: dict[str, Any]


def list_photos(source: str | Path) -> list[Candidate]:
    """Lists the photos of a folder, a text list or a table; a URI that is named twice is listed once.

    Args:
        source: a folder or its URI, searched with its subfolders, whose names below it become labels; a ``.csv`` or
            ``.parquet`` table with a column ``uri`` (or ``path``), optionally ``label``, and metadata in the others,
            which in CSV are text unless a column is called ``NAME:int``, ``NAME:float`` or ``NAME:bool``;
            or a text file with one path or URI a line and comments after ``#``. Relative paths are taken from the
            folder that holds the list or table.

    Raises:
        SourceError: if it is missing, lacks what is needed or lists nothing.
        DataError: if a table cannot be read.
    """
    if "://" in str(source):
        return _list_remote(str(source))
    source = Path(source)
    if source.is_dir():
        return list_folder(source)
    if not source.exists():
        raise SourceError(f"{source} does not exist; --photos needs a folder, a list or a table of photos")
    candidates = _from_table(source) if source.suffix.lower() in TABLE_SUFFIXES else _from_list(source)
    if not candidates:
        raise _no_photos(source)
    return list({candidate.uri: candidate for candidate in candidates}.values())


def list_folder(folder: Path) -> list[Candidate]:
    """Lists the photos of a folder and its subfolders.

    Raises:
        SourceError: if there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise _no_photos(folder)
    return [Candidate(str(file.absolute()), None if file.parent == folder else file.parent.name, {}) for file in files]


def local_path(uri: str) -> Path | None:
    """The local file that a URI of a gallery names, or None if it is remote."""
    return None if "://" in uri else Path(uri)


def read_uri(uri: str) -> bytes:
    """Reads the file that a URI names.

    Raises:
        OSError: if it cannot be read.
        ValueError: if there is no such kind of storage.
        SourceError: if a package for that kind of storage is not installed.
    """
    path = local_path(uri)
    if path is not None:
        return path.read_bytes()
    try:
        with fsspec.open(uri, "rb") as file:
            content: bytes = file.read()
    except ImportError as error:
        raise SourceError(f"{uri}: {error}") from error
    return content


def _list_remote(source: str) -> list[Candidate]:
    """Lists a remote folder, or one in an archive: ``zip://photos::s3://bucket/all.zip``."""
    try:
        storage, root = url_to_fs(source)
        names = storage.find(root)
    except (ImportError, OSError, ValueError) as error:
        raise SourceError(f"{source}: {error}") from error
    photos = [name for name in sorted(names) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    if not photos:
        raise _no_photos(source)
    _, separator, archive = source.partition("::")
    top = PurePosixPath(root.strip("/"))
    candidates = []
    for name in photos:
        folder = PurePosixPath(name.strip("/")).parent
        label = None if folder == top else folder.name
        candidates.append(Candidate(storage.unstrip_protocol(name) + separator + archive, label, {}))
    return candidates


def _no_photos(source: str | Path) -> SourceError:
    return SourceError(f"{source} names no photos ({', '.join(sorted(IMAGE_SUFFIXES))})")


def _from_list(path: Path) -> list[Candidate]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} is not a text file; give a folder, a text list or a .csv or .parquet table"
        ) from error
    names = [line.split("#", 1)[0].strip() for line in lines]
    return [Candidate(_absolute(name, path.parent), None, {}) for name in names if name]


def _from_table(path: Path) -> list[Candidate]:
    with open_table(path) as table:
        column = next((name for name in ("uri", "path") if name in table.columns), None)
        if column is None:
            columns = ", ".join(repr(name) for name in table.columns)
            raise SourceError(f"{path} has no column 'uri' or 'path'; its columns are {columns}")
        fields = [_field(path, name, typed=table.typed) for name in table.columns if name not in (column, "label")]
        names = [field.name for field in fields]
        if twice := {name for name in names if names.count(name) > 1}:
            raise SourceError(f"{path} has two columns for the metadata field {min(twice)!r}; remove one")
        return [_candidate(path, number, cells, column, fields) for number, cells in table.rows]


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


def _candidate(path: Path, number: int, cells: Mapping[str, Any], column: str, fields: Sequence[_Field]) -> Candidate:
    def value(name: str, parse: Callable[[Any], Any]) -> Any:
        try:
            return parse(cells[name]) if name in cells else None
        except ValueError as error:
            raise SourceError(f"{path}, row {number}: {name}: {error}") from error

    uri = value(column, as_text)
    if not uri or "\0" in uri:
        raise SourceError(f"{path}, row {number}: {column}: every row needs the path or URI of a photo there")
    metadata = {field.name: value(field.column, field.parse) for field in fields if field.column in cells}
    return Candidate(_absolute(uri, path.parent), value("label", as_text), metadata)


def _absolute(name: str, folder: Path) -> str:
    return name if "://" in name else str((folder / name).absolute())


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, float):
        return parse_number(value)
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
