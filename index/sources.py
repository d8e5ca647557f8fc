"""Where photos come from: a folder, a text list or a table; local paths or any URI that fsspec opens."""

import errno
import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import fsspec
from fsspec.core import url_to_fs

from index.errors import SourceError
from index.gallery.uris import canonical_uris, local_path
from index.photo_tables import PhotoRow, read_photo_table
from training.base.charsets import text_encoding
from training.base.regular_files import MAX_BYTES, UnusableFile, read_regular
from training.base.tables import TABLE_SUFFIXES
from training.model.formats import EXTRA, FORMAT_SUFFIXES
from training.model.images import IMAGE_SUFFIXES

__all__ = ["Candidate", "Listing", "list_folder", "list_photos", "read_uri"]

# Folders of thumbnails, of what was deleted, and of file systems; hidden ones are passed over as well.
_SIDE_FOLDERS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information", "__macosx"}
)
_LINKS = "links to folders"
_FORKS = "._ files of a Mac"  # what else it keeps of a file, beside the file itself
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
        roots: folders that were searched with their subfolders: the one named, and those that links led to.
    """

    def __init__(
        self,
        photos: Iterable[Candidate] = (),
        skipped: Mapping[str, int] | None = None,
        unreadable: Sequence[str] = (),
        roots: Iterable[Path] = (),
    ) -> None:
        super().__init__(photos)
        self.skipped = Counter(skipped or {})
        self.unreadable = tuple(unreadable)
        self.roots = tuple(roots)

    @property
    def notes(self) -> str:
        """What was left out: ``37 files skipped: 30 .heic, 7 .txt``, and folders, a line each; empty if nothing was."""
        lines = [f"left out, {problem}" for problem in self.unreadable]
        return "\n".join([*lines, self._summary()] if self.skipped else lines)

    def _summary(self) -> str:
        kinds = [f"{count} {suffix}" for suffix, count in self.skipped.most_common(_SHOWN)]
        if more := len(self.skipped) - len(kinds):
            kinds[-1] += f" and {more} other kinds"
        total = self.skipped.total()
        return f"{total} file{'s' * (total != 1)} skipped: {', '.join(kinds)}{_advice(self.skipped)}"


def list_photos(source: str | Path, *, encoding: str | None = None, follow_links: bool = False) -> Listing:
    """Lists the photos of a folder, a text list or a table; a URI that is named twice is listed once.

    Args:
        source: a folder or its URI, searched with its subfolders, whose names below it become labels; a table (see
            ``open_table``) with a column ``uri`` (or ``path``), optionally ``label``, and metadata in the others,
            which in CSV are text unless a column is called ``NAME:int``, ``NAME:float`` or ``NAME:bool``;
            or a text file with one path or URI a line, and comments, which begin with ``#`` at the start of a line or
            after a space. Relative paths are taken from the folder that holds the list or table.
        encoding: of the characters of a list or a CSV table; found out when omitted.
        follow_links: see ``list_folder``.

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
        return list_folder(source, follow_links=follow_links)
    if not source.exists():
        raise SourceError(f"{source} does not exist; --photos needs a folder, a list or a table of photos")
    read = read_photo_table if source.suffix.lower() in TABLE_SUFFIXES else _from_list
    candidates = [
        Candidate(_absolute(name, source.parent), label, metadata) for name, label, metadata in read(source, encoding)
    ]
    if not candidates:
        raise _no_photos(source)
    uris = canonical_uris(candidate.uri for candidate in candidates)
    found = {uri: candidate._replace(uri=uri) for uri, candidate in zip(uris, candidates, strict=True)}
    return Listing(found.values(), roots=[source.parent.resolve()])


