"""Line drawings made from photos: outlines by OpenCV, thinned out and drawn in strokes of varying width.

They stand in for sketches where nobody has drawn any, and add variety to the sketches of a training set. Each forms an
instance pair with the photo it was made from.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["SIDE", "Pixels", "line_drawings"]

cv2.setNumThreads(1)  # callers work on several photos at once

SIDE = 256  # pixels at which outlines are looked for, and of a drawing
_LEVELS = (90.0, 97.5)  # percentile of gradient that an outline starts from
_BLURS = (1.6, 3.2)  # pixels
_SHORTEST = (30, 80)  # pixels of a connected outline that is kept
_WIDTHS = (2, 3, 4)  # pixels of a stroke

Pixels = NDArray[np.uint8]


def line_drawings(photo: Image.Image, random: np.random.Generator, count: int) -> list[Pixels]:
    """Draws the outlines of a photo several times; each drawing has its own detail and stroke width.

    Args:
        photo: photo in RGB.
        random: source of all random choices.
        count: number of drawings.

    Returns:
        Drawings in 0 on 255, each ``(SIDE, SIDE)``.
    """
    pixels = np.asarray(photo.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    smooth = cv2.bilateralFilter(pixels, 7, 60, 7)  # the slowest step, and the same for all drawings
    gray = np.asarray(cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return [_drawing(gray, random) for _ in range(count)]


def _drawing(gray: Pixels, random: np.random.Generator) -> Pixels:
    kept = _without_short(_outlines(gray, random), int(random.integers(*_SHORTEST)))
    width = int(random.choice(_WIDTHS))
    return np.asarray(255 - cv2.dilate(kept, np.ones((width, width), np.uint8)), dtype=np.uint8)


def _outlines(gray: Pixels, random: np.random.Generator) -> Pixels:
    """Canny edges with thresholds that follow the photo's own contrast, 255 on 0."""
    blurred = cv2.GaussianBlur(gray, (0, 0), random.uniform(*_BLURS))
    dx, dy = cv2.Sobel(blurred, cv2.CV_16S, 1, 0), cv2.Sobel(blurred, cv2.CV_16S, 0, 1)
    strong = max(_percentile_of_length(dx, dy, random.uniform(*_LEVELS)), 1.0)
    return np.asarray(cv2.Canny(dx, dy, 0.4 * strong, strong, L2gradient=True), dtype=np.uint8)


def _percentile_of_length(dx: NDArray[np.generic], dy: NDArray[np.generic], level: float) -> float:
    """A percentile of the gradient's length, from that of its square, which is a whole number and sorted sooner."""
    squares = np.square(dx, dtype=np.int32) + np.square(dy, dtype=np.int32)
    return math.sqrt(np.percentile(squares.ravel(), level, method="lower"))


def _without_short(outlines: Pixels, shortest: int) -> Pixels:
    """The connected outlines of so many pixels; at 8 neighbours, labels of 16 bits are enough for all there can be."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStatsWithAlgorithm(outlines, 8, cv2.CV_16U, cv2.CCL_DEFAULT)
    shown = np.where(statistics[:, cv2.CC_STAT_AREA] >= shortest, 255, 0).astype(np.uint8)
    shown[0] = 0  # the background
    return shown[np.asarray(labels, np.uint16)]
