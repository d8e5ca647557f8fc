"""Parts in, photos of a gallery out: what was embedded elsewhere is taken over without reading a photo."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from index.descriptions import describe_known
from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.photos import NewPhoto
from index.gallery.precision import record_precision, recorded_precision
from index.gallery.uris import own_uris
from index.parts.folder import PartsFolder
from index.parts.rows import Rows, rows_of
from index.parts.schema import PartsFacts
from index.sources import Candidate
from training.base.rejects import report_rejects

__all__ = ["ImportReport", "facts_of_gallery", "facts_to_take", "import_parts", "rows_of_parts", "take_over"]


class ImportReport(NamedTuple):
    """How many photos of parts were taken over, unchanged, described anew, and rejected when they were embedded."""

    taken: int = 0
    unchanged: int = 0
    described: int = 0
    rejected: int = 0

    def plus(self, other: "ImportReport") -> "ImportReport":
        """The sums of both."""
        return ImportReport(*(a + b for a, b in zip(self, other, strict=True)))

    def __str__(self) -> str:
        return (
            f"{self.taken} taken over, {self.unchanged} unchanged, {self.described} described anew, "
            f"{self.rejected} rejected when they were embedded"
        )


def import_parts(gallery: Gallery, parts: str) -> ImportReport:
    """Takes the photos of parts into a gallery and publishes a generation if anything changed.

    All parts are looked at before the first photo is taken over. Whatever is found wrong later leaves in the gallery
    what was taken over before, and the same call goes on from there.

    Args:
        gallery: open for writing.
        parts: folder of the parts, on any storage that fsspec opens.

    Raises:
        ModelMismatch: if a part is of another model than the gallery.
        PartsError: if there are no parts, or one cannot be used.
        GalleryLocked: if another process is writing.
        GalleryError: if no photo is usable, or the disk is full.
    """
    report, rejects = ImportReport(), dict[str, str]()
    with gallery.writing():
        for rows in rows_of_parts(parts, facts_to_take([gallery], parts)):
            report = report.plus(take_over(gallery, rows.photos))
            rejects |= dict(rows.rejected)
        report = report._replace(rejected=len(rejects))
        total = report.taken + report.unchanged + report.rejected
        report_rejects(gallery.path / "rejects.jsonl", rejects, total)
        if not gallery.catalogue.has_others([]):
            raise GalleryError(f"none of {total} photos in {parts} is usable; see {gallery.path / 'rejects.jsonl'}")
    gallery.publish_changes()
    return report


def facts_of_gallery(gallery: Gallery, precision: str = "fp32") -> PartsFacts:
    """What is true of all parts that fit a gallery.

    Args:
        gallery: the gallery.
        precision: that of its vectors if it has none yet.
    """
    catalogue = gallery.catalogue
    return PartsFacts(
        model=catalogue.fact("model") or "",
        dim=int(catalogue.fact("dim") or 0),
        precision=recorded_precision(catalogue) or precision,
    )


def facts_to_take(galleries: Sequence[Gallery], parts: str) -> PartsFacts:
    """What must be true of parts that galleries take over together, which record it; the first photos decide.

    Raises:
        PartsError: if there are no parts, or the first cannot be used.
    """
    folder = PartsFolder(parts)
    if not (names := folder.names()):
        raise folder.empty()
    facts = facts_of_gallery(galleries[0], folder.facts(names[0]).precision)
    for gallery in galleries:
        record_precision(gallery.catalogue, facts.precision)
    return facts


def rows_of_parts(parts: str, facts: PartsFacts) -> Iterator[Rows]:
    """Yields the rows of all parts, some at a time.

    Raises:
        ModelMismatch: if a part is of another model; before anything is yielded.
        PartsError: if there are no parts, or one cannot be used; before anything is yielded, unless it is a row.
    """
    folder = PartsFolder(parts)
    names = folder.check(facts)
    if not names:
        raise folder.empty()
    for name in names:
        for batch in folder.batches(name):
            yield rows_of(batch, facts, f"{parts.rstrip('/')}/{name}")


def take_over(gallery: Gallery, photos: list[NewPhoto]) -> ImportReport:
    """Brings photos into a gallery that is being written to, those that it does not have already.

    Returns:
        How many were taken over, unchanged and described anew.
    """
    uris = own_uris((photo.uri for photo in photos), gallery.path)
    stated = [Candidate(uri, photo.label, photo.metadata) for uri, photo in zip(uris, photos, strict=True)]
    described, count = describe_known(gallery.catalogue, stated)
    states = gallery.catalogue.states(uris)
    new = [
        photo._replace(uri=uri, label=known.label, metadata=known.metadata)
        for uri, photo, known in zip(uris, photos, described, strict=True)
        if uri not in states or states[uri].sha256 != photo.sha256
    ]
    if new:
        gallery.catalogue.add(new)
    return ImportReport(taken=len(new), unchanged=len(photos) - len(new), described=count)
