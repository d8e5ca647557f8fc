"""Photographed drawings: where the paper is, how it is lit, and how dark the ink on it is."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

__all__ = ["Darkness", "find_paper", "flattened", "is_light_on_dark"]

Darkness = NDArray[np.float32]
Mask = NDArray[np.bool_]

_COARSE = 160  # pixels of the longer side, for what changes slowly over the picture
_STROKE = 15  # pixels of the coarse picture; strokes are narrower, and light changes little over them
_DIFFERENT = 20  # least difference of grey levels between paper and what surrounds it, or is drawn on it
_SURE = 0.4  # of the paper around: what is darker is ink, however wide


def _reduced(pixels: NDArray[np.uint8], longest: int = _COARSE) -> NDArray[np.float32]:
    image = Image.fromarray(pixels)
    return np.asarray(image.reduce(max(1, max(image.size) // longest)), dtype=np.float32)


def _enlarged(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    image = Image.fromarray(values).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


def is_light_on_dark(gray: NDArray[np.uint8]) -> bool:
    """Whether the fine lines of a picture ``(height, width)``, most of which is dark, are lighter than their ground."""
    coarse = _reduced(gray, 2 * _COARSE)
    if np.median(coarse) >= 128:
        return False
    bright = coarse - ndimage.grey_opening(coarse, _STROKE)
    dark = ndimage.grey_closing(coarse, _STROKE) - coarse
    return bool(bright[bright > _DIFFERENT].sum() > dark[dark > _DIFFERENT].sum())


def find_paper(pixels: NDArray[np.uint8]) -> Mask | None:
    """The sheet of paper in a picture, if something else surrounds it.

    Args:
        pixels: ``(height, width, 3)``.

    Returns:
        ``(height, width)``, true on the paper; None if the paper, or whatever is drawn on, fills the picture.
    """
    coarse = _reduced(pixels)
    gray = ndimage.grey_closing(coarse.mean(axis=2), 9)  # without the lines drawn on it
    if np.ptp(gray) < _DIFFERENT:
        return None
    threshold = _otsu(gray)
    bright = ndimage.binary_opening(gray > threshold, iterations=2)
    labels, count = ndimage.label(bright)
    if not count:
        return None
    sheet = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))
    if not 0.1 < sheet.mean() < 0.98 or not _surrounded(coarse, gray, sheet) or not _is_convex(sheet):
        return None
    sheet = ndimage.binary_erosion(sheet, iterations=2)
    mask = Image.fromarray(sheet).resize((pixels.shape[1], pixels.shape[0]))
    return np.asarray(mask, dtype=bool)


def _otsu(values: NDArray[np.float32]) -> float:
    """The threshold that splits values into the two most distinct groups."""
    counts = np.bincount(values.astype(np.uint8).ravel(), minlength=256).astype(float)
    below = counts.cumsum()
    sums = (counts * np.arange(256)).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / below[-1] - sums) ** 2 / (below * (below[-1] - below))
    return float(np.nanargmax(between))


def _surrounded(coarse: NDArray[np.float32], gray: NDArray[np.float32], sheet: Mask) -> bool:
    """Whether what is around a sheet is a thing of its own, and no shadow on a larger sheet."""
    border = np.concatenate([sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]])
    outside = 1 - border.mean()
    surface = ~ndimage.binary_dilation(sheet, iterations=3)
    if not surface.any():
        return False
    darker = np.median(gray[surface]) / max(1.0, np.median(gray[sheet]))
    colours = [np.median(coarse[region], axis=0) for region in (sheet, surface)]
    hues = [colour / max(1.0, colour.sum()) for colour in colours]
    if darker < 0.45 or np.abs(hues[0] - hues[1]).max() > 0.03:
        return bool(darker < 0.85 and outside > 0.3)
    return bool(darker < 0.75 and outside > 0.95)


def _is_convex(sheet: Mask) -> bool:
    """Whether a region fills most of its convex hull's width along rows and columns, as paper in perspective does."""
    filled = 0.0
    for region in (sheet, sheet.T):
        first = region.argmax(axis=1)
        last = region.shape[1] - region[:, ::-1].argmax(axis=1)
        widths = np.where(region.any(axis=1), last - first, 0)
        filled += region.sum() / max(1, widths.sum()) / 2
    return filled > 0.95


def flattened(pixels: NDArray[np.uint8], paper: Mask | None) -> Darkness:
    """How much darker than the paper around it each pixel is in its darkest channel, ``(height, width)``, 0 to 1.

    Args:
        pixels: ``(height, width, 3)``, dark on light.
        paper: ``(height, width)``, true on the paper; None if that is everything.
    """
    if paper is not None:
        pixels = np.where(paper[:, :, None], pixels, np.uint8(0))
    darkness = np.zeros(pixels.shape[:2], dtype=np.float32)
    weights = None if paper is None else _reduced(paper.astype(np.uint8) * 255) / np.float32(255)
    for channel in range(3):
        values = pixels[:, :, channel]
        light = _enlarged(_light(_reduced(values), weights), values.shape)
        np.maximum(darkness, 1 - values / np.maximum(light, 1), out=darkness)
    if paper is not None:
        darkness[~paper] = 0
    return darkness.clip(0, 1)


def _light(values: NDArray[np.float32], weights: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The brightness of the paper without what is drawn on it."""
    if weights is not None:
        values = np.where(weights > 0.99, values, 0)
    around = ndimage.grey_closing(values, max(values.shape) * 3 // 5)
    values = np.where(values < _SURE * around, around, values)
    light = ndimage.grey_closing(values, _STROKE)
    if weights is None:
        return np.asarray(ndimage.gaussian_filter(light, 1))
    inside = (light > 0).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(light, 1) / np.maximum(ndimage.gaussian_filter(inside, 1), 1e-3))
