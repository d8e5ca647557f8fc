"""Pictures of photos: the file as it is now, and thumbnails kept in bounded memory."""

import hashlib
import io
import logging
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread
from fsspec.core import url_to_fs

from index.gallery.catalogue import Photo
from index.gallery.uris import resolve_uri
from index.sources import local_path
from service.encoding.decoding import Decoder
from service.errors import RequestProblem
from training.base.errors import ImageError, ImageTooLarge

__all__ = ["PhotoFile", "Thumbnails", "open_photo"]

logger = logging.getLogger(__name__)

_GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True)
class PhotoFile:
    """A photo's file, open for reading.

    Attributes:
        uri: where it is.
        file: at its beginning.
        size: in bytes, if it is known.
        version: differs whenever the file has changed.
        is_local: whether it is a file of this machine.
    """

    uri: str
    file: BinaryIO
    size: int | None
    version: str
    is_local: bool


def open_photo(gallery: Path, photo: Photo) -> PhotoFile:
    """Opens the file of a photo of a gallery as it is now, which may be another than the one that was indexed.

    Raises:
        RequestProblem: 404 if it is not there any more, 503 if it cannot be read at the moment.
    """
    uri = resolve_uri(photo.uri, gallery)
    try:
        return _open_remote(uri) if local_path(uri) is None else _open_local(uri)
    except _GONE as error:
        raise RequestProblem(404, "the photo's file is not there any more") from error
    except Exception as error:  # each kind of storage has exceptions of its own
        raise _unreadable(uri, error) from error


def _unreadable(uri: str, error: Exception) -> RequestProblem:
    logger.error("%s cannot be read: %s", uri, error)
    return RequestProblem(503, "the photo's file cannot be read at the moment; the service's log says why")


def _open_local(uri: str) -> PhotoFile:
    file = Path(uri).open("rb")  # noqa: SIM115 - whoever gets it closes it
    facts = os.fstat(file.fileno())  # of what was opened, whatever has the name by now
    version = _digest(facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return PhotoFile(uri, file, facts.st_size, version, is_local=True)


def _open_remote(uri: str) -> PhotoFile:
    storage, path = url_to_fs(uri)
    facts = storage.info(path)
    return PhotoFile(uri, storage.open(path, "rb"), facts.get("size"), _digest(sorted(facts.items())), is_local=False)


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


class Thumbnails:
    """Least recently used first to go.

    Args:
        max_bytes: memory for finished thumbnails.
        decoder: of photos.
    """

    def __init__(self, max_bytes: int, decoder: Decoder) -> None:
        self._max_bytes = max_bytes
        self._decoder = decoder
        self._line = anyio.CapacityLimiter(decoder.max_at_once)  # more threads would only wait for the decoder
        self._kept: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    async def get(self, opened: PhotoFile, size: int) -> bytes:
        """The photo as WebP, scaled down to fit a square of ``size`` pixels.

        Args:
            opened: the photo's file.
            size: in pixels.

        Raises:
            RequestProblem: 404 if its file is no image any more, or one that is too large; 503 if it cannot be read
                at the moment.
        """
        key = (opened.uri, opened.version, size)
        if known := self._find(key):
            return known
        return await anyio.to_thread.run_sync(self._make, key, opened, size, limiter=self._line)

    def _make(self, key: tuple[str, str, int], opened: PhotoFile, size: int) -> bytes:
        content = self._find(key) or self._render(opened, size)  # another may have made it meanwhile
        with self._lock:
            if key not in self._kept:
                self._kept[key] = content
                self._used += len(content)
            while self._used > self._max_bytes:
                self._used -= len(self._kept.popitem(last=False)[1])
        return content

    def _find(self, key: tuple[str, str, int]) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _render(self, opened: PhotoFile, size: int) -> bytes:
        try:
            content = opened.file.read()
        except Exception as error:  # each kind of storage has exceptions of its own
            raise _unreadable(opened.uri, error) from error
        try:
            with self._decoder.image(content, size) as image:
                image.thumbnail((size, size))
        except ImageTooLarge as error:
            raise RequestProblem(404, f"there is no thumbnail: {error.reason}") from error
        except ImageError as error:
            raise RequestProblem(404, f"the photo's file is not an image any more: {error.reason}") from error
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=82)
        return buffer.getvalue()
