"""Files that appear whole or not at all."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["NO_ROOM", "atomic_write", "file_sha256", "write_text"]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # errors of a disk, a quota or a limit that is reached


@contextmanager
def atomic_write(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; on success it takes the place of ``path``.

    A failure, a full disk or a kill leaves ``path`` as it was.

    Args:
        path: file to write.
        synced: whether the content is on the disk before that, so that a power cut leaves it whole as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if synced:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
