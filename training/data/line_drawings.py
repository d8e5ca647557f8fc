"""Line drawings made from photos: outlines by OpenCV, thinned out and drawn in strokes of varying width.

They stand in for sketches where nobody has drawn any, and add variety to the sketches of a training set. Each forms an
instance pair with the photo it was made from.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["line_drawing"]

cv2.setNumThreads(1)  # callers work on several photos at once

_SIDE = 256  # pixels at which outlines are looked for
_LEVELS = (90.0, 97.5)  # percentile of gradient that an outline starts from
_BLURS = (1.6, 3.2)  # pixels
_SHORTEST = (30, 80)  # pixels of a connected outline that is kept
_WIDTHS = (2, 3, 4)  # pixels of a stroke


def line_drawing(photo: Image.Image, random: np.random.Generator, size: int) -> Image.Image:
    """Draws the outlines of a photo, dark on white; each call chooses detail and stroke width anew.

    Args:
        photo: photo in RGB.
        random: source of all random choices.
        size: side of the square drawing, in pixels.

    Returns:
        The drawing, in RGB.
    """
    pixels = np.asarray(photo.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    smooth = cv2.bilateralFilter(pixels, 7, 60, 7)
    outlines = _outlines(np.asarray(cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY), dtype=np.uint8), random)
    kept = _drop_short(outlines, int(random.integers(*_SHORTEST)))
    width = int(random.choice(_WIDTHS))
    strokes = cv2.dilate(kept, np.ones((width, width), np.uint8))
    drawing = cv2.resize(255 - strokes, (size, size), interpolation=cv2.INTER_AREA)
    return Image.fromarray(drawing).convert("RGB")


def _outlines(gray: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Canny edges with thresholds that follow the photo's own contrast, 255 on 0."""
    blurred = cv2.GaussianBlur(gray, (0, 0), random.uniform(*_BLURS))
    dx, dy = cv2.Sobel(blurred, cv2.CV_16S, 1, 0), cv2.Sobel(blurred, cv2.CV_16S, 0, 1)
    strong = max(float(np.percentile(np.hypot(dx, dy), random.uniform(*_LEVELS))), 1.0)
    return np.asarray(cv2.Canny(dx, dy, 0.4 * strong, strong, L2gradient=True), dtype=np.uint8)


def _drop_short(outlines: NDArray[np.uint8], shortest: int) -> NDArray[np.uint8]:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(outlines, connectivity=8)
    long = statistics[:, cv2.CC_STAT_AREA] >= shortest
    long[0] = False  # the background
    return np.where(long[labels], 255, 0).astype(np.uint8)
