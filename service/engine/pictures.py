"""Image files of photos in their present state."""

import errno
import hashlib
import io
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from fsspec.core import url_to_fs

from index.gallery.photos import Photo
from index.gallery.uris import local_path, resolve_uri
from service.errors import RequestProblem
from training.base.regular_files import MAX_BYTES, UnusableFile, open_regular

__all__ = ["PhotoFile", "open_photo"]

logger = logging.getLogger(__name__)

_GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True)
class PhotoFile:
    """A photo's file, open for reading.

    Attributes:
        uri: location of the file.
        file: the open file, positioned at its beginning.
        size: size in bytes, if it is known.
        version: text that differs whenever the file has changed.
        is_local: whether the file lies on this machine.
        pixels: width times height of the photo as it was indexed.
    """

    uri: str
    file: BinaryIO
    size: int | None
    version: str
    is_local: bool
    pixels: int = 0

    def read(self) -> bytes:
        """The whole file.

        Raises:
            RequestProblem: 503 if it cannot be read at the moment.
        """
        try:
            self.file.seek(0)
            return self.file.read(MAX_BYTES if self.size is None else self.size)
        except Exception as error:  # each kind of storage has its own exceptions
            raise _unreadable(self.uri, error) from error


def open_photo(gallery: Path, photo: Photo) -> PhotoFile:
    """Opens the present file of a photo, which may have changed since the photo was indexed.

    What a symbolic link leads to must be what was indexed, for a link may have been put there since.

    Raises:
        RequestProblem: 404 if the file no longer exists or must not be sent, 503 if it cannot be read at the moment.
    """
    uri = resolve_uri(photo.uri, gallery)
    path = local_path(uri)
    try:
        opened = _open_remote(uri) if path is None else _open_local(path, gallery, photo)
        return replace(opened, pixels=photo.width * photo.height)
    except _GONE as error:
        raise RequestProblem(404, "the photo's file no longer exists") from error
    except UnusableFile as error:
        raise RequestProblem(404, f"the photo's file is {error.strerror}") from error
    except Exception as error:  # each kind of storage has its own exceptions
        raise _unreadable(uri, error) from error


def _unreadable(uri: str, error: Exception) -> RequestProblem:
    logger.error("%s cannot be read: %s", uri, error)
    return RequestProblem(503, "the photo's file cannot be read at the moment; the service's log says why")


def _open_local(path: Path, gallery: Path, photo: Photo) -> PhotoFile:
    linked = _is_linked(path, gallery)
    file = open_regular(path, follow_link=linked)
    facts = os.fstat(file.fileno())  # of the opened file, even if another has its name by now
    if linked and not _is_as_indexed(file, facts.st_size, photo):
        file.close()
        raise UnusableFile(errno.ELOOP, "behind a symbolic link and not as it was indexed; index it again")
    version = _digest(facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return PhotoFile(str(path), file, facts.st_size, version, is_local=True)


def _is_linked(path: Path, gallery: Path) -> bool:
    """Whether the name of a photo, or of a folder on the way to it, is a symbolic link; the gallery itself may be."""
    here = gallery.absolute()
    if path.is_relative_to(here):
        path = gallery.resolve() / path.relative_to(here)
    return os.path.realpath(path) != os.path.normpath(path)


def _is_as_indexed(file: io.BufferedReader, size: int, photo: Photo) -> bool:
    if size != photo.bytes or hashlib.file_digest(file, "sha256").hexdigest() != photo.sha256:
        return False
    file.seek(0)
    return True


def _open_remote(uri: str) -> PhotoFile:
    storage, path = url_to_fs(uri)
    facts = storage.info(path)
    size = facts.get("size")
    if size is not None and size > MAX_BYTES:
        raise UnusableFile(errno.EFBIG, f"larger than {MAX_BYTES >> 20} MiB")
    return PhotoFile(uri, storage.open(path, "rb"), size, _digest(sorted(facts.items())), is_local=False)


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
