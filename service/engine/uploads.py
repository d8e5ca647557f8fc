"""Photos that clients upload, stored in the gallery's folder under their SHA-256."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.gallery.photos import NewPhoto
from index.gallery.uris import UPLOADS, is_upload
from service.engine.serving import Serving
from service.http.stopwatch import Stopwatch
from service.schemas import PhotoDescription
from training.base.artifacts import atomic_write

__all__ = ["Upload", "discard_upload", "keep_upload", "prepare_upload"]


@dataclass(frozen=True)
class Upload:
    """A photo that was received and embedded but not stored yet; ``vector`` is ``(dim,)``.

    ``colors`` is what ``index.gallery.palette.color_shares`` measures.
    """

    content: bytes
    sha256: str
    suffix: str
    size: tuple[int, int]
    vector: NDArray[np.float32]
    label: str | None
    metadata: dict[str, Any]
    colors: int | None = None


def prepare_upload(serving: Serving, content: bytes, description: PhotoDescription, stopwatch: Stopwatch) -> Upload:
    """Checks and embeds a photo.

    Raises:
        RequestProblem: 400 if the bytes are not a usable image, 413 if it has too many pixels.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    known = serving.catalogue.same_content(sha256)  # so that identical files score exactly the same
    vector = known[2] if known else serving.model.embed(content, "photo", stopwatch)
    facts = serving.model.describe(content)
    return Upload(
        content=content,
        sha256=sha256,
        suffix=facts.suffix,
        size=(facts.width, facts.height),
        vector=vector,
        label=description.label,
        metadata=description.metadata,
        colors=serving.model.colors(content) if known is None or known.colors is None else known.colors,
    )


def keep_upload(gallery: Path, upload: Upload) -> NewPhoto:
    """Writes the file completely or not at all; returns the entry for the catalogue."""
    uri = f"{UPLOADS}/{upload.sha256[:2]}/{upload.sha256}{upload.suffix}"
    path = gallery / uri
    if not path.is_file():
        with atomic_write(path) as temporary:
            temporary.write_bytes(upload.content)
    return NewPhoto(
        uri=uri,
        sha256=upload.sha256,
        bytes=len(upload.content),
        modified=path.stat().st_mtime_ns,
        width=upload.size[0],
        height=upload.size[1],
        label=upload.label,
        metadata=upload.metadata,
        vector=upload.vector,
        colors=upload.colors,
    )


def discard_upload(gallery: Path, uri: str) -> None:
    """Deletes the file of a removed photo if a client uploaded it; other files are left alone."""
    if is_upload(uri):
        (gallery / uri).unlink(missing_ok=True)
