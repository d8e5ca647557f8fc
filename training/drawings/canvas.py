"""Drawings on a canvas, whose ground is even: from programs, from scanners, and after transparency was flattened."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

from training.drawings.marks import Drawing, Pixels, border, find_marks
from training.drawings.paper import find_paper
from training.drawings.ruling import without_ruling

__all__ = ["Canvas", "find_canvas"]

_CONTRAST = 24  # grey levels away from the ground that count as ink
_EVEN = 12  # grey levels away from the ground that are the ground
_UNEVEN = 0.02  # largest share of an even ground between the two
_TWO_LEVELS = 0.9  # least share that a drawing of a program has of ground and ink in one level each
_MOST_INK = 0.25  # largest share of a canvas that has ink, unless its border is even
_EVEN_BORDER = 0.95  # least share of an even border that is the ground
_MOST_LINES = 0.3  # largest share of a canvas that lines have which reach its border
_FRAME = 0.05  # largest width of a frame at the edge, as a share of the side
_LARGE = 0.2  # least share of the side that a drawing spans within a frame, or on printed lines
_LINE_ENDS = 8  # fewest at the border of a canvas with printed lines
_BLACK = 12  # highest grey level of a black canvas, which is no table
_LIGHT = 224  # lowest grey level of a ground that no paper lies on
_WHITE = 245  # lowest grey level of a white ground
_PALE = 96  # lowest grey level of pale ink


@dataclass(frozen=True)
class Canvas:
    """An RGB image of ink on an even ground.

    Attributes:
        image: the image, without a frame at its edge.
        gray: the same in grey levels.
        counts: pixels of ``gray`` by grey level, ``(256,)``.
        ground: grey level of the ground.
    """

    image: Image.Image
    gray: Image.Image
    counts: NDArray[np.int64]
    ground: int

    def drawing(self) -> Drawing | None:
        """What is drawn, dark on light; None if nothing is."""
        gray, counts, ground = self.gray, self.counts, self.ground
        red, green, blue = self.image.split()
        is_coloured = bool(ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox())
        is_inverted = ground < 128
        if is_inverted:
            gray, counts, ground = ImageOps.invert(gray), counts[::-1], 255 - ground
        if is_coloured:
            strongest = ImageChops.lighter if is_inverted else ImageChops.darker
            gray = strongest(strongest(red, green), blue)
            gray = ImageOps.invert(gray) if is_inverted else gray
            counts, ground = np.array(gray.histogram()), border(np.asarray(gray))
        marks = find_marks(_inked(gray, ground, _CONTRAST)) or find_marks(_inked(gray, ground, _EVEN))
        if marks is None:
            return None
        if is_coloured or ground < _WHITE or _darkest(counts, ground, 0.1) > _PALE:
            gray, ground = _black_on_white(gray, _darkest(counts, ground, 0.5), ground), 255
        if marks.strays is not None:
            gray = gray.copy()
            gray.paste(ground, mask=Image.fromarray(marks.strays))
        return Drawing(gray, marks.box, ground)


def find_canvas(image: Image.Image) -> Canvas | None:
    """The canvas that an image shows; None if its ground is uneven, has printed lines, or is a table with paper."""
    gray = image.convert("L")
    pixels = np.asarray(gray)
    counts = np.array(gray.histogram())
    ground, width = _ground_and_frame(pixels, counts)
    if width:
        inside = (width, width, gray.width - width, gray.height - width)
        image, gray, pixels = image.crop(inside), gray.crop(inside), pixels[width:-width, width:-width]
        counts = np.array(gray.histogram())
    if not _is_even(pixels, counts, ground) or _is_ruled(pixels, ground):
        return None
    if _BLACK < ground < _LIGHT and _inked_share(counts, ground) > _MOST_INK:
        return None if find_paper(np.asarray(image)) is not None else Canvas(image, gray, counts, ground)
    return Canvas(image, gray, counts, ground)


def _ring(pixels: Pixels, ground: int) -> NDArray[np.int16]:
    """How far the border's pixels are from the ground, side after side."""
    sides = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return np.abs(sides.astype(np.int16) - ground)


