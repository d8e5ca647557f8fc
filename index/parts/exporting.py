"""A gallery in, parts out: for another gallery, for shards, or for another database."""

from contextlib import closing

from index.errors import PartsError
from index.gallery.database import Database
from index.gallery.directory import Gallery
from index.gallery.photo_rows import stored_photos
from index.gallery.uris import resolve_uri
from index.parts.embedding import PART_SIZE, write_rows
from index.parts.folder import PartsFolder
from index.parts.importing import facts_of_gallery
from index.parts.rows import Rows

__all__ = ["export_gallery"]


def export_gallery(gallery: Gallery, out: str, part_size: int = PART_SIZE) -> int:
    """Writes all photos of a gallery, with the model's vectors, into parts. They are those of one moment.

    Photos in the gallery's own folder get absolute paths, by which they are found from elsewhere.

    Args:
        gallery: the gallery.
        out: folder without parts, on any storage that fsspec opens.
        part_size: number of photos in a part.

    Returns:
        The number of photos.

    Raises:
        PartsError: if the folder has parts already, or cannot be written.
        GalleryDamaged: if the catalogue is damaged.
    """
    folder, facts, count = PartsFolder(out), facts_of_gallery(gallery), 0
    if folder.names():
        raise PartsError(f"{out} holds parts already; remove them, or choose another --out")
    with closing(Database(gallery.catalogue.path)) as database:
        for photos in stored_photos(database, facts.dim, part_size):
            own = [photo._replace(uri=resolve_uri(photo.uri, gallery.path)) for photo in photos]
            write_rows(folder, facts, Rows(own, []))
            count += len(own)
    return count
