"""Indexing jobs: photos in, vectors into the catalogue, a new generation out.

Every batch is committed to the catalogue before the next is encoded, so a job that is killed loses at most one
batch of work and the same command goes on from there. Identical bytes under two URIs are two photos, encoded once.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from index.catalogue import NewPhoto, PhotoState
from index.errors import GalleryDamaged, GalleryError
from index.gallery import Gallery, GenerationManifest, load_generation
from index.sources import Candidate, local_path, read_uri
from training.artifacts import write_text
from training.bundle import Bundle, load_bundle
from training.errors import ImageError
from training.images import image_size, open_image
from training.prefetch import map_ahead
from training.preprocessing import Preprocessing

__all__ = ["JobReport", "index_photos", "publish_if_changed", "remove_photos"]

logger = logging.getLogger(__name__)

_BATCH = 32
_REJECTS_SHOWN = 5


@dataclass
class JobReport:
    """What a job did: photos encoded, copied from identical content, unchanged, rejected; seconds taken."""

    encoded: int = 0
    copied: int = 0
    unchanged: int = 0
    rejected: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = self.encoded / self.seconds if self.seconds else 0.0
        return (
            f"{self.encoded} encoded ({rate:.1f} images/s), {self.copied} copied from identical content, "
            f"{self.unchanged} unchanged, {self.rejected} rejected, {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class _Prepared:
    """A photo read and, unless its content is known already, decoded."""

    candidate: Candidate
    sha256: str
    bytes: int
    modified: int | None
    size: tuple[int, int]
    image: Tensor | None


class _Unchanged(NamedTuple):
    candidate: Candidate


class _Reject(NamedTuple):
    candidate: Candidate
    reason: str


def index_photos(gallery: Gallery, candidates: Sequence[Candidate], device: str = "auto") -> JobReport:
    """Brings photos into a gallery and publishes a generation if anything changed.

    Photos that are in the gallery already and have not changed are skipped; what cannot be used is listed in
    ``rejects.jsonl`` and never stops the job.

    Args:
        gallery: open for writing.
        candidates: photos to add.
        device: see ``resolve_device``.

    Raises:
        GalleryLocked: if another process is writing.
        GalleryError: if nothing is usable, or the disk is full.
    """
    started = time.monotonic()
    report = JobReport()
    with gallery.writing():
        bundle = load_bundle(gallery.model_directory, device)
        rejects: dict[str, str] = {}
        for batch in _batches(_prepared(gallery, candidates, bundle), report, rejects):
            gallery.catalogue.add(_encoded(gallery, bundle, batch, report))
        report.rejected = len(rejects)
        report.seconds = time.monotonic() - started
        _list_rejects(gallery.path / "rejects.jsonl", rejects)
        if not gallery.catalogue.count():
            raise GalleryError(f"none of {len(candidates)} photos is usable; see {gallery.path / 'rejects.jsonl'}")
        publish_if_changed(gallery)
    return report


def remove_photos(gallery: Gallery, ids: Sequence[int]) -> int:
    """Removes photos and publishes a generation without them.

    Returns:
        How many of the ids there were.

    Raises:
        GalleryLocked: if another process is writing.
        GalleryError: if no photo would be left.
    """
    with gallery.writing():
        if len(gallery.catalogue.photos(ids)) == gallery.catalogue.count():
            raise GalleryError("that would leave no photo; remove the gallery's folder instead")
        removed = gallery.catalogue.remove(ids)
        publish_if_changed(gallery)
    return removed


def publish_if_changed(gallery: Gallery) -> GenerationManifest:
    """Publishes a generation unless the current one is whole and of the same catalogue."""
    try:
        current = load_generation(gallery.path).manifest
    except GalleryDamaged:  # nothing published yet, or files that publishing replaces
        return gallery.publish()
    return current if current.revision == gallery.catalogue.revision else gallery.publish()


def _prepared(
    gallery: Gallery, candidates: Sequence[Candidate], bundle: Bundle
) -> Iterator[_Prepared | _Unchanged | _Reject]:
    """Reads and decodes ahead of the encoder, in order."""
    states = gallery.catalogue.states()
    known_content = frozenset(state.sha256 for state in states.values())

    def prepare(candidate: Candidate) -> _Prepared | _Unchanged | _Reject:
        try:
            return _prepare(candidate, states.get(candidate.uri), known_content, bundle.photo.preprocessing)
        except ImageError as error:
            return _Reject(candidate, error.reason)
        except (OSError, ValueError) as error:  # fsspec raises ValueError for an unknown protocol
            return _Reject(candidate, getattr(error, "strerror", None) or str(error))

    yield from map_ahead(prepare, tqdm(candidates, "indexing", unit="photo", dynamic_ncols=True))


def _prepare(
    candidate: Candidate, state: PhotoState | None, known_content: frozenset[str], preprocessing: Preprocessing
) -> _Prepared | _Unchanged:
    path = local_path(candidate.uri)
    modified = path.stat().st_mtime_ns if path else None
    if state and (path is None or (state.modified, state.bytes) == (modified, path.stat().st_size)):
        return _Unchanged(candidate)  # what a remote URI names is taken not to change
    content = read_uri(candidate.uri)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 in known_content:
        return _Prepared(candidate, sha256, len(content), modified, (0, 0), None)
    image = preprocessing(open_image(content, draft=preprocessing.size))
    return _Prepared(candidate, sha256, len(content), modified, image_size(content), image)


def _batches(
    results: Iterable[_Prepared | _Unchanged | _Reject], report: JobReport, rejects: dict[str, str]
) -> Iterator[list[_Prepared]]:
    batch: list[_Prepared] = []
    for result in results:
        if isinstance(result, _Unchanged):
            report.unchanged += 1
        elif isinstance(result, _Reject):
            rejects[result.candidate.uri] = result.reason
        else:
            batch.append(result)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _encoded(gallery: Gallery, bundle: Bundle, batch: list[_Prepared], report: JobReport) -> list[NewPhoto]:
    """Embeds a batch; known content takes the vector it has."""
    images = [prepared.image for prepared in batch if prepared.image is not None]
    vectors = iter(
        bundle.encode(bundle.photo, torch.stack(images)) if images else np.empty((0, bundle.dim), np.float32)
    )
    photos = []
    for prepared in batch:
        known = gallery.catalogue.same_content(prepared.sha256) if prepared.image is None else None
        if known is None:
            size, vector = prepared.size, next(vectors)
            report.encoded += 1
        else:
            size, vector = (known[0], known[1]), known[2]
            report.copied += 1
        candidate = prepared.candidate
        facts = (candidate.uri, prepared.sha256, prepared.bytes, prepared.modified, *size)
        photos.append(NewPhoto(*facts, candidate.label, candidate.metadata, vector))
    return photos


def _list_rejects(path: Path, rejects: dict[str, str]) -> None:
    write_text(path, "".join(json.dumps({"uri": uri, "reason": reason}) + "\n" for uri, reason in rejects.items()))
    if rejects:
        logger.warning("%d photos rejected; all are listed in %s", len(rejects), path)
        for uri, reason in list(rejects.items())[:_REJECTS_SHOWN]:
            logger.warning("  %s: %s", uri, reason)
