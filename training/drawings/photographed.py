"""Drawings on paper that was photographed or scanned, in any light."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops
from scipy import ndimage

from training.drawings.marks import Box, Drawing, border, find_marks
from training.drawings.paper import Darkness, find_paper, flattened, is_light_on_dark
from training.drawings.ruling import without_ruling

__all__ = ["drawing_on_paper"]

_LARGEST = 640  # pixels of the longer side
_RIM = 3  # pixels at the border of a photo that show nothing
_FAINTEST = 0.09  # darkness of the faintest ink on paper
_NOISIEST = 0.2  # darkness that noise has at most in a photo of paper
_FULLEST = 0.5  # largest share of a photographed drawing that has ink
_MOST_SHADES = 0.15  # largest share that is neither paper nor nearly as dark as the ink
_FAINT, _BLACK = 0.3, 0.8  # darkness that becomes white and black, as shares of the ink's: a lens widens strokes
_LEAST_MARK = 12  # pixels of the smallest mark on paper
_FILLED = 0.7  # of a page's side that a photographed drawing spans; clean drawings fill as much of their canvas


def drawing_on_paper(image: Image.Image) -> Drawing | None:
    """The drawing that an RGB photo shows; the photo as it is if it shows no paper; None if the paper is blank."""
    image = _without_bands(image)
    image.thumbnail((_LARGEST, _LARGEST), reducing_gap=2.0)
    darkness = _darkness(image)
    noise = float(np.median(np.abs(np.diff(darkness, axis=1))))
    threshold = max(_FAINTEST, float(np.quantile(darkness, 0.25)) + 5 * noise)
    darkness = without_ruling(darkness, threshold)
    ink = darkness > threshold
    if not ink.any():
        return None
    full = float(np.quantile(darkness[ink], 0.75))
    if threshold > _NOISIEST or ink.mean() > _FULLEST or (ink & (darkness < 0.6 * full)).mean() > _MOST_SHADES:
        return Drawing(image, (0, 0, *image.size), border(np.asarray(image.convert("L"))))
    return _page(darkness, max(threshold, 0.4 * full), full)


def _without_bands(image: Image.Image) -> Image.Image:
    """An image without rows and columns at its border that have one colour only, such as those of a letterbox."""
    corner = Image.new("RGB", image.size, image.getpixel((0, 0)))
    different = ImageChops.difference(image, corner).convert("L").point([255 * (level > 2) for level in range(256)])
    return image.crop(different.getbbox()) if different.getbbox() else image.copy()


def _darkness(image: Image.Image) -> Darkness:
    """How dark the ink is, ``(height, width)``, 0 to 1."""
    pixels = np.asarray(image)
    paper = find_paper(pixels)
    if paper is None and is_light_on_dark(np.asarray(image.convert("L"))):
        pixels = 255 - pixels
    darkness = flattened(pixels, paper)
    darkness[:_RIM] = darkness[-_RIM:] = darkness[:, :_RIM] = darkness[:, -_RIM:] = 0
    return darkness


def _page(darkness: Darkness, threshold: float, full: float) -> Drawing | None:
    """The ink alone on a square page, for how far a photo reaches around it says nothing."""
    mask = _without_grains(darkness > threshold)
    marks = find_marks(Image.fromarray(mask.astype(np.uint8) * 255))
    if marks is None:
        return None
    if marks.strays is not None:
        mask &= ~marks.strays
    around = ndimage.binary_dilation(mask, iterations=2)  # the soft edges of strokes
    shade = ((darkness / full - _FAINT) / (_BLACK - _FAINT)).clip(0, 1) * around
    inked = Image.fromarray(np.rint(255 * (1 - shade)).astype(np.uint8))
    return _squared(inked, marks.box)


def _without_grains(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels = ndimage.label(mask, np.ones((3, 3)))[0]
    kept = np.bincount(labels.ravel()) >= _LEAST_MARK
    kept[0] = False
    large: NDArray[np.bool_] = kept[labels]
    return large


def _squared(image: Image.Image, box: Box) -> Drawing:
    width, height = box[2] - box[0], box[3] - box[1]
    side = round(max(width, height) / _FILLED)
    left, top = (side - width) // 2, (side - height) // 2
    page = Image.new("L", (side, side), "white")
    page.paste(image.crop(box), (left, top))
    return Drawing(page, (left, top, left + width, top + height), 255)
