"""Photos whose files have another place now: found again by their content, or moved together with their folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from index.descriptions import merge_description
from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.photos import KnownContent
from index.gallery.uris import canonical_uris, is_upload, local_path, own_uris, resolve_uri
from index.gallery.vanished import is_gone
from index.reading import Prepared

__all__ = ["Relocation", "follow_moves", "relocate"]

_ALIKE = 100  # photos of the same content that are looked at


class Relocation(NamedTuple):
    """What becomes of the photos below a folder that has moved.

    Attributes:
        uris: new URIs by id.
        missing: number of them whose files are not at the new place.
        taken: number of photos that stay as they are, because the gallery has another photo at their new place.
        example: an old and a new URI.
    """

    uris: dict[int, str]
    missing: int
    taken: int
    example: tuple[str, str]

    def __str__(self) -> str:
        text = f"{len(self.uris)} photos, such as {' -> '.join(self.example)}; {self.missing} files are missing"
        return text + (f"; {self.taken} stay, for other photos have their new place" if self.taken else "")


def follow_moves(
    gallery: Gallery, photos: Sequence[Prepared], roots: Sequence[Path]
) -> tuple[list[Prepared], list[int]]:
    """Gives known photos the new names of their files, so that they keep their ids and descriptions.

    A file under a new name has moved if the gallery has a photo of the same bytes below one of the same roots whose
    file is gone.

    Args:
        gallery: being written to.
        photos: a batch that was read.
        roots: folders that the photos were looked for in.

    Returns:
        The same batch, with the descriptions of what has moved, and the ids of that.
    """
    catalogue = gallery.catalogue
    known = catalogue.ids(photo.candidate.uri for photo in photos)
    moved: dict[int, str] = {}
    result = []
    for photo in photos:
        if isinstance(photo.content, KnownContent) and photo.candidate.uri not in known:
            before = _moved_from(gallery, photo, roots, moved)
            if before is not None:
                moved[before] = photo.candidate.uri
                photo = replace(photo, candidate=merge_description(photo.candidate, catalogue.photos([before])[before]))
        result.append(photo)
    if moved:
        catalogue.rename(moved)
    return result, list(moved)


def relocate(gallery: Gallery, old: str, new: str, *, dry_run: bool = False) -> Relocation:
    """Gives all photos below a folder, or a remote prefix, the URIs that they have since it moved; they keep their ids.

    Args:
        gallery: open for writing, unless it is a dry run.
        old: the folder as it was called when the photos were indexed.
        new: the folder as it is called now.
        dry_run: change nothing.

    Raises:
        GalleryError: if no photo lies below the old folder, or no file below the new one.
        GalleryLocked: if another process is writing.
    """
    if dry_run:
        return _plan(gallery, old, new)
    with gallery.writing():
        plan = _plan(gallery, old, new)
        gallery.catalogue.rename(plan.uris)
    return plan


def _moved_from(gallery: Gallery, photo: Prepared, roots: Sequence[Path], taken: dict[int, str]) -> int | None:
    """The id of the photo whose file is now called otherwise; one of the same name is preferred."""
    name = PurePosixPath(photo.candidate.uri).name
    alike = gallery.catalogue.with_content(photo.sha256, _ALIKE)
    for identifier, uri in sorted(alike, key=lambda item: (PurePosixPath(item[1]).name != name, item[0])):
        path = local_path(resolve_uri(uri, gallery.path))
        if path and identifier not in taken and any(path.is_relative_to(root) for root in roots) and is_gone(path):
            return identifier
    return None


def _plan(gallery: Gallery, old: str, new: str) -> Relocation:
    known = gallery.catalogue.uris()
    start, end = (canonical_uris([name])[0].rstrip("/") + "/" for name in (old, new))
    places = {
        known[uri]: end + place.removeprefix(start)
        for uri, place in zip(known, canonical_uris(known, gallery.path), strict=True)
        if place.startswith(start) and not is_upload(uri)
    }
    if not places:
        raise GalleryError(f"{gallery.path} has no photo below {start}; `svdraw index search --json` shows their URIs")
    files = [path for place in places.values() if (path := local_path(place))]
    missing = sum(map(is_gone, files))
    if missing == len(files) > 0:
        raise GalleryError(f"none of the {missing} photos below {start} has its file below {end}; nothing was changed")
    # Those go first whose old URI may be the new one of others, when one of the folders lies in the other.
    order = sorted(places, key=lambda identifier: len(places[identifier]), reverse=len(end) > len(start))
    uris = dict(zip(order, own_uris([places[identifier] for identifier in order], gallery.path), strict=True))
    free = {identifier: uri for identifier, uri in uris.items() if known.get(uri, identifier) in places}
    example = next(iter(places.values()))
    return Relocation(free, missing, len(uris) - len(free), (start + example.removeprefix(end), example))
