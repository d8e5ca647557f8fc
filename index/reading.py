"""Reading photos for an indexing job: from URIs to embeddings.

Each thread takes a few photos at a time. It reads and decodes them one by one, then embeds them together. There are
more threads than cores, so that some wait for disks or networks while as many as there are cores compute.
"""

import hashlib
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from index.errors import IndexingError
from index.gallery.palette import color_shares
from index.gallery.photos import KnownContent, PhotoState
from index.gallery.uris import is_text, local_path, resolve_uri
from index.sources import Candidate, read_uri
from index.stage_times import StageTimes
from training.base.errors import ImageError
from training.base.prefetch import map_ahead
from training.base.regular_files import read_regular
from training.base.rejects import reject_reason
from training.inference.plan import Plan, make_plan, torch_threads
from training.inference.runners import Runner
from training.model.images import MAX_PIXELS, read_image

__all__ = ["Destination", "KnownPhotos", "Prepared", "Reject", "Unchanged", "read_photos", "stage_times"]

_STATES = 512  # photos whose states are looked up at once
_TOGETHER = 8  # photos of a thread: code and weights that stay in a core's cache serve all of them
_AHEAD = 64  # photos that may be done before they are asked for
_THREADS = 3  # for each core
_GPU_AT_ONCE = 2  # batches: the next is on its way while one is computed


Task = tuple[Candidate, PhotoState | None]


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
    """A decoded photo: its size in pixels, upright, its colours, and what the encoder is to embed.

    ``colors`` is what ``index.gallery.palette.color_shares`` measures, ``image`` is ``(3, size, size)``.
    """

    width: int
    height: int
    colors: int
    image: Tensor


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


class _Read(NamedTuple):
    """A photo that was read: the facts of its file, and what is known or decoded of its content."""

    candidate: Candidate
    sha256: str
    bytes: int
    modified: int | None
    content: KnownContent | _Decoded


def stage_times(device: torch.device) -> StageTimes:
    """Times of the stages of a job on a device: reading, decoding, encoding and writing."""
    plan = make_plan(device)
    return StageTimes(
        {"reading": _THREADS * plan.cores, "decoding": plan.cores, "encoding": _encoders(plan), "writing": 1}
    )


def read_photos(
    gallery: Destination,
    photos: Sequence[Candidate],
    runner: Runner,
    times: StageTimes,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Prepared | Unchanged | Reject]:
    """Reads, decodes and embeds photos in threads, ahead of who takes them.

    Whatever goes wrong with one photo is a reject of that photo; only an error of the gallery, of the encoder or of the
    machine ends the job.

    Args:
        gallery: where the photos go; files that it has already, unchanged, are not read.
        photos: to read.
        runner: embeds the photos that the gallery does not know.
        times: counts what the threads spend; the progress bar says what limits the job.
        max_pixels: see ``read_image``.

    Yields:
        What became of each photo, in order.
    """
    plan = make_plan(runner.encoder.device)
    reader = _Reader(gallery, runner, max_pixels, plan, times)
    together = max(_TOGETHER, plan.max_batch)
    ahead, workers = max(1, _AHEAD // together), _THREADS * plan.cores
    seconds = 0.1 if sys.stderr.isatty() else 10  # between two reports; a log needs few
    with (
        torch_threads(1),
        tqdm(total=len(photos), desc="indexing", unit="photo", dynamic_ncols=True, mininterval=seconds) as progress,
    ):
        tasks = _with_states(gallery, photos, together)
        for results in map_ahead(reader.prepare, tasks, ahead=max(ahead, workers), workers=workers):
            if limit := times.limit:
                progress.set_postfix_str(f"limited by {limit}", refresh=False)
            for result in results:
                yield result
                progress.update()


def _encoders(plan: Plan) -> int:
    """Threads that embed at the same time."""
    return plan.cores if plan.max_batch == 1 else _GPU_AT_ONCE


def _with_states(gallery: Destination, photos: Sequence[Candidate], together: int) -> Iterator[list[Task]]:
    for start in range(0, len(photos), _STATES):
        some = photos[start : start + _STATES]
        states = gallery.catalogue.states(photo.uri for photo in some)
        tasks = [(photo, states.get(photo.uri)) for photo in some]
        yield from (tasks[first : first + together] for first in range(0, len(tasks), together))


class _Reader:
    """What the threads of a job do."""

    def __init__(self, gallery: Destination, runner: Runner, max_pixels: int, plan: Plan, times: StageTimes) -> None:
        self._gallery = gallery
        self._runner = runner
        self._max_pixels = max_pixels
        self._times = times
        self._max_batch = plan.max_batch
        self._decoding = threading.Semaphore(plan.cores)
        self._encoding = self._decoding if plan.max_batch == 1 else threading.Semaphore(_encoders(plan))

    def prepare(self, tasks: Sequence[Task]) -> list[Prepared | Unchanged | Reject]:
        """Reads and decodes photos one by one, and embeds together those whose content is new."""
        results = [self._read(*task) for task in tasks]
        images = [one.content.image for one in results if isinstance(one, _Read) and isinstance(one.content, _Decoded)]
        vectors = iter(self._embedded(images))
        prepared: list[Prepared | Unchanged | Reject] = []
        for one in results:
            if not isinstance(one, _Read):
                prepared.append(one)
            elif isinstance(one.content, KnownContent):
                prepared.append(Prepared(*one[:4], one.content, fresh=False))
            else:
                width, height, colors, _ = one.content
                prepared.append(Prepared(*one[:4], KnownContent(width, height, next(vectors), colors), fresh=True))
        return prepared

    def _embedded(self, images: Sequence[Tensor]) -> Sequence[NDArray[np.float32]]:
        if not images:
            return []
        with self._encoding, self._times.stage("encoding"):
            return list(self._runner.embed(images, self._max_batch))

    def _read(self, candidate: Candidate, state: PhotoState | None) -> _Read | Unchanged | Reject:
        try:
            with self._times.stage("reading"):
                read = self._read_file(candidate, state)
            if isinstance(read, Unchanged):
                return read
            content, modified = read
            with self._decoding, self._times.stage("decoding"):
                sha256 = hashlib.sha256(content).hexdigest()
                return _Read(candidate, sha256, len(content), modified, self._known_or_decoded(content, sha256))
        except (IndexingError, MemoryError):  # of the gallery, or the machine
            raise
        except Exception as error:  # each kind of storage has exceptions of its own; none may end the job
            return Reject(candidate, reject_reason(error))

    def _read_file(self, candidate: Candidate, state: PhotoState | None) -> tuple[bytes, int | None] | Unchanged:
        """The bytes of a photo's file, and when it was modified."""
        if not is_text(candidate.uri):
            raise ImageError("its path is not UTF-8")
        uri = resolve_uri(candidate.uri, self._gallery.path)
        path = local_path(uri)
        if path is None:
            return Unchanged(candidate) if state else (read_uri(uri), None)  # it is taken not to change
        facts = path.stat()
        if state and (state.modified, state.bytes) == (facts.st_mtime_ns, facts.st_size):
            return Unchanged(candidate)
        return read_regular(path), facts.st_mtime_ns

    def _known_or_decoded(self, content: bytes, sha256: str) -> KnownContent | _Decoded:
        known = self._gallery.catalogue.same_content(sha256)
        if known is not None and known.colors is not None:
            return known
        preprocessing = self._runner.encoder.preprocessing
        facts, image = read_image(content, max_pixels=self._max_pixels, draft=preprocessing.draft)
        colors = color_shares(image)
        if known is not None:
            return known._replace(colors=colors)
        return _Decoded(facts.width, facts.height, colors, preprocessing(image))