def _ground_and_frame(pixels: Pixels, counts: NDArray[np.int64]) -> tuple[int, int]:
    """The ground's grey level, and the width of a frame at the edge, or 0.

    The border has the ground's level, unless there is a frame, or lines reach to all sides.
    """
    ground, usual = border(pixels), int(np.argmax(counts))
    depth = int(min(pixels.shape) * _FRAME)
    if abs(ground - usual) <= _CONTRAST or not depth:
        return ground, 0
    if (_ring(pixels, ground) <= _CONTRAST).mean() > _EVEN_BORDER and (width := _frame_width(pixels, usual, depth)):
        return usual, width
    reached = abs(border(pixels[depth:-depth, depth:-depth]) - usual) <= _EVEN
    return (usual if reached and _inked_share(counts, usual) < _MOST_LINES else ground), 0


def _frame_width(pixels: Pixels, ground: int, deepest: int) -> int:
    """The width of a frame within which there is a drawing, or 0."""
    for depth in range(1, deepest + 1):
        inner = pixels[depth:-depth, depth:-depth]
        if _ring(inner, ground).max() <= _EVEN:
            inked = np.argwhere(np.abs(inner.astype(np.int16) - ground) > _CONTRAST)
            return depth if _is_large(inked, inner) else 0
    return 0


def _is_large(places: NDArray[np.intp], pixels: Pixels) -> bool:
    return bool(len(places) and np.ptp(places, axis=0).max() > _LARGE * min(pixels.shape))


def _is_even(pixels: Pixels, counts: NDArray[np.int64], ground: int) -> bool:
    """Whether an image is ink on an even ground."""
    distance = np.abs(np.arange(256) - ground)
    near = counts[distance <= _CONTRAST].sum()
    if counts[distance <= _EVEN].sum() < (1 - _UNEVEN) * near:
        return False
    has_two_levels = np.sort(counts)[-2:].sum() > _TWO_LEVELS * counts.sum()
    is_even_border = (_ring(pixels, ground) <= _EVEN).mean() > _EVEN_BORDER
    is_plain = not _BLACK < ground < _LIGHT  # other grounds may be light or shadow on a part of some paper
    return bool(has_two_levels or is_even_border or (is_plain and _inked_share(counts, ground) < _MOST_INK))


def _inked_share(counts: NDArray[np.int64], ground: int) -> float:
    return float(1 - counts[max(0, ground - _CONTRAST) : ground + _CONTRAST + 1].sum() / counts.sum())


def _is_ruled(pixels: Pixels, ground: int) -> bool:
    """Whether lines reach to the border of a canvas that are not the drawing itself."""
    if np.count_nonzero(np.diff(_ring(pixels, ground) > _EVEN)) < 2 * _LINE_ENDS:
        return False
    darkness = np.abs(pixels.astype(np.float32) - np.float32(ground)) / np.float32(255)
    rest = without_ruling(darkness, _EVEN / 255)
    return rest is not darkness and _is_large(np.argwhere(rest > _EVEN / 255), pixels)


def _inked(gray: Image.Image, ground: int, contrast: int) -> Image.Image:
    return _mapped(gray, _far_from(ground, contrast))


def _mapped(gray: Image.Image, levels: bytes) -> Image.Image:
    """The image with other grey levels, as ``Image.point`` makes it, which rounds each level of the table first."""
    return Image.frombytes("L", gray.size, gray.tobytes().translate(levels))


@lru_cache(maxsize=512)
def _far_from(ground: int, contrast: int) -> bytes:
    return bytes(255 * (abs(level - ground) > contrast) for level in range(256))


def _darkest(counts: NDArray[np.int64], ground: int, share: float) -> int:
    """The grey level that a share of the ink does not exceed."""
    ink = counts[: max(1, ground - _EVEN)].cumsum()
    return int(np.searchsorted(ink, share * ink[-1]))


def _black_on_white(gray: Image.Image, darkest: int, ground: int) -> Image.Image:
    return _mapped(gray, _stretched(darkest, ground))


@lru_cache(maxsize=512)
def _stretched(darkest: int, ground: int) -> bytes:
    scale = 255 / max(1, ground - darkest)
    return bytes(255 - round(min(255, max(0, (ground - level) * scale))) for level in range(256))
