"""Printed lines of ruled and squared paper."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["without_ruling"]

Mask = NDArray[np.bool_]

_SHORTEST = 16  # straight pieces of a line are at least the picture's side divided by this
_SPAN = 0.55  # least share of the width that a line spans which shows that the paper is ruled
_PIECE = 0.1  # least share that a line spans on ruled paper
_SLOPE = 0.2  # largest slope of a line
_THICK = 12  # pixels; lines are thinner
_GAP = 7  # pixels that a line is wide at most
_DARKER = 1.35  # times as dark as printed lines is what was drawn across them
_LINES = 4  # fewer are drawn, not printed


def without_ruling(darkness: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """The darkness of a page ``(height, width)`` without the lines printed on it.

    Strokes that are darker than the lines stay, and gaps in the others are closed.
    """
    marks = darkness > threshold
    across, down = _lines(marks), _lines(marks.T).T
    lines = across | down
    if not lines.any():
        return darkness
    drawn = marks & ~lines | (darkness > _DARKER * np.quantile(darkness[lines], 0.75))
    drawn &= ~(across & down) | ndimage.binary_dilation(drawn & ~lines, iterations=3)  # crossings are darker, too
    rest = np.where(lines & ~drawn, np.float32(0), darkness)
    return np.where(lines, np.maximum(rest, ndimage.grey_closing(rest, _GAP)), rest)


def _lines(marks: Mask) -> Mask:
    """Pixels of long, thin, nearly level lines, if there are several; then shorter pieces are taken for lines too."""
    width = marks.shape[1]
    tall = _opened(_opened(marks, 5).T, _THICK).T  # what is neither a level line nor an upright one
    pieces = _closed(ndimage.binary_dilation(marks & ~tall, np.ones((3, 1), dtype=bool)), _GAP)
    labels, count = ndimage.label(_opened(pieces, max(9, width // _SHORTEST)), np.ones((3, 3), dtype=bool))
    spans = np.zeros(count + 1)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        span = columns.stop - columns.start
        if rows.stop - rows.start < max(_THICK, _SLOPE * span) and areas[number] < _THICK * span:
            spans[number] = span / width
    if (spans > _SPAN).sum() < _LINES:
        return np.zeros_like(marks)
    lines: Mask = (spans > _PIECE)[labels]
    return lines


def _closed(marks: Mask, length: int) -> Mask:
    values = ndimage.maximum_filter1d(marks.view(np.uint8), length, axis=1)
    return np.asarray(ndimage.minimum_filter1d(values, length, axis=1), dtype=bool)


def _opened(marks: Mask, length: int) -> Mask:
    values = ndimage.minimum_filter1d(marks.view(np.uint8), length, axis=1, mode="constant", cval=1)
    return np.asarray(ndimage.maximum_filter1d(values, length, axis=1), dtype=bool)
