"""What a catalogue tells and is told of photos."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "KnownContent", "NewPhoto", "Photo", "PhotoState", "content_key"]


class Photo(NamedTuple):
    """One photo of a gallery. ``bytes`` is the size of its file; ``width`` and ``height`` are in pixels.

    ``colors`` are names of ``index.gallery.palette.PALETTE``, or None if they were never measured.
    """

    id: int
    uri: str
    sha256: str
    bytes: int
    width: int
    height: int
    label: str | None
    metadata: dict[str, Any]
    colors: list[str] | None


class NewPhoto(NamedTuple):
    """A photo to add. ``modified`` is its file's modification time in nanoseconds, or None if there is none.

    ``colors`` is what ``index.gallery.palette.color_shares`` measures.
    """

    uri: str
    sha256: str
    bytes: int
    modified: int | None
    width: int
    height: int
    label: str | None
    metadata: dict[str, Any]
    vector: NDArray[np.float32]
    colors: int | None = None


class PhotoState(NamedTuple):
    """Facts that show whether a file has changed since it was indexed."""

    sha256: str
    bytes: int
    modified: int | None


class KnownContent(NamedTuple):
    """Facts that depend on a photo's bytes alone; ``width`` and ``height`` are in pixels, ``vector`` is ``(dim,)``."""

    width: int
    height: int
    vector: NDArray[np.float32]
    colors: int | None


class Block(NamedTuple):
    """Photos by ascending id: ids ``(n,)``, content keys ``(n,)`` and vectors ``(n, dim)``.

    Identical files have the same content key.
    """

    ids: NDArray[np.int64]
    contents: NDArray[np.int64]
    vectors: NDArray[np.float32]


def content_key(sha256: str) -> int:
    """Returns a number that stands for a photo's bytes: the first 60 bits of their SHA-256, given in hexadecimal."""
    return int(sha256[:15], 16)
