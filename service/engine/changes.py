"""Changes of the photos in service: those that clients ask for, and those that other processes have made."""

import logging
from pathlib import Path
from typing import Any

from index.errors import GalleryFull
from index.gallery.catalogue import Catalogue
from index.gallery.directory import Gallery
from index.gallery.photos import NewPhoto, Photo, content_key
from index.gallery.searcher import Change
from service.engine.uploads import Upload, discard_upload, keep_upload
from service.errors import RequestProblem
from training.base.artifacts import NO_ROOM

__all__ = ["add_photo", "changes_after", "describe_photo", "remove_photo"]

logger = logging.getLogger(__name__)


def add_photo(gallery: Gallery, upload: Upload) -> tuple[tuple[Photo, bool], list[Change]]:
    """Adds a photo, or replaces the description of a file that is known.

    Returns:
        The photo and whether it is new, and what searches must know.
    """
    photo = _stored(gallery.path, upload)
    known = bool(gallery.catalogue.ids([photo.uri]))
    gallery.catalogue.add([photo])
    identifier = gallery.catalogue.ids([photo.uri])[photo.uri]
    change = Change(gallery.catalogue.revision, identifier, content_key(photo.sha256), photo.vector)
    return (gallery.catalogue.photos([identifier])[identifier], not known), [change]


def remove_photo(gallery: Gallery, photo: Photo) -> tuple[None, list[Change]]:
    """Removes a photo, and its file if a client uploaded it.

    Raises:
        RequestProblem: 409 if it is the last one.
    """
    if not gallery.catalogue.has_others([photo.id]):
        raise RequestProblem(409, "this is the last photo; a gallery cannot be empty")
    gallery.catalogue.remove([photo.id])
    try:
        discard_upload(gallery.path, photo.uri)
    except OSError as error:  # the photo is out of the gallery, as the client asked
        logger.warning("the file of a removed photo could not be deleted: %s", error)
    return None, [Change(gallery.catalogue.revision, photo.id, content_key(photo.sha256), None)]


def describe_photo(gallery: Gallery, photo: Photo, changes: dict[str, Any]) -> tuple[Photo, list[Change]]:
    """Changes the ``label`` or the ``metadata`` of a photo; searches read them from the catalogue."""
    photo = photo._replace(**changes)
    gallery.catalogue.describe({photo.id: (photo.label, photo.metadata)})
    return photo, []


def changes_after(catalogue: Catalogue, revision: int, dim: int, most: int) -> tuple[list[Change], int] | None:
    """Reads what was changed after a revision, by whichever process.

    Args:
        catalogue: the catalogue.
        revision: the last one whose changes are known.
        dim: number of embedding coordinates.
        most: largest number of changes.

    Returns:
        The changes, and the revision up to which they go; None if there are more, which a generation will bring.
    """
    with catalogue.frozen() as view:
        now = view.revision
        removed, changed = view.removed_after(revision), view.changed_after(revision)
        if len(removed) + len(changed) > most or revision < view.removed_since:
            return None
        changes = [Change(now, identifier, 0, None) for identifier in removed.tolist()]
        for block in view.blocks(dim, changed_after=revision):
            rows = zip(block.ids.tolist(), block.contents.tolist(), block.vectors, strict=True)
            changes += [Change(now, identifier, content, vector) for identifier, content, vector in rows]
        return changes, now


def _stored(gallery: Path, upload: Upload) -> NewPhoto:
    try:
        return keep_upload(gallery, upload)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise GalleryFull(f"a photo cannot be stored: {error}") from error
        logger.error("a photo cannot be stored: %s", error)
        raise RequestProblem(503, "the photo cannot be stored at the moment; the service's log says why") from error
