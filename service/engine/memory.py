"""Memory of what is no longer served, which the C library would keep for itself, and of what stays for good."""

import ctypes
import gc
import time
import weakref

import torch

__all__ = ["Leftovers", "release_memory", "settle"]

_SECONDS = 2.0  # after which memory is given back although nothing was taken out of service: requests were large


class Leftovers:
    """What was taken out of service, and may still be in use by requests that are running."""

    def __init__(self) -> None:
        self._left: list[weakref.ref[object]] = []
        self._released = time.monotonic()

    def watch(self, thing: object) -> None:
        """Remembers something large that nobody will begin to use any more."""
        self._left.append(weakref.ref(thing))

    def clear(self) -> bool:
        """Gives memory back to the system if something large is gone since the last call; tells whether it was.

        From time to time memory is given back whether or not, because large requests leave some too.
        """
        left = [one for one in self._left if one() is not None]
        is_gone = len(left) < len(self._left)
        self._left = left
        if is_gone or time.monotonic() - self._released > _SECONDS:
            release_memory()
            self._released = time.monotonic()
        return is_gone


def settle() -> None:
    """Has the garbage collector no longer look at what there is by now, such as half a million objects of modules.

    Otherwise it looks at all of them now and then, and everything waits meanwhile: 0.2 seconds, more on a busy machine.
    """
    gc.collect()
    gc.freeze()
    # The collector looks at old objects again once their number has grown by a quarter since the last time. With none
    # left that is soon; else requests that are garbage would be kept until they are a quarter of what was frozen.
    gc.collect()


def release_memory() -> None:
    """Gives free memory back to the system, where the C library (glibc) and PyTorch on a GPU can do so."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
    torch.cuda.empty_cache()  # does nothing where no GPU is in use
