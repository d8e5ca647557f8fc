"""Reading photos for an indexing job: from URIs to pictures that are ready for the encoder."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from tqdm import tqdm

from index.errors import IndexingError
from index.gallery.directory import Gallery
from index.gallery.palette import color_shares
from index.gallery.photos import KnownContent, PhotoState
from index.gallery.uris import is_text, local_path, resolve_uri
from index.sources import Candidate, read_uri
from training.base.errors import ImageError
from training.base.prefetch import map_ahead
from training.base.rejects import reject_reason
from training.model.bundle import Bundle
from training.model.images import MAX_PIXELS, read_image
from training.model.preprocessing import Preprocessing

__all__ = ["Decoded", "Prepared", "Reject", "Unchanged", "read_photos"]

_STATES = 512  # photos whose states are looked up at once


class Decoded(NamedTuple):
    """A decoded photo: its size in pixels, upright, what the encoder is to embed, ``(3, size, size)``, and its colours.

    ``colors`` is what ``index.gallery.palette.color_shares`` measures.
    """

    width: int
    height: int
    image: Tensor
    colors: int


@dataclass(frozen=True)
class Prepared:
    """A photo read, with what the gallery knows of its content, or decoded.

    What is known is taken along: when the batch is written, the photo that it was known from may have other content.
    """

    candidate: Candidate
    sha256: str
    bytes: int
    modified: int | None
    content: KnownContent | Decoded


class Unchanged(NamedTuple):
    """A photo whose file is as it was when the gallery took it in."""

    candidate: Candidate


class Reject(NamedTuple):
    """A photo that cannot be used, and why."""

    candidate: Candidate
    reason: str


def read_photos(
    gallery: Gallery, photos: Sequence[Candidate], bundle: Bundle, max_pixels: int = MAX_PIXELS
) -> Iterator[Prepared | Unchanged | Reject]:
    """Reads and decodes photos in threads, ahead of the encoder.

    Whatever goes wrong with one photo is a reject of that photo; only an error of the gallery or of the machine ends
    the job.

    Args:
        gallery: where the photos go; files that it has already, unchanged, are not read.
        photos: to read.
        bundle: its photo encoder's preprocessing is applied.
        max_pixels: see ``read_image``.

    Yields:
        What became of each photo, in order.
    """

    def prepare(task: tuple[Candidate, PhotoState | None]) -> Prepared | Unchanged | Reject:
        candidate, state = task
        try:
            return _prepare(candidate, state, gallery, bundle.photo.preprocessing, max_pixels)
        except (IndexingError, MemoryError):  # of the gallery, or the machine
            raise
        except Exception as error:  # each kind of storage has exceptions of its own; none may end the job
            return Reject(candidate, reject_reason(error))

    seconds = 0.1 if sys.stderr.isatty() else 10  # between two reports; a log needs few
    with tqdm(total=len(photos), desc="indexing", unit="photo", dynamic_ncols=True, mininterval=seconds) as progress:
        for result in map_ahead(prepare, _with_states(gallery, photos)):
            yield result
            progress.update()


def _with_states(gallery: Gallery, photos: Sequence[Candidate]) -> Iterator[tuple[Candidate, PhotoState | None]]:
    for start in range(0, len(photos), _STATES):
        some = photos[start : start + _STATES]
        states = gallery.catalogue.states(photo.uri for photo in some)
        yield from ((photo, states.get(photo.uri)) for photo in some)


def _prepare(
    candidate: Candidate, state: PhotoState | None, gallery: Gallery, preprocessing: Preprocessing, max_pixels: int
) -> Prepared | Unchanged:
    if not is_text(candidate.uri):
        raise ImageError("its path is not UTF-8")
    uri = resolve_uri(candidate.uri, gallery.path)
    path = local_path(uri)
    modified = path.stat().st_mtime_ns if path else None
    if state and (path is None or (state.modified, state.bytes) == (modified, path.stat().st_size)):
        return Unchanged(candidate)  # what a remote URI names is taken not to change
    content = read_uri(uri)
    sha256 = hashlib.sha256(content).hexdigest()
    known: KnownContent | Decoded | None = gallery.catalogue.same_content(sha256)
    if known is None or known.colors is None:
        facts, image = read_image(content, max_pixels=max_pixels, draft=preprocessing.draft)
        colors = color_shares(image)
        if known is None:
            known = Decoded(facts.width, facts.height, preprocessing(image), colors)
        else:
            known = known._replace(colors=colors)
    return Prepared(candidate, sha256, len(content), modified, known)
