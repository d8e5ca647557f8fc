"""Photos by the names that people give them on a command line."""

from collections.abc import Sequence

from index.errors import IndexingError
from index.gallery.directory import Gallery
from index.gallery.uris import canonical_uris, known_uris

__all__ = ["ids_of"]


def ids_of(gallery: Gallery, texts: Sequence[str]) -> list[int]:
    """Ids of photos.

    Args:
        gallery: that has the photos.
        texts: paths or URIs, each of one photo, or of several joined by commas.

    Raises:
        IndexingError: if the gallery has no such photo.
    """
    known = gallery.catalogue.uris()
    names = [name for text in texts for name in (text, *_parts(text))]
    uris = known_uris(canonical_uris(names), known, gallery.path)
    ids = {name: known.get(name, known.get(uri)) for name, uri in zip(names, uris, strict=True)}
    found = []
    for text in texts:
        for name in [text] if ids[text] is not None else _parts(text):
            if (identifier := ids[name]) is None:
                raise IndexingError(f"{gallery.path} has no photo {name!r}; nothing was removed")
            found.append(identifier)
    return found


def _parts(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
