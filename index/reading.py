"""Reading photos for an indexing job: from URIs to embeddings."""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor
from tqdm import tqdm

from index.errors import IndexingError
from index.gallery.palette import color_shares
from index.gallery.photos import KnownContent, PhotoState
from index.gallery.uris import is_text, local_path, resolve_uri
from index.sources import Candidate, read_uri
from training.base.errors import ImageError
from training.base.prefetch import map_ahead
from training.base.rejects import reject_reason
from training.inference.batching import one_by_one
from training.inference.plan import make_plan, torch_threads
from training.inference.runners import Runner
from training.model.images import MAX_PIXELS, read_image
from training.model.preprocessing import Preprocessing

__all__ = ["Destination", "KnownPhotos", "Prepared", "Reject", "Unchanged", "read_photos"]

_STATES = 512  # photos whose states are looked up at once


class KnownPhotos(Protocol):
    """What is known of photos already, as a ``Catalogue`` has it."""

    def states(self, uris: Iterable[str]) -> Mapping[str, PhotoState]:
        """See ``Catalogue.states``."""

    def same_content(self, sha256: str) -> KnownContent | None:
        """See ``Catalogue.same_content``."""


class Destination(Protocol):
    """Where photos go, such as a ``Gallery``."""

    @property
    def path(self) -> Path:
        """The folder that relative URIs are taken from."""

    @property
    def catalogue(self) -> KnownPhotos:
        """What is known of photos already."""


class _Decoded(NamedTuple):
    """A decoded photo: its size in pixels, upright, what the encoder is to embed, ``(3, size, size)``, and its colours.

    ``colors`` is what ``index.gallery.palette.color_shares`` measures.
    """

    width: int
    height: int
    image: Tensor
    colors: int


@dataclass(frozen=True)
class Prepared:
    """A photo read, with what there is to know of its content.

    What the gallery knew is taken along: when the batch is written, the photo that it was known from may have other
    content.

    Attributes:
        fresh: whether it was embedded, because the gallery did not know its content.
    """

    candidate: Candidate
    sha256: str
    bytes: int
    modified: int | None
    content: KnownContent
    fresh: bool


class Unchanged(NamedTuple):
    """A photo whose file is as it was when the gallery took it in."""

    candidate: Candidate


class Reject(NamedTuple):
    """A photo that cannot be used, and why."""

    candidate: Candidate
    reason: str


def read_photos(
    gallery: Destination, photos: Sequence[Candidate], runner: Runner, max_pixels: int = MAX_PIXELS
) -> Iterator[Prepared | Unchanged | Reject]:
    """Reads, decodes and embeds photos in threads, ahead of who takes them.

    Whatever goes wrong with one photo is a reject of that photo; only an error of the gallery, of the encoder or of the
    machine ends the job.

    Args:
        gallery: where the photos go; files that it has already, unchanged, are not read.
        photos: to read.
        runner: embeds the photos that the gallery does not know.
        max_pixels: see ``read_image``.

    Yields:
        What became of each photo, in order.
    """
    encoder = runner.encoder
    plan = make_plan(encoder.device)

    def prepare(task: tuple[Candidate, PhotoState | None]) -> Prepared | Unchanged | Reject:
        candidate, state = task
        try:
            read = _read(candidate, state, gallery, encoder.preprocessing, max_pixels)
        except (IndexingError, MemoryError):  # of the gallery, or the machine
            raise
        except Exception as error:  # each kind of storage has exceptions of its own; none may end the job
            return Reject(candidate, reject_reason(error))
        if isinstance(read, Unchanged):
            return read
        sha256, size, modified, content = read
        if isinstance(content, KnownContent):
            return Prepared(candidate, sha256, size, modified, content, fresh=False)
        known = KnownContent(content.width, content.height, embed(content.image), content.colors)
        return Prepared(candidate, sha256, size, modified, known, fresh=True)

    seconds = 0.1 if sys.stderr.isatty() else 10  # between two reports; a log needs few
    with (
        torch_threads(plan.threads),
        one_by_one(runner, plan.max_batch) as embed,
        tqdm(total=len(photos), desc="indexing", unit="photo", dynamic_ncols=True, mininterval=seconds) as progress,
    ):
        for result in map_ahead(prepare, _with_states(gallery, photos), workers=plan.at_once):
            yield result
            progress.update()


def _with_states(gallery: Destination, photos: Sequence[Candidate]) -> Iterator[tuple[Candidate, PhotoState | None]]:
    for start in range(0, len(photos), _STATES):
        some = photos[start : start + _STATES]
        states = gallery.catalogue.states(photo.uri for photo in some)
        yield from ((photo, states.get(photo.uri)) for photo in some)


def _read(
    candidate: Candidate, state: PhotoState | None, gallery: Destination, preprocessing: Preprocessing, max_pixels: int
) -> tuple[str, int, int | None, KnownContent | _Decoded] | Unchanged:
    if not is_text(candidate.uri):
        raise ImageError("its path is not UTF-8")
    uri = resolve_uri(candidate.uri, gallery.path)
    path = local_path(uri)
    modified = path.stat().st_mtime_ns if path else None
    if state and (path is None or (state.modified, state.bytes) == (modified, path.stat().st_size)):
        return Unchanged(candidate)  # what a remote URI names is taken not to change
    content = read_uri(uri)
    sha256 = hashlib.sha256(content).hexdigest()
    known: KnownContent | _Decoded | None = gallery.catalogue.same_content(sha256)
    if known is None or known.colors is None:
        facts, image = read_image(content, max_pixels=max_pixels, draft=preprocessing.draft)
        colors = color_shares(image)
        if known is None:
            known = _Decoded(facts.width, facts.height, preprocessing(image), colors)
        else:
            known = known._replace(colors=colors)
    return sha256, len(content), modified, known