def list_folder(folder: Path, *, follow_links: bool = False) -> Listing:
    """Lists the photos of a folder and its subfolders, but not of hidden ones or those of thumbnails and waste.

    Whatever has the name of a photo is listed, so that a job can say why it cannot be used.

    Args:
        folder: the folder.
        follow_links: whether links to folders are followed. Each folder is listed once, so that loops end.

    Raises:
        SourceError: if there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder")
    photos, skipped, errors, walked = list[Candidate](), Counter[str](), list[OSError](), set[str]()
    roots: dict[str, str | None] = {str(folder.resolve()): None}  # and the label of photos right in them
    waiting = list(roots)
    while waiting:
        root = waiting.pop()
        for place, links, names in _walk(root, walked, errors):
            label = roots[root] if place == root else PurePosixPath(place).name
            images = [os.path.join(place, name) for name in names if _is_photo(name, skipped)]  # noqa: PTH118 - faster
            photos += [Candidate(image, label, {}, is_label_of_folder=True) for image in images]
            if follow_links:
                targets = {os.path.realpath(link): PurePosixPath(link).name for link in links}
                waiting += targets
                roots = {**targets, **roots}
            else:
                skipped[_LINKS] += len(links)
    unreadable = [f"{error.filename}: {error.strerror}" for error in errors]
    if not photos:
        raise SourceError(f"{unreadable[0]}; no photos were found") if unreadable else _no_photos(folder, skipped)
    return Listing(sorted(photos, key=lambda photo: Path(photo.uri)), +skipped, unreadable, map(Path, roots))


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


def _walk(root: str, walked: set[str], errors: list[OSError]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Folders from a root on that were not walked yet, each with the links to folders and the files in it."""
    if root in walked:
        return
    for place, folders, names in os.walk(root, onerror=errors.append):
        walked.add(place)
        paths = {name: os.path.join(place, name) for name in folders if not _is_aside(name)}  # noqa: PTH118 - faster
        links = [path for path in paths.values() if os.path.islink(path)]  # noqa: PTH114
        folders[:] = [name for name, path in paths.items() if path not in walked]
        yield place, links, names


def _is_aside(folder: str) -> bool:
    return folder.startswith(".") or folder.lower() in _SIDE_FOLDERS


def _is_photo(name: str, skipped: Counter[str]) -> bool:
    """Whether a name, or the last part of a path, is that of an image by its suffix; if not, it is counted."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if path.name.startswith("._"):
        skipped[_FORKS] += 1
        return False
    if suffix not in IMAGE_SUFFIXES:
        skipped[suffix or "without suffix"] += 1
    return suffix in IMAGE_SUFFIXES


def _advice(skipped: Iterable[str]) -> str:
    """What to install where files were skipped that it would make readable."""
    lacking = sorted(suffix for suffix in skipped if FORMAT_SUFFIXES.get(suffix) is False)
    return f'; to read {", ".join(lacking)}: pip install "{EXTRA}"' if lacking else ""


def _list_remote(source: str) -> Listing:
    """Lists a remote folder, or one in an archive: ``zip://photos::s3://bucket/all.zip``."""
    try:
        storage, root = url_to_fs(source)
        names = storage.find(root)
    except Exception as error:  # each kind of storage and archive has exceptions of its own
        raise SourceError(f"{source}: {str(error) or type(error).__name__}") from error
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
        raise _no_photos(source, skipped)
    return Listing(candidates, skipped)


def _no_photos(source: str | Path, skipped: Iterable[str] = ()) -> SourceError:
    return SourceError(f"{source} names no photos ({', '.join(sorted(IMAGE_SUFFIXES))}){_advice(skipped)}")


def _from_list(path: Path, encoding: str | None) -> list[PhotoRow]:
    content = path.read_bytes()
    has_mark = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    if b"\0" in content and not has_mark and not encoding:
        raise SourceError(f"{path} is not a text file; give a folder, a text list or a table such as .csv")
    name = encoding or ("utf-16" if has_mark else "utf-8")  # not guessed: names of files must be right to the letter
    try:
        text = content.decode(text_encoding(path, name))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(f"{path}, line {line}: not {name.upper()}; name the encoding with --encoding") from error
    names = [re.sub(r"(^|\s)#.*", "", line).strip() for line in re.split("\r\n|\n|\r", text)]
    return [PhotoRow(name, None, {}) for name in names if name]


def _absolute(name: str, folder: Path) -> str:
    return name if "://" in name else str((folder / name).absolute())
