"""Pictures of photos: the indexed file, and thumbnails kept in bounded memory."""

import io
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from index.gallery.catalogue import Photo
from index.gallery.uris import resolve_uri
from index.sources import read_uri
from service.errors import RequestProblem
from training.base.errors import ImageError
from training.model.images import open_image

__all__ = ["Thumbnails", "image_format", "read_photo"]


def read_photo(gallery: Path, photo: Photo) -> bytes:
    """The file of a photo of a gallery.

    Raises:
        RequestProblem: 404 if it is not there any more.
    """
    try:
        return read_uri(resolve_uri(photo.uri, gallery))
    except OSError as error:
        raise RequestProblem(404, "the photo's file is not there any more") from error


def image_format(content: bytes) -> str | None:
    """What the header says an image is, such as ``JPEG``; None for anything else."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.format
    except Exception:  # hostile bytes raise nearly anything
        return None


class Thumbnails:
    """Least recently used first to go.

    Args:
        max_bytes: memory for finished thumbnails.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    def get(self, gallery: Path, photo: Photo, size: int) -> bytes:
        """A photo of a gallery as WebP, scaled down to fit a square of ``size`` pixels.

        Raises:
            RequestProblem: 404 if its file is gone or no image any more.
        """
        key = (resolve_uri(photo.uri, gallery), photo.sha256, size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        content = _render(gallery, photo, size)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = content
                self._used += len(content)
            while self._used > self._max_bytes:
                self._used -= len(self._kept.popitem(last=False)[1])
        return content


def _render(gallery: Path, photo: Photo, size: int) -> bytes:
    try:
        image = open_image(read_photo(gallery, photo), draft=size)
    except ImageError as error:
        raise RequestProblem(404, f"the photo's file is not an image any more: {error.reason}") from error
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return buffer.getvalue()
