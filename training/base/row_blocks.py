"""Large arrays a block of rows at a time, so that what is computed from them needs no copy of the whole."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["map_rows", "row_blocks"]

_ROWS = 8192


def row_blocks(count: int, rows: int | None = None) -> Iterator[slice]:
    """Yields the slices of ``count`` rows, in order, each of at most ``rows``; 8,192 when omitted."""
    step = rows or _ROWS
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def map_rows(function: Callable[[NDArray[Any]], NDArray[Any]], values: NDArray[Any], width: int) -> NDArray[np.float32]:
    """Applies a function to blocks of rows.

    Args:
        function: maps ``(rows, ...)`` to ``(rows, width)``, each row by itself.
        values: ``(n, ...)``.
        width: number of columns of the result.

    Returns:
        ``(n, width)``, in single precision.

    Example:
        >>> map_rows(lambda rows: 2 * rows, np.ones((3, 2)), 2).sum()
        np.float32(12.0)
    """
    mapped = np.empty((len(values), width), np.float32)
    for rows in row_blocks(len(values)):
        mapped[rows] = function(values[rows])
    return mapped
