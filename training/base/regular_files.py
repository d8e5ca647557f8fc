"""Files of photos and sketches, opened so that nothing in their place can hang or flood the process.

A name that led to a picture may lead to a FIFO, a device or something huge by now. Opening a FIFO waits for its writer,
and reading ``/dev/zero`` does not end.
"""

import errno
import io
import os
import stat
from pathlib import Path

__all__ = ["MAX_BYTES", "UnusableFile", "open_regular", "read_regular"]

MAX_BYTES = 512 << 20  # largest file that is taken for a picture

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class UnusableFile(OSError):  # noqa: N818 - says what is the matter
    """What has a file's name is no regular file, or is too large; ``strerror`` says which."""


def open_regular(path: Path, *, follow_link: bool = True) -> io.BufferedReader:
    """Opens a regular file for reading, at its beginning; never waits for a writer.

    Args:
        path: the file.
        follow_link: whether the name itself may be a symbolic link.

    Raises:
        UnusableFile: if it is something else than a regular file, or larger than ``MAX_BYTES``.
        OSError: if it cannot be opened.
    """
    _check(path.stat(), path)  # devices are not even opened, for some act on that
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    handle = os.open(path, flags if follow_link else flags | os.O_NOFOLLOW)
    file = os.fdopen(handle, "rb")
    try:
        _check(os.fstat(handle), path)  # of what was opened, whatever had the name before
    except UnusableFile:
        file.close()
        raise
    return file


def read_regular(path: Path) -> bytes:
    """Reads a regular file, and no more than its size when it was opened.

    Raises:
        UnusableFile: if it is something else than a regular file, or larger than ``MAX_BYTES``.
        OSError: if it cannot be read.
    """
    with open_regular(path) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def _check(facts: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        raise UnusableFile(errno.EINVAL, f"not a regular file but {kind}", str(path))
    if facts.st_size > MAX_BYTES:
        raise UnusableFile(errno.EFBIG, f"larger than {MAX_BYTES >> 20} MiB", str(path))
