"""Colours of photos that were indexed before colours were measured: their files are read again, and not embedded."""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from tqdm import tqdm

from index.errors import IndexingError
from index.gallery.color_table import Uncolored
from index.gallery.directory import Gallery
from index.gallery.palette import color_shares
from index.gallery.uris import resolve_uri
from index.sources import read_uri
from training.base.errors import ImageError
from training.base.prefetch import map_ahead
from training.base.rejects import reject_reason, report_rejects
from training.model.images import MAX_PIXELS, open_image

__all__ = ["ColorReport", "measure_colors"]

_BATCH = 512  # photos in one transaction
_DRAFT = 128  # pixels of the shorter side that decoding leaves at least


@dataclass
class ColorReport:
    """How many photos got colours, and by URI why others did not."""

    measured: int = 0
    rejects: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"colours of {self.measured} photos measured, {len(self.rejects)} photos cannot be used"


def measure_colors(gallery: Gallery, max_pixels: int = MAX_PIXELS) -> ColorReport:
    """Measures the colours of all photos that have none yet; no generation holds them.

    What has other content now than when it was indexed is left to the next job, and what cannot be used is listed in
    ``rejects.jsonl``. If the process is killed, the next call goes on with the rest.

    Args:
        gallery: open for writing.
        max_pixels: see ``read_image``.

    Raises:
        GalleryLocked: if another process is writing.
        GalleryError: if the disk is full.
    """

    def measure(photo: Uncolored) -> int | str:
        try:
            return _measured(gallery, photo, max_pixels)
        except (IndexingError, MemoryError):  # of the gallery, or the machine
            raise
        except Exception as error:  # each kind of storage has exceptions of its own; none may end the job
            return reject_reason(error)

    report, colors = ColorReport(), gallery.catalogue.colors
    with gallery.writing(), _progress(colors.count_missing()) as progress:
        for photos in _batches(gallery):
            results = dict(zip(photos, map_ahead(measure, photos), strict=True))
            found = {photo.id: result for photo, result in results.items() if isinstance(result, int)}
            colors.set(found)
            report.measured += len(found)
            report.rejects |= {photo.uri: result for photo, result in results.items() if isinstance(result, str)}
            progress.update(len(photos))
    report_rejects(gallery.path / "rejects.jsonl", report.rejects, report.measured + len(report.rejects))
    return report


def _progress(total: int) -> "tqdm[NoReturn]":
    seconds = 0.1 if sys.stderr.isatty() else 10  # between two reports; a log needs few
    return tqdm(total=total, desc="measuring", unit="photo", dynamic_ncols=True, mininterval=seconds)


def _batches(gallery: Gallery) -> Iterator[list[Uncolored]]:
    last = 0
    while photos := gallery.catalogue.colors.missing(last, _BATCH):
        yield photos
        last = photos[-1].id


def _measured(gallery: Gallery, photo: Uncolored, max_pixels: int) -> int:
    content = read_uri(resolve_uri(photo.uri, gallery.path))
    if hashlib.sha256(content).hexdigest() != photo.sha256:
        raise ImageError("its file has changed since it was indexed; the next job embeds it again")
    return color_shares(open_image(content, max_pixels=max_pixels, draft=_DRAFT))
