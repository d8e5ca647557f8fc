"""Which marks on a canvas are the drawing, and which are a frame around it or specks beside it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

__all__ = ["Box", "Drawing", "Marks", "Pixels", "border", "find_marks"]

Box = tuple[int, int, int, int]
Pixels = NDArray[np.uint8]

_CELLS = 128  # of the longer side, in which marks are told apart
_TOUCHING = np.ones((3, 3), dtype=bool)
_FRAME = 0.9  # least share of the canvas's width and height that a frame spans
_FRAME_DEPTH = 4  # cells from the outside of a frame within which all of it lies
_FRAMED = 0.2  # least share of the canvas that the marks within a frame span
_SPECK = 0.17  # largest extent of a speck, as a share of the drawing's
_APART = 0.25  # least gap between a speck and the drawing, likewise
_SPECK_INK = 0.25  # largest share of all inked cells that specks have


class Drawing(NamedTuple):
    """A drawing that was found.

    Attributes:
        image: in grey levels, dark on a light, even ground; or an RGB photo of something else, as it is.
        box: left, upper, right and lower bound of what is drawn, in pixels.
        ground: grey level around it.
    """

    image: Image.Image
    box: Box
    ground: int


class Marks(NamedTuple):
    """What is drawn on a canvas.

    Attributes:
        box: left, upper, right and lower bound of the drawing, in pixels.
        strays: ``(height, width)`` true around what is no part of the drawing; None if everything is.
    """

    box: Box
    strays: NDArray[np.bool_] | None


def border(pixels: Pixels) -> int:
    """The median grey level of the border of an image, ``(height, width)``."""
    return int(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))


def find_marks(mask: Image.Image) -> Marks | None:
    """Tells a drawing from a thin straight frame around the canvas and from few small specks far beside it.

    A canvas with nothing else than frames or dots shows a drawing of these.

    Args:
        mask: of mode ``L``, 255 where there is ink and 0 elsewhere.

    Returns:
        The marks; None if there is no ink.
    """
    box = mask.getbbox()
    if box is None:
        return None
    scale = -(-max(mask.size) // _CELLS)
    cells = np.asarray(mask.reduce(scale)) > 0
    labels, count = ndimage.label(cells, _TOUCHING)
    if count == 1:
        return Marks(box, None)
    boxes = np.array([[s[1].start, s[0].start, s[1].stop, s[0].stop] for s in ndimage.find_objects(labels)])
    kept = _without_frame(labels, boxes)
    kept &= _without_specks(np.bincount(labels.ravel(), minlength=count + 1)[1:], boxes, kept)
    if kept.all():
        return Marks(box, None)
    strays = ndimage.binary_dilation(np.concatenate([[False], ~kept])[labels], _TOUCHING)
    strays &= ~np.concatenate([[False], kept])[labels]
    full = strays.repeat(scale, axis=0).repeat(scale, axis=1)[: mask.height, : mask.width]
    rest = Image.fromarray(np.where(full, np.uint8(0), np.asarray(mask))).getbbox()
    return Marks(rest or box, full)


def _without_frame(labels: NDArray[np.int32], boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True for each mark that is no frame around others."""
    kept = np.ones(len(boxes), dtype=bool)
    least = np.array(labels.shape[::-1]) * _FRAME
    for number, (left, top, right, bottom) in enumerate(boxes):
        if right - left < least[0] or bottom - top < least[1]:
            continue
        inner = labels[top:bottom, left:right][_FRAME_DEPTH:-_FRAME_DEPTH, _FRAME_DEPTH:-_FRAME_DEPTH]
        others = np.argwhere((inner != 0) & (inner != number + 1))
        if (inner == number + 1).any() or not len(others):
            continue
        kept[number] = np.ptp(others, axis=0).max() + 1 < _FRAMED * min(labels.shape)
    return kept


def _without_specks(inked: NDArray[np.int64], boxes: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True for each mark that belongs to the drawing: starting from the largest, whatever is large or near."""
    extents = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    first = int(np.argmax(np.where(chosen, extents, 0)))
    belongs, bounds = np.zeros(len(boxes), dtype=bool), boxes[first]
    while True:
        side = (bounds[2:] - bounds[:2]).max()
        gaps = np.maximum(boxes[:, :2] - bounds[2:], bounds[:2] - boxes[:, 2:]).max(axis=1)
        found = chosen & ((extents > _SPECK * side) | (gaps < _APART * side))
        if (found == belongs).all():
            break
        belongs, members = found, boxes[found]
        bounds = np.concatenate([members[:, :2].min(axis=0), members[:, 2:].max(axis=0)])
    specks = chosen & ~belongs
    return belongs if inked[specks].sum() <= _SPECK_INK * inked[chosen].sum() else chosen
