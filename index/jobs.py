"""Indexing jobs: photos in, vectors into the catalogue, a new generation out.

Every batch is committed to the catalogue before the next is encoded, so a job that is killed loses at most one
batch of work and the same command goes on from there. Identical bytes under two URIs are two photos, encoded once.
Memory holds the list of photos, and pictures for a few batches. Others can change the gallery again as soon as the
photos are in the catalogue, while the generation is built.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from index.descriptions import describe_known
from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.generations import GenerationManifest
from index.gallery.photos import NewPhoto
from index.gallery.precision import PhotoPrecision, photo_runner
from index.gallery.uris import known_uris
from index.gallery.vanished import photos_below, reason_to_keep, vanished
from index.moves import follow_moves
from index.reading import Prepared, Reject, Unchanged, read_photos, stage_times
from index.sources import Candidate, Listing, list_folder
from index.stage_times import StageTimes
from training.base.rejects import report_rejects
from training.model.bundle import load_bundle
from training.model.images import MAX_PIXELS

__all__ = ["ALLOW_REMOVING", "JobReport", "compact", "index_photos", "remove_photos", "sync_photos"]

logger = logging.getLogger(__name__)

ALLOW_REMOVING = 20.0  # percent
_BATCH = 32


@dataclass
class JobReport:
    """What a job did: photos encoded, copied from identical content, unchanged, rejected, removed; and how long.

    ``times`` says what each stage took, and which of them kept the job from being faster.

    Of known photos, ``described`` got another label or other metadata, and ``moved`` are the ids of those whose files
    were found under another name. ``notes`` are lines on what was left out.
    """

    encoded: int = 0
    copied: int = 0
    unchanged: int = 0
    rejected: int = 0
    removed: int = 0
    seconds: float = 0.0
    described: int = 0
    moved: list[int] = field(default_factory=list)
    notes: str = ""
    times: StageTimes | None = None

    def __str__(self) -> str:
        rate = f"{self.encoded / self.seconds if self.seconds else 0:.1f} images/s"
        if self.encoded and self.times:
            rate += f", limited by {self.times.limit}"
        return (
            f"{self.encoded} encoded ({rate}), {self.copied} copied from identical content, "
            f"{self.unchanged} unchanged, {self.rejected} rejected, {self.removed} removed, {self.seconds:.1f} s"
            + (f", {self.described} described anew" if self.described else "")
            + (f", {len(self.moved)} found under another name" if self.moved else "")
            + (f"\n{self.notes}" if self.notes else "")
        )


def index_photos(
    gallery: Gallery,
    photos: Sequence[Candidate],
    device: str = "auto",
    *,
    max_pixels: int = MAX_PIXELS,
    precision: PhotoPrecision = "auto",
) -> JobReport:
    """Brings photos into a gallery and publishes a generation if anything changed.

    Photos that are in the gallery already and have not changed are skipped; what cannot be used is listed in
    ``rejects.jsonl`` and never stops the job.

    Args:
        gallery: open for writing.
        photos: to add.
        device: see ``resolve_device``.
        max_pixels: see ``read_image``; larger photos are rejected.
        precision: what to embed the first photos in; see ``photo_runner``. The others have that of the first.

    Raises:
        GalleryLocked: if another process is writing.
        GalleryError: if nothing is usable, or the disk is full.
        ModelMismatch: if the gallery has photos in another precision.
    """
    with gallery.writing():
        report = _add(gallery, photos, device, max_pixels, precision)
    gallery.publish_changes()
    return report


def sync_photos(
    gallery: Gallery,
    folder: Path,
    device: str = "auto",
    *,
    allow_removing: float = ALLOW_REMOVING,
    follow_links: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> JobReport:
    """Makes a gallery agree with a folder: adds new photos, embeds changed ones, removes those that are gone.

    Photos from elsewhere, and those whose files are there but cannot be read, are left alone. Nothing is removed if
    part of the folder could not be seen, or if so much is gone that a disk may be missing.

    Args:
        gallery: open for writing.
        folder: searched with its subfolders.
        device: see ``resolve_device``.
        allow_removing: percentage of the gallery's photos in the folder that may be gone.
        follow_links: see ``list_folder``.
        max_pixels: see ``index_photos``.

    Raises:
        SourceError: if there is no such folder, or no photo in it.
        GalleryLocked: if another process is writing.
        GalleryError: if nothing is usable, or the disk is full; if nothing was removed though photos are gone, or may
            be, after the others were added.
    """
    photos = list_folder(folder, follow_links=follow_links)
    with gallery.writing():
        uris = gallery.catalogue.uris()
        before = sum(1 for _ in photos_below(photos.roots, uris, gallery.path))
        report = _add(gallery, photos, device, max_pixels)
        below, moved = photos_below(photos.roots, uris, gallery.path), set(report.moved)
        gone = [each for each in vanished(below, {photo.uri for photo in photos}) if each not in moved]
        problem = reason_to_keep(folder, photos.unreadable, len(gone), before, allow_removing)
        if gone and not problem:
            report.removed = _remove(gallery, gone)
    gallery.publish_changes()
    if problem:
        raise GalleryError(problem)
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
        removed = _remove(gallery, ids)
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


def _own(gallery: Gallery, photos: Sequence[Candidate]) -> list[Candidate]:
    """The same photos under the URIs that the catalogue has them by."""
    uris = known_uris((photo.uri for photo in photos), gallery.catalogue.uris(), gallery.path)
    return [photo if photo.uri == uri else photo._replace(uri=uri) for photo, uri in zip(photos, uris, strict=True)]


def _remove(gallery: Gallery, ids: Sequence[int]) -> int:
    if not gallery.catalogue.has_others(ids):
        raise GalleryError("that would leave no photo; remove the gallery's folder instead")
    return gallery.catalogue.remove(ids)


def _add(
    gallery: Gallery, photos: Sequence[Candidate], device: str, max_pixels: int, precision: PhotoPrecision = "auto"
) -> JobReport:
    notes, roots = (photos.notes, photos.roots) if isinstance(photos, Listing) else ("", ())
    report = JobReport(notes=notes)
    photos, report.described = describe_known(gallery.catalogue, _own(gallery, photos))
    bundle = load_bundle(gallery.model_directory, device)
    runner = photo_runner(gallery.catalogue, bundle, precision, images=len(photos))
    report.times = times = stage_times(bundle.device)
    started = time.monotonic()
    rejects: dict[str, str] = {}
    for batch in _batches(read_photos(gallery, photos, runner, times, max_pixels), report, rejects):
        with times.stage("writing"):
            batch, moved = follow_moves(gallery, batch, roots)
            report.moved += moved
            gallery.catalogue.add(_new(gallery, batch, report))
    report.copied -= len(report.moved)
    report.rejected = len(rejects)
    report.seconds = time.monotonic() - started
    report_rejects(gallery.path / "rejects.jsonl", rejects, len(photos))
    if not gallery.catalogue.has_others([]):
        raise GalleryError(f"none of {len(photos)} photos is usable; see {gallery.path / 'rejects.jsonl'}")
    return report


def _batches(
    results: Iterable[Prepared | Unchanged | Reject], report: JobReport, rejects: dict[str, str]
) -> Iterator[list[Prepared]]:
    batch: list[Prepared] = []
    for result in results:
        if isinstance(result, Unchanged):
            report.unchanged += 1
        elif isinstance(result, Reject):
            rejects[result.candidate.uri] = result.reason
        else:
            batch.append(result)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _new(gallery: Gallery, batch: list[Prepared], report: JobReport) -> list[NewPhoto]:
    """The photos of a batch; content that is known, or comes twice, counts as embedded once."""
    known = {one.sha256: one.content for one in batch if not one.fresh}
    fresh = {one.sha256: one.content for one in batch if one.fresh and one.sha256 not in known}
    for sha256 in list(fresh):  # photos before this batch may have brought it, since it was decoded
        if content := gallery.catalogue.same_content(sha256):
            known[sha256] = content
            del fresh[sha256]
    report.encoded += len(fresh)
    report.copied += len(batch) - len(fresh)
    known |= fresh
    photos = []
    for prepared in batch:
        width, height, vector, colors = known[prepared.sha256]
        candidate = prepared.candidate
        facts = (candidate.uri, prepared.sha256, prepared.bytes, prepared.modified, width, height)
        photos.append(NewPhoto(*facts, candidate.label, candidate.metadata, vector, colors))
    return photos
