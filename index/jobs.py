"""Indexing jobs: photos in, vectors into the catalogue, a new generation out.

Every batch is committed to the catalogue before the next is encoded, so a job that is killed loses at most one
batch of work and the same command goes on from there. Identical bytes under two URIs are two photos, encoded once.
Memory holds the list of photos, and pictures for a few batches.
"""

import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from index.errors import GalleryError
from index.gallery.catalogue import NewPhoto, PhotoState
from index.gallery.directory import Gallery
from index.gallery.generations import GenerationManifest
from index.sources import Candidate, list_folder, local_path, read_uri
from training.base.errors import ImageError
from training.base.prefetch import map_ahead
from training.base.rejects import report_rejects
from training.model.bundle import Bundle, load_bundle
from training.model.images import image_size, open_image
from training.model.preprocessing import Preprocessing

__all__ = ["JobReport", "compact", "index_photos", "remove_photos", "sync_photos"]

logger = logging.getLogger(__name__)

_BATCH = 32
_STATES = 512  # photos whose states are looked up at once


@dataclass
class JobReport:
    """What a job did: photos encoded, copied from identical content, unchanged, rejected, removed; and how long."""

    encoded: int = 0
    copied: int = 0
    unchanged: int = 0
    rejected: int = 0
    removed: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = self.encoded / self.seconds if self.seconds else 0.0
        return (
            f"{self.encoded} encoded ({rate:.1f} images/s), {self.copied} copied from identical content, "
            f"{self.unchanged} unchanged, {self.rejected} rejected, {self.removed} removed, {self.seconds:.1f} s"
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


def index_photos(gallery: Gallery, photos: Sequence[Candidate], device: str = "auto") -> JobReport:
    """Brings photos into a gallery and publishes a generation if anything changed.

    Photos that are in the gallery already and have not changed are skipped; what cannot be used is listed in
    ``rejects.jsonl`` and never stops the job.

    Args:
        gallery: open for writing.
        photos: to add.
        device: see ``resolve_device``.

    Raises:
        GalleryLocked: if another process is writing.
        GalleryError: if nothing is usable, or the disk is full.
    """
    with gallery.writing():
        report = _add(gallery, photos, device)
        gallery.publish_changes()
    return report


def sync_photos(gallery: Gallery, folder: Path, device: str = "auto") -> JobReport:
    """Makes a gallery agree with a folder: adds new photos, embeds changed ones, removes those that are gone.

    Photos from elsewhere, and those whose files are there but cannot be read, are left alone.

    Args:
        gallery: open for writing.
        folder: searched with its subfolders.
        device: see ``resolve_device``.

    Raises:
        SourceError: if there is no such folder, or no photo in it.
        GalleryLocked: if another process is writing.
        GalleryError: if nothing is usable, or the disk is full.
    """
    photos = list_folder(folder)
    with gallery.writing():
        report = _add(gallery, photos, device)
        there = {photo.uri for photo in photos}
        root = f"{folder.absolute()}{os.sep}"
        gone = [i for uri, i in gallery.catalogue.uris().items() if uri.startswith(root) and uri not in there]
        report.removed = gallery.catalogue.remove(gone) if gone else 0
        gallery.publish_changes()
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
        gallery.publish_changes()
    return removed


def compact(gallery: Gallery) -> GenerationManifest:
    """Builds everything from the catalogue anew and gives the room of what was removed back to the disk.

    Raises:
        GalleryLocked: if another process is writing.
        GalleryError: if the disk is full.
    """
    with gallery.writing():
        gallery.catalogue.compact()
        return gallery.publish()


def _add(gallery: Gallery, photos: Sequence[Candidate], device: str) -> JobReport:
    report = JobReport()
    bundle = load_bundle(gallery.model_directory, device)
    started = time.monotonic()
    rejects: dict[str, str] = {}
    for batch in _batches(_prepared(gallery, photos, bundle), report, rejects):
        gallery.catalogue.add(_encoded(gallery, bundle, batch, report))
    report.rejected = len(rejects)
    report.seconds = time.monotonic() - started
    report_rejects(gallery.path / "rejects.jsonl", rejects, len(photos))
    if not gallery.catalogue.count():
        raise GalleryError(f"none of {len(photos)} photos is usable; see {gallery.path / 'rejects.jsonl'}")
    return report


def _prepared(
    gallery: Gallery, photos: Sequence[Candidate], bundle: Bundle
) -> Iterator[_Prepared | _Unchanged | _Reject]:
    """Reads and decodes ahead of the encoder, in order."""

    def prepare(task: tuple[Candidate, PhotoState | None]) -> _Prepared | _Unchanged | _Reject:
        candidate, state = task
        try:
            return _prepare(candidate, state, gallery, bundle.photo.preprocessing)
        except ImageError as error:
            return _Reject(candidate, error.reason)
        except (OSError, ValueError) as error:  # fsspec raises ValueError for an unknown protocol
            return _Reject(candidate, getattr(error, "strerror", None) or str(error))

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
    candidate: Candidate, state: PhotoState | None, gallery: Gallery, preprocessing: Preprocessing
) -> _Prepared | _Unchanged:
    path = local_path(candidate.uri)
    modified = path.stat().st_mtime_ns if path else None
    if state and (path is None or (state.modified, state.bytes) == (modified, path.stat().st_size)):
        return _Unchanged(candidate)  # what a remote URI names is taken not to change
    content = read_uri(candidate.uri)
    sha256 = hashlib.sha256(content).hexdigest()
    if gallery.catalogue.same_content(sha256):
        return _Prepared(candidate, sha256, len(content), modified, (0, 0), None)
    image = preprocessing(open_image(content, draft=preprocessing.draft))
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
    """Embeds a batch; content that is known, or comes twice, is embedded once."""
    known = {prepared.sha256: gallery.catalogue.same_content(prepared.sha256) for prepared in batch}
    fresh = {prepared.sha256: prepared for prepared in batch if known[prepared.sha256] is None}
    images = [prepared.image for prepared in fresh.values() if prepared.image is not None]
    vectors = bundle.encode(bundle.photo, torch.stack(images)) if images else np.empty((0, bundle.dim), np.float32)
    embedded = {sha256: (*one.size, vector) for (sha256, one), vector in zip(fresh.items(), vectors, strict=True)}
    report.encoded += len(fresh)
    report.copied += len(batch) - len(fresh)
    photos = []
    for prepared in batch:
        width, height, vector = known[prepared.sha256] or embedded[prepared.sha256]
        candidate = prepared.candidate
        facts = (candidate.uri, prepared.sha256, prepared.bytes, prepared.modified, width, height)
        photos.append(NewPhoto(*facts, candidate.label, candidate.metadata, vector))
    return photos
