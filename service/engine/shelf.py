"""A folder of small files by name, of which the least recently used ones go when there are too many.

Several processes may use the same folder. Files appear completely or not at all, and each carries a checksum, so that a
damaged one is as good as none. A disk that is full or read-only makes the folder useless, but nothing fails.
"""

import hashlib
import logging
import os
import threading
from pathlib import Path

from training.base.artifacts import atomic_write

__all__ = ["Shelf"]

logger = logging.getLogger(__name__)

_SUM_BYTES = 16
_KEPT = 0.9  # share of the limit that is left when files are deleted


class Shelf:
    """Keeps contents by name. It may be used from many threads.

    Args:
        folder: where the files are; it need not exist.
        max_bytes: largest sum of their sizes; 0 keeps nothing.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._used: int | None = None  # bytes, as far as this process knows; unknown until something is kept
        self._lock = threading.Lock()
        self._has_failed = False

    def read(self, name: str) -> bytes | None:
        """The content of a name; None if there is none."""
        path = self._path(name)
        try:
            kept = path.read_bytes()
        except OSError:  # there is none, or it cannot be read
            return None
        content = kept[_SUM_BYTES:]
        if kept[:_SUM_BYTES] != _checksum(content):
            return None  # it is written anew
        try:
            os.utime(path)  # used just now
        except OSError:  # read-only, or deleted in the meantime
            return content
        return content

    def write(self, name: str, content: bytes) -> None:
        """Keeps a content, unless the folder cannot be written."""
        if not self._max_bytes:
            return
        try:
            with atomic_write(self._path(name)) as temporary:
                temporary.write_bytes(_checksum(content) + content)
            self._make_room(_SUM_BYTES + len(content))
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                logger.warning("%s cannot be written, so thumbnails are made again each time: %s", self._folder, error)
            self._has_failed = True

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _make_room(self, added: int) -> None:
        with self._lock:
            if self._used is not None and self._used + added <= self._max_bytes:
                self._used += added
                return
            files = sorted(self._files())
            self._used = sum(size for _, size, _ in files)
            for _, size, path in files if self._used > self._max_bytes else ():
                if self._used <= _KEPT * self._max_bytes:
                    break
                path.unlink(missing_ok=True)
                self._used -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """When each file was last used, its size and its path."""
        files = []
        for path in self._folder.glob("*/*"):
            try:
                facts = path.stat()
            except FileNotFoundError:  # another process has deleted it
                continue
            files.append((facts.st_mtime_ns, facts.st_size, path))
        return files


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_SUM_BYTES).digest()
