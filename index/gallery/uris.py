"""URIs as a catalogue has them: relative to the gallery's folder for photos that lie in it, so that it can be moved."""

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["UPLOADS", "is_upload", "own_uris", "resolve_uri"]

UPLOADS = "photos"  # folder of a gallery with the photos that clients sent: photos/ab/abcd....jpg, by SHA-256


def resolve_uri(uri: str, gallery: Path) -> str:
    """What to read for a catalogue's URI: a remote URI as it is, otherwise an absolute path.

    Args:
        uri: of a photo, as the catalogue has it.
        gallery: the gallery's folder, where it is now.
    """
    if "://" in uri:
        return uri
    return str(gallery.absolute() / (_moved(uri, gallery) or uri))


def own_uris(uris: Iterable[str], gallery: Path) -> list[str]:
    """The URIs under which a catalogue keeps photos: relative if they lie in the gallery, otherwise as they are.

    Earlier versions kept absolute paths for all. One whose file is gone, but lies among the uploads of the gallery, is
    of a gallery that was moved.

    Args:
        uris: remote ones, absolute paths, or paths relative to the gallery.
        gallery: the gallery's folder, where it is now.
    """
    roots = {f"{folder}{os.sep}" for folder in (gallery.absolute(), gallery.resolve())}
    return [_relative(uri, roots) or _moved(uri, gallery) or uri for uri in uris]


def is_upload(uri: str) -> bool:
    """Whether a catalogue's URI names a photo that a client sent, which the gallery keeps under its SHA-256."""
    folder, _, name = uri.rpartition("/")
    sha256 = name.partition(".")[0]
    return len(sha256) == 64 and folder == f"{UPLOADS}/{sha256[:2]}"


def _relative(uri: str, roots: Iterable[str]) -> str | None:
    for root in roots:
        if uri.startswith(root) and ".." not in (path := Path(uri.removeprefix(root))).parts:
            return path.as_posix()
    return None


def _moved(uri: str, gallery: Path) -> str | None:
    """The relative URI of an upload that is named by where the gallery was before."""
    upload = "/".join(uri.split("/")[-3:])
    if not uri.startswith("/") or not is_upload(upload) or not (gallery / upload).is_file():
        return None
    return None if Path(uri).exists() else upload
