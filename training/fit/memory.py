"""Keeps freed memory in the process, which makes training steps on a CPU faster."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Tells glibc to keep large blocks that are freed, for the next batch to use.

    By default it returns each to the system and the next batch pays for every page anew: a fifth of the time of
    a training step on a CPU. Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    largest = 2**31 - 1
    for option, value in ((_M_MMAP_THRESHOLD, largest), (_M_TRIM_THRESHOLD, largest), (_M_TOP_PAD, 2**28)):
        mallopt(option, value)
