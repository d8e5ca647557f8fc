"""Where photos come from: a folder, a text list or a table; local paths or any URI that fsspec opens."""

import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import fsspec
from fsspec.core import url_to_fs

from index.errors import SourceError
from index.gallery.uris import canonical_uris, local_path
from training.base.regular_files import MAX_BYTES, UnusableFile, read_regular
from training.base.tables import TABLE_SUFFIXES, as_text, open_table, parse_number
from training.model.images import IMAGE_SUFFIXES

__all__ = ["Candidate", "Listing", "list_folder", "list_photos", "read_uri"]

# Folders of thumbnails, of what was deleted, and of file systems; hidden ones are passed over as well.
_SIDE_FOLDERS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"}
)
_SHOWN = 5  # suffixes


class Candidate(NamedTuple):
    """A photo to index: absolute path or URI, label and metadata; the label may be nothing but a folder's name."""

    uri: str
    label: str | None
    metadata: dict[str, Any]
    is_label_of_folder: bool = False


class Listing(list[Candidate]):
    """Photos of a source, and what else was seen there.

    Attributes:
        skipped: number of files that are not taken for photos, by suffix, and of links to folders, which are not
            followed.
        unreadable: folders that could not be listed, and why.
    """

    def __init__(
        self, photos: Iterable[Candidate] = (), skipped: Mapping[str, int] | None = None, unreadable: Sequence[str] = ()
    ) -> None:
        super().__init__(photos)
        self.skipped = Counter(skipped or {})
        self.unreadable = tuple(unreadable)

    @property
    def notes(self) -> str:
        """What was left out: ``37 files skipped: 30 .heic, 7 .txt``, and folders, a line each; empty if nothing was."""
        lines = [f"left out, {problem}" for problem in self.unreadable]
        return "\n".join([*lines, self._summary()] if self.skipped else lines)

    def _summary(self) -> str:
        kinds = [f"{count} {suffix}" for suffix, count in self.skipped.most_common(_SHOWN)]
        others = len(self.skipped) - len(kinds)
        total = self.skipped.total()
        return f"{total} file{'s' * (total != 1)} skipped: {', '.join(kinds)}" + (
            f" and {others} other kinds" * (others > 0)
        )


def list_photos(source: str | Path) -> Listing:
    """Lists the photos of a folder, a text list or a table; a URI that is named twice is listed once.

    Args:
        source: a folder or its URI, searched with its subfolders, whose names below it become labels; a ``.csv`` or
            ``.parquet`` table with a column ``uri`` (or ``path``), optionally ``label``, and metadata in the others,
            which in CSV are text unless a column is called ``NAME:int``, ``NAME:float`` or ``NAME:bool``;
            or a text file with one path or URI a line, and comments, which begin with ``#`` at the start of a line or
            after a space. Relative paths are taken from the folder that holds the list or table.

    Returns:
        The photos, local ones under their canonical paths; see ``canonical_uris``.

    Raises:
        SourceError: if it is missing, lacks what is needed or lists nothing.
        DataError: if a table cannot be read.
    """
    path = local_path(str(source))
    if path is None:
        return _list_remote(str(source))
    source = path
    if source.is_dir():
        return list_folder(source)
    if not source.exists():
        raise SourceError(f"{source} does not exist; --photos needs a folder, a list or a table of photos")
    candidates = _from_table(source) if source.suffix.lower() in TABLE_SUFFIXES else _from_list(source)
    if not candidates:
        raise _no_photos(source)
    uris = canonical_uris(candidate.uri for candidate in candidates)
    found = {uri: candidate._replace(uri=uri) for uri, candidate in zip(uris, candidates, strict=True)}
    return Listing(found.values())


def list_folder(folder: Path) -> Listing:
    """Lists the photos of a folder and its subfolders, but not of hidden ones or those of thumbnails and waste.

    Whatever has the name of a photo is listed, so that a job can say why it cannot be used. Links to folders are not
    followed.

    Raises:
        SourceError: if there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder")
    top = folder.resolve()
    photos, skipped, errors = [], Counter[str](), list[OSError]()
    for parent, folders, names in os.walk(top, onerror=errors.append):
        folders[:] = [name for name in folders if not _is_aside(name)]
        place = Path(parent)
        skipped["links to folders"] += sum((place / name).is_symlink() for name in folders)
        label = None if place == top else place.name
        images = [str(place / name) for name in names if _is_photo(name, skipped)]
        photos += [Candidate(image, label, {}, is_label_of_folder=True) for image in images]
    unreadable = [f"{error.filename}: {error.strerror}" for error in errors]
    if not photos:
        raise SourceError(f"{unreadable[0]}; no photos were found") if unreadable else _no_photos(folder)
    return Listing(sorted(photos, key=lambda photo: Path(photo.uri)), +skipped, unreadable)


def read_uri(uri: str) -> bytes:
    """Reads the file that a URI names.

    Raises:
        OSError: if it cannot be read.
        ValueError: if there is no such kind of storage.
        SourceError: if a package for that kind of storage is not installed.
    """
    path = local_path(uri)
    if path is not None:
        return read_regular(path)
    try:
        with fsspec.open(uri, "rb") as file:
            content: bytes = file.read(MAX_BYTES + 1)
    except ImportError as error:
        raise SourceError(f"{uri}: {error}") from error
    if len(content) > MAX_BYTES:
        raise UnusableFile(errno.EFBIG, f"larger than {MAX_BYTES >> 20} MiB", uri)
    return content


def _is_aside(folder: str) -> bool:
    return folder.startswith(".") or folder.lower() in _SIDE_FOLDERS


def _is_photo(name: str, skipped: Counter[str]) -> bool:
    """Whether a name has the suffix of an image; if not, it is counted."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        skipped[suffix or "without suffix"] += 1
    return suffix in IMAGE_SUFFIXES


def _list_remote(source: str) -> Listing:
    """Lists a remote folder, or one in an archive: ``zip://photos::s3://bucket/all.zip``."""
    try:
        storage, root = url_to_fs(source)
        names = storage.find(root)
    except (ImportError, OSError, ValueError) as error:
        raise SourceError(f"{source}: {error}") from error
    _, separator, archive = source.partition("::")
    top = PurePosixPath(root.strip("/"))
    candidates, skipped = [], Counter[str]()
    for name in sorted(names):
        folder = PurePosixPath(name.strip("/")).parent
        if any(_is_aside(part) for part in folder.parts[len(top.parts) :]) or not _is_photo(name, skipped):
            continue
        label = None if folder == top else folder.name
        uri = storage.unstrip_protocol(name) + separator + archive
        candidates.append(Candidate(uri, label, {}, is_label_of_folder=True))
    if not candidates:
        raise _no_photos(source)
    return Listing(candidates, skipped)


def _no_photos(source: str | Path) -> SourceError:
    return SourceError(f"{source} names no photos ({', '.join(sorted(IMAGE_SUFFIXES))})")


def _from_list(path: Path) -> list[Candidate]:
    content = path.read_bytes()
    if b"\0" in content:
        raise SourceError(f"{path} is not a text file; give a folder, a text list or a .csv or .parquet table")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(f"{path}, line {line}: not UTF-8; save the list in that encoding") from error
    names = [re.sub(r"(^|\s)#.*", "", line).strip() for line in re.split("\r\n|\n|\r", text)]
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
