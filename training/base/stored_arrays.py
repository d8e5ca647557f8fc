"""Reads NumPy's files, one thread at a time.

NumPy parses the header of a file as Python source. Some versions of CPython, such as 3.11.7, lose count of its depth
when several threads do so at once, and raise a SystemError (https://github.com/python/cpython/issues/106905).
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_array", "load_arrays"]

_parsing = threading.Lock()


def load_array(file: Path, *, mapped: bool = False) -> NDArray[Any]:
    """The array of an ``.npy`` file; if ``mapped``, in the file and read-only. Raises what ``numpy.load`` raises."""
    with _parsing:
        found: NDArray[Any] = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
        return found


def load_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file, by name. Raises what ``numpy.load`` raises."""
    with _parsing, np.load(file, allow_pickle=False) as stored:
        return dict(stored)
