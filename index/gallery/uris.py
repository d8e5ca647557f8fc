"""URIs of photos in a catalogue. Those inside the gallery's folder are relative, so that a gallery can be moved.

A local photo has one canonical path, whatever its spelling: its folder with all links resolved, and the file's name.
"""

import os
from collections.abc import Collection, Iterable
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

__all__ = ["UPLOADS", "canonical_uris", "is_text", "is_upload", "known_uris", "local_path", "own_uris", "resolve_uri"]

UPLOADS = "photos"  # folder in a gallery for photos that clients uploaded: photos/ab/abcd....jpg, named by SHA-256
_SOME = 4096  # URIs in memory at once


def local_path(uri: str) -> Path | None:
    """The local file that a path or a ``file://`` URI names, or None if it is remote."""
    protocol, separator, name = uri.partition("://")
    if not separator:
        return Path(uri)
    if protocol.lower() not in ("file", "local") or "::" in name:
        return None
    return Path(unquote(name.removeprefix("localhost")))


def canonical_uris(uris: Iterable[str], folder: Path = Path()) -> list[str]:
    """The canonical absolute paths of local files; remote URIs as they are.

    Links on the way to a file are resolved, but a file that is a link itself keeps its own name.

    Args:
        uris: remote ones, ``file://`` URIs, or paths.
        folder: that relative paths are taken from; the current one when omitted.
    """
    places: dict[str, str] = {}
    canonical = []
    for uri in uris:
        path = str(local_path(uri) or uri) if "://" in uri else uri
        start = path.rfind("/") + 1
        place, name = path[:start], path[start:]
        if "://" in path or "\0" in path:  # remote, or no path at all, which whoever reads it says
            canonical.append(uri)
        elif name in ("", ".", ".."):
            canonical.append(os.path.realpath(folder / path))
        else:
            if place not in places:  # there are few folders, and many photos
                places[place] = os.path.realpath(folder / place).rstrip("/")
            canonical.append(f"{places[place]}/{name}")
    return canonical


def known_uris(uris: Iterable[str], known: Collection[str], gallery: Path) -> list[str]:
    """The URIs under which a catalogue has photos already, however they are spelled there, or is to have them.

    Args:
        uris: canonical ones, or those of the catalogue.
        known: URIs of the catalogue.
        gallery: the gallery's folder, where it is now.
    """
    own = own_uris(uris, gallery)
    missing = [place for place, uri in enumerate(own) if uri not in known]
    if missing:
        spelled = _spelled(known, gallery)
        for place, name in zip(missing, canonical_uris((own[place] for place in missing), gallery), strict=True):
            own[place] = spelled.get(name, own[place])
    return own


def _spelled(known: Iterable[str], gallery: Path) -> dict[str, str]:
    """The URIs of a catalogue that are spelled otherwise than this version spells them, by canonical path."""
    spelled: dict[str, str] = {}
    uris = iter(known)
    while some := list(islice(uris, _SOME)):
        names = canonical_uris(some, gallery)
        for uri, name, own in zip(some, names, own_uris(names, gallery), strict=True):
            if uri != own:
                spelled.setdefault(name, uri)
    return spelled


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


def is_text(uri: str) -> bool:
    """Whether a catalogue can hold a URI: a path that is not UTF-8 has characters that no text may have."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True


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
