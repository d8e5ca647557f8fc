"""How a generation appears: written in a folder of its own, then named, then switched to, each in one atomic step.

Two locks order the writers of generations. They are not the lock of those who change the catalogue, so photos can be
added and removed all the time.

    base.lock       held while a base is built in generations/.base, which takes minutes
    publish.lock    held while a generation is named and switched to, which takes moments
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from index.errors import GalleryError
from index.gallery.generations import MANIFEST, GenerationManifest, generation_folder
from training.base.artifacts import write_text

__all__ = ["BASE", "NEXT", "alone", "link", "staging", "switch_to", "sync"]

BASE = "base"
NEXT = "publish"
_KEPT = 2  # generations kept; the older one is for readers that have not switched yet


@contextmanager
def alone(path: Path, name: str) -> Iterator[None]:
    """Waits until no other process holds a gallery's lock of this name, ``BASE`` or ``NEXT``, and holds it.

    Raises:
        GalleryError: if the lock's file cannot be written.
    """
    lock = path / f"{name}.lock"
    try:
        file = lock.open("a")
    except OSError as error:
        raise GalleryError(f"{lock} cannot be written ({error.strerror}); only a writable gallery changes") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, also by a kill
        yield


@contextmanager
def staging(path: Path, name: str) -> Iterator[Path]:
    """Yields an empty folder to write a generation in, without what a killed process left there.

    Args:
        path: the gallery's folder.
        name: name of the lock that is held, which no other writer has a folder for.

    Raises:
        GalleryError: if the block cannot write.
    """
    folder = path / "generations" / f".{name}"
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        yield folder
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError | RuntimeError):  # FAISS raises RuntimeError on a full disk
            raise
        reason = str(error).splitlines()[0]
        raise GalleryError(f"{folder} cannot be written ({reason}); free some space and try again") from error


def switch_to(path: Path, folder: Path, manifest: GenerationManifest) -> GenerationManifest:
    """Makes a folder whose files are on the disk the current generation, and clears what is older than the one before.

    Args:
        path: the gallery's folder; the lock ``NEXT`` is held.
        folder: from ``staging``.
        manifest: its manifest; the generation gets the next number.
    """
    number = max([0, *(int(one.name) for one in _generations(path))]) + 1
    manifest = manifest.model_copy(update={"generation": number})
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    _sync_directory(folder)
    folder.rename(generation_folder(path, number))
    _sync_directory(path / "generations")
    write_text(path / "CURRENT", f"{number:06d}\n")
    _sync_directory(path)
    for old in _generations(path):
        if int(old.name) <= number - _KEPT:
            shutil.rmtree(old, ignore_errors=True)
    return manifest


def link(source: Path, target: Path) -> None:
    """Gives a file a second name by a hard link, or copies it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync(target)


def sync(file: Path) -> None:
    """Waits until the content of a file is on the disk."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _generations(path: Path) -> list[Path]:
    return sorted(folder for folder in (path / "generations").glob("[0-9]*") if folder.is_dir())


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
