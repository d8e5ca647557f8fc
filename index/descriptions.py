"""Labels and metadata of photos that a gallery has already: a source adds to them and takes nothing away."""

from collections.abc import Sequence

from index.gallery.catalogue import Catalogue
from index.gallery.photos import Photo
from index.sources import Candidate

__all__ = ["describe_known", "merge_description"]

_PHOTOS = 512  # looked up, and written, at once


def describe_known(catalogue: Catalogue, photos: Sequence[Candidate]) -> tuple[list[Candidate], int]:
    """Brings the descriptions of known photos up to date with what a source states.

    What the source states wins; what it does not state stays, such as a label that was given through the service. The
    name of a folder labels only photos that are new.

    Args:
        catalogue: open for writing.
        photos: under the URIs of the catalogue.

    Returns:
        All photos, with what the catalogue is to say of them, and the number of known ones that were described anew.
    """
    result, count = [], 0
    for start in range(0, len(photos), _PHOTOS):
        some = photos[start : start + _PHOTOS]
        ids = catalogue.ids(photo.uri for photo in some)
        known = catalogue.photos(list(ids.values()))
        changed = {}
        for photo in some:
            before = known.get(ids.get(photo.uri, 0))
            after = photo if before is None else merge_description(photo, before)
            result.append(photo if after == photo else after)  # so that equal ones take no more memory
            if before is not None and (after.label, after.metadata) != (before.label, before.metadata):
                changed[before.id] = (after.label, after.metadata)
        if changed:
            catalogue.describe(changed)
        count += len(changed)
    return result, count


def merge_description(photo: Candidate, before: Photo) -> Candidate:
    """A photo as a source describes it, with what a gallery said of it and the source does not state."""
    is_stated = photo.label is not None and not photo.is_label_of_folder
    return photo._replace(
        label=photo.label if is_stated else before.label,
        metadata={**before.metadata, **photo.metadata},
    )
