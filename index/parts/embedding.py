"""Embedding jobs without a gallery: photos in, parts out. Killed at any point, the same job goes on."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from index.gallery.photos import KnownContent, NewPhoto, PhotoState
from index.parts.folder import PartsFolder, part_name
from index.parts.rows import Rejected, Rows, table_of
from index.parts.schema import PartsFacts
from index.reading import Prepared, Reject, read_photos, stage_times
from index.sources import Candidate
from training.base.rejects import report_rejects
from training.inference.runners import Runner, build_runner
from training.model.bundle import load_bundle
from training.model.images import MAX_PIXELS
from training.model.manifest import read_manifest

__all__ = ["PART_SIZE", "EmbedReport", "embed_photos", "embed_rows", "facts_of_model", "write_rows"]

logger = logging.getLogger(__name__)

PART_SIZE = 1024  # photos


class EmbedReport(NamedTuple):
    """What a job did: photos embedded, rejected, and in parts of an earlier run; and how long it took in seconds."""

    embedded: int
    rejected: int
    known: int
    seconds: float

    def __str__(self) -> str:
        rate = self.embedded / self.seconds if self.seconds else 0.0
        return (
            f"{self.embedded} embedded ({rate:.1f} images/s), {self.rejected} rejected, "
            f"{self.known} in parts of an earlier run, {self.seconds:.1f} s"
        )


class _Nowhere:
    """A destination that knows no photos, and whose photos all have absolute paths or URIs."""

    path = Path("/")

    @property
    def catalogue(self) -> "_Nowhere":
        return self

    def states(self, uris: Iterable[str]) -> Mapping[str, PhotoState]:
        return {}

    def same_content(self, sha256: str) -> KnownContent | None:
        return None


def embed_photos(
    photos: Sequence[Candidate],
    model: Path,
    out: str,
    device: str = "auto",
    *,
    max_pixels: int = MAX_PIXELS,
    part_size: int = PART_SIZE,
) -> EmbedReport:
    """Embeds photos into parts. Those in parts of an earlier run are left out, whether they could be used or not.

    Args:
        photos: to embed.
        model: the model bundle.
        out: folder of the parts, on any storage that fsspec opens.
        device: see ``resolve_device``.
        max_pixels: see ``read_image``; larger photos are rejected.
        part_size: number of photos in a part, and the most that a killed job loses.

    Raises:
        ModelMismatch: if the folder has parts of another model.
        PartsError: if a part cannot be read or written.
        BundleError: if the model bundle cannot be used.
    """
    facts, folder = facts_of_model(model), PartsFolder(out)
    waiting = not_yet_in(folder, facts, photos)
    started, embedded, rejected = time.monotonic(), 0, dict[str, str]()
    runner = build_runner(load_bundle(model, device).photo, precision="fp32", images=len(waiting))
    for rows in embed_rows(waiting, runner, max_pixels, part_size):
        write_rows(folder, facts, rows)
        embedded += len(rows.photos)
        rejected |= dict(rows.rejected)
    report_rejects(None, rejected, len(waiting))
    return EmbedReport(embedded, len(rejected), len(photos) - len(waiting), time.monotonic() - started)


def facts_of_model(model: Path) -> PartsFacts:
    """What is true of all parts that a model's photo encoder makes.

    Raises:
        BundleError: if the model bundle cannot be used.
    """
    manifest = read_manifest(model)
    return PartsFacts(model=manifest.digest, dim=len(manifest.spectrum))


def not_yet_in(folder: PartsFolder, facts: PartsFacts, photos: Sequence[Candidate]) -> list[Candidate]:
    """Those photos that no part of a folder has.

    Raises:
        ModelMismatch: if the folder has parts of another model.
        PartsError: if a part cannot be read.
    """
    folder.check(facts)
    known = folder.uris()
    return [photo for photo in photos if photo.uri not in known]


def embed_rows(photos: Sequence[Candidate], runner: Runner, max_pixels: int, size: int) -> Iterator[Rows]:
    """Reads and embeds photos; yields the rows of a part at a time, in order."""
    rows = Rows([], [])
    for result in read_photos(_Nowhere(), photos, runner, stage_times(runner.encoder.device), max_pixels):
        if isinstance(result, Prepared):
            rows.photos.append(_photo(result))
        elif isinstance(result, Reject):
            rows.rejected.append(Rejected(_printable(result.candidate.uri), _printable(result.reason)))
        if len(rows.photos) + len(rows.rejected) == size:
            yield rows
            rows = Rows([], [])
    if rows.photos or rows.rejected:
        yield rows


def write_rows(folder: PartsFolder, facts: PartsFacts, rows: Rows) -> None:
    """Writes rows as one part; the same rows are the same part.

    Raises:
        PartsError: if it cannot be written.
    """
    uris = [photo.uri for photo in rows.photos] + [rejected.uri for rejected in rows.rejected]
    folder.write(part_name(uris), table_of(facts, rows))


def _photo(prepared: Prepared) -> NewPhoto:
    candidate, content = prepared.candidate, prepared.content
    size = (prepared.bytes, prepared.modified, content.width, content.height)
    described = (candidate.label, candidate.metadata, content.vector, content.colors)
    return NewPhoto(candidate.uri, prepared.sha256, *size, *described)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
