"""Thumbnails of photos: made once by one request at a time, and kept on disk."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from service.encoding.decoding import Decoder
from service.engine.pictures import PhotoFile
from service.engine.shelf import Shelf
from service.errors import RequestProblem
from training.base.cache import default_cache_directory
from training.base.errors import ImageError, ImageTooCostly, ImageTooLarge

__all__ = ["SIZES", "Thumbnails", "ladder_size"]

SIZES = (32, 64, 128, 256, 384, 512, 768, 1024, 2048)
"""Sides of the squares that thumbnails fit, in pixels."""

_REMEMBERED = 100_000  # files whose content is known

Key = tuple[str, str, int]  # location and version of a file, and the size


def ladder_size(size: int) -> int:
    """The smallest size of a thumbnail that is at least this one, or the largest that there is."""
    return next((each for each in SIZES if each >= size), SIZES[-1])


@dataclass
class _Making:
    """A thumbnail that a request is making, while others wait for it."""

    done: anyio.Event = field(default_factory=anyio.Event)
    content: bytes | None = None
    error: Exception | None = None


class Thumbnails:
    """Thumbnails by the content of their photo's file. Only the event loop may call ``get``.

    A file is hashed when it is first asked for. What cannot be made is remembered too, so that no file costs the time
    of a decoder again and again.

    Args:
        max_bytes: disk space for thumbnails, in bytes; 0 keeps none.
        decoder: decoder of photos.
        folder: where thumbnails are kept; in the user's cache when omitted.
    """

    def __init__(self, max_bytes: int, decoder: Decoder, folder: Path | None = None) -> None:
        self._shelf = Shelf(folder or default_cache_directory() / "thumbnails", max_bytes)
        self._decoder = decoder
        self._line = anyio.CapacityLimiter(decoder.max_at_once)  # each holds a whole file in memory
        self._making: dict[Key, _Making] = {}
        self._lock = threading.Lock()
        self._digests: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._refused: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def get(self, opened: PhotoFile, size: int) -> bytes:
        """Returns the photo as WebP, scaled down to fit a square.

        Args:
            opened: the photo's file.
            size: side of the square in pixels, one of ``SIZES``.

        Raises:
            RequestProblem: 404 if the file is no longer an image, or the image is too large or takes too long to
                decode; 503 if it cannot be read or decoded at the moment.
        """
        key = (opened.uri, opened.version, size)
        while (making := self._making.get(key)) is not None:
            await making.done.wait()
            if making.error is not None:
                raise making.error
            if making.content is not None:
                return making.content
        making = self._making[key] = _Making()
        try:
            making.content = await anyio.to_thread.run_sync(self._find_or_make, opened, size, limiter=self._line)
        except Exception as error:
            making.error = error
            raise
        finally:
            del self._making[key]
            making.done.set()
        return making.content

    def _find_or_make(self, opened: PhotoFile, size: int) -> bytes:
        file = (opened.uri, opened.version)
        with self._lock:
            digest, refused = self._digests.get(file), self._refused.get(file)
        if refused is not None:
            raise RequestProblem(404, refused)
        content = None
        if digest is None:
            content = opened.read()
            digest = hashlib.sha256(content).hexdigest()
            self._remember(self._digests, file, digest)
        name = f"{digest}-{size}"
        if (known := self._shelf.read(name)) is not None:
            return known
        made = self._make(content or opened.read(), file, opened.pixels, size)
        self._shelf.write(name, made)
        return made

    def _make(self, content: bytes, file: tuple[str, str], pixels: int, size: int) -> bytes:
        try:
            return self._decoder.thumbnail(content, size, pixels)
        except (ImageTooLarge, ImageTooCostly) as error:
            reason = f"there is no thumbnail: {error.reason}"
        except ImageError as error:
            reason = f"the photo's file is no longer an image: {error.reason}"
        self._remember(self._refused, file, reason)
        raise RequestProblem(404, reason)

    def _remember(self, known: OrderedDict[tuple[str, str], str], file: tuple[str, str], text: str) -> None:
        with self._lock:
            known[file] = text
            while len(known) > _REMEMBERED:
                known.popitem(last=False)
