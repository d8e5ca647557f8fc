"""Photos whose files are gone, and whether that can be believed: a disk that is not mounted looks empty."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from index.gallery.uris import canonical_uris

__all__ = ["is_gone", "photos_below", "reason_to_keep", "vanished"]

_SOME = 4096  # photos in memory at once


def photos_below(folders: Sequence[Path], known: Mapping[str, int], gallery: Path) -> Iterator[tuple[str, int]]:
    """Yields the canonical paths and ids of the photos that lie below local folders, however they are spelled.

    Args:
        folders: canonical paths of the folders.
        known: ids by URI, as the catalogue has them.
        gallery: the gallery's folder, where it is now.
    """
    tops = tuple(str(folder).rstrip("/") + "/" for folder in folders)
    photos = iter(known.items())
    while some := list(islice(photos, _SOME)):
        paths = canonical_uris((uri for uri, _ in some), gallery)
        yield from ((path, photo[1]) for path, photo in zip(paths, some, strict=True) if path.startswith(tops))


def vanished(photos: Iterable[tuple[str, int]], listed: Collection[str]) -> list[int]:
    """Ids of the photos whose names are gone; those of files that are there but cannot be used are not among them.

    Args:
        photos: canonical paths and ids.
        listed: canonical paths that were seen to be there.
    """
    return [identifier for path, identifier in photos if path not in listed and is_gone(Path(path))]


def reason_to_keep(folder: Path, unreadable: Sequence[str], gone: int, known: int, allowed: float) -> str:
    """Why photos are not removed though they seem to be gone; empty if they may be.

    Args:
        folder: that was listed.
        unreadable: subfolders that could not be listed, and why.
        gone: number of photos that were not found.
        known: number of the gallery's photos in the folder.
        allowed: percentage of them that may be gone.
    """
    if unreadable:
        more = f" and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        return f"{unreadable[0]}{more}; nothing was removed, for what cannot be listed may still be there"
    if gone * 100 > known * allowed:
        share = -(-gone * 100 // known)
        return (
            f"{gone} of the gallery's {known} photos below {folder} are gone, more than {allowed:g}%; nothing was "
            f"removed: if a disk is missing, mount it, otherwise run this again with --allow-removing {share}"
        )
    return ""


def is_gone(path: Path) -> bool:
    """Whether there is no file of a name; what cannot be looked at may still be there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
