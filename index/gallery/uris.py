"""URIs of photos in a catalogue. Those inside the gallery's folder are relative, so that a gallery can be moved."""

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["UPLOADS", "is_upload", "own_uris", "resolve_uri"]

UPLOADS = "photos"  # folder in a gallery for photos that clients uploaded: photos/ab/abcd....jpg, named by SHA-256


def resolve_uri(uri: str, gallery: Path) -> str:
    """Returns the location to read for a catalogue's URI: a remote URI unchanged, otherwise an absolute path.

    Args:
        uri: URI of a photo, as the catalogue has it.
        gallery: the gallery's present folder.
    """
    if "://" in uri:
        return uri
    return str(gallery.absolute() / (_moved(uri, gallery) or uri))


def own_uris(uris: Iterable[str], gallery: Path) -> list[str]:
    """Returns the URIs under which a catalogue stores photos: relative if inside the gallery, otherwise unchanged.

    Earlier versions stored absolute paths for all photos. If the file of such a path is gone but lies among the
    gallery's uploads, the gallery has been moved.

    Args:
        uris: remote URIs, absolute paths, or paths relative to the gallery.
        gallery: the gallery's present folder.
    """
    roots = {f"{folder}{os.sep}" for folder in (gallery.absolute(), gallery.resolve())}
    return [_relative(uri, roots) or _moved(uri, gallery) or uri for uri in uris]


def is_upload(uri: str) -> bool:
    """Tells whether a catalogue's URI names a photo that a client uploaded, which the gallery stores by its SHA-256."""
    folder, _, name = uri.rpartition("/")
    sha256 = name.partition(".")[0]
    return len(sha256) == 64 and folder == f"{UPLOADS}/{sha256[:2]}"


def _relative(uri: str, roots: Iterable[str]) -> str | None:
    for root in roots:
        if uri.startswith(root) and ".." not in (path := Path(uri.removeprefix(root))).parts:
            return path.as_posix()
    return None


def _moved(uri: str, gallery: Path) -> str | None:
    """The relative URI of an upload whose absolute path dates from before the gallery was moved."""
    upload = "/".join(uri.split("/")[-3:])
    if not uri.startswith("/") or not is_upload(upload) or not (gallery / upload).is_file():
        return None
    return None if Path(uri).exists() else upload
