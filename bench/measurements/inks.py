"""How drawings arrive: specks, frames, transparency, pencils, light, paper, tables and cameras, rendered by script.

A condition takes the ink of a clean drawing, ``(side, side)`` with 1 where it is black, and a generator of random
numbers. It returns the file that a person would send.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["CONDITIONS", "RULED", "render"]

Ink = NDArray[np.float32]
Condition = Callable[[Ink, np.random.Generator], bytes]

RULED = frozenset({"lined paper", "squared paper"})
WHITE, CREAM, KRAFT = (255, 255, 255), (246, 240, 222), (196, 160, 118)
BLUE, RED, GREEN, PENCIL = (35, 60, 160), (200, 40, 45), (30, 120, 60), (110, 110, 112)
_PENS = (BLUE, RED, GREEN, (120, 40, 140), (210, 120, 20))
_PAGE = 900  # pixels of a photographed page's longer side


def render(drawing: Image.Image, condition: str, seed: int) -> bytes:
    """The file of a drawing, dark on white, under a condition; the same arguments give the same bytes."""
    ink = 1 - np.asarray(drawing.convert("L"), dtype=np.float32) / 255
    return CONDITIONS[condition](ink, np.random.default_rng([seed, *condition.encode()]))


def _png(pixels: NDArray[np.float32]) -> bytes:
    return _encoded(_image(pixels), "PNG")


def _encoded(image: Image.Image, kind: str, quality: int = 80) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return buffer.getvalue()


def _image(pixels: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _placed(ink: Ink, height: int, width: int, side: int, top: int, left: int) -> Ink:
    """The ink scaled to a square and placed on an empty canvas."""
    scaled = Image.fromarray(ink).resize((side, side), Image.Resampling.LANCZOS)
    canvas = np.zeros((height, width), dtype=np.float32)
    canvas[top : top + side, left : left + side] = np.clip(np.asarray(scaled), 0, 1)
    return canvas


def _small(ink: Ink, random: np.random.Generator, side: int = 512) -> Ink:
    """The ink at a third of the canvas, anywhere in its middle."""
    size = side * 2 // 5
    top, left = random.integers(side // 5, side * 4 // 5 - size, 2)
    return _placed(ink, side, side, size, int(top), int(left))


def _drawn(ink: Ink, ground: NDArray[np.float32] | tuple[int, ...], pen: tuple[int, ...]) -> NDArray[np.float32]:
    """A pen's ink on a ground, ``(height, width, 3)``."""
    alpha = ink[:, :, None]
    return np.asarray(ground, np.float32) * (1 - alpha) + np.asarray(pen, np.float32) * alpha


def _dots(ink: Ink, random: np.random.Generator, count: int, largest: float) -> Ink:
    """Adds dots near the border of the canvas."""
    side = len(ink)
    dotted = Image.fromarray(np.rint(ink * 255).astype(np.uint8))
    pen = ImageDraw.Draw(dotted)
    for _ in range(count):
        along, across = random.uniform(0.03, 0.97) * side, random.choice([0.05, 0.95]) * side
        x, y = (along, across) if random.random() < 0.5 else (across, along)
        radius = random.uniform(0.4, 1) * largest
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(dotted, dtype=np.float32) / 255


def _speck(ink: Ink, random: np.random.Generator) -> bytes:
    return _png(255 * (1 - _dots(_small(ink, random), random, 1, 4)))


def _specks(ink: Ink, random: np.random.Generator) -> bytes:
    return _png(255 * (1 - _dots(_small(ink, random), random, 9, 2.5)))


def _framed(ink: Ink, random: np.random.Generator) -> bytes:
    framed = Image.fromarray(255 - np.rint(_placed(ink, 512, 512, 440, 36, 36) * 255).astype(np.uint8))
    inset, width = int(random.choice([0, 0, 6, 14])), int(random.integers(2, 7))
    ImageDraw.Draw(framed).rectangle((inset, inset, 511 - inset, 511 - inset), outline=0, width=width)
    return _encoded(framed, "PNG")


def _in_alpha(ink: Ink, colour: tuple[int, ...]) -> bytes:
    layer = np.empty((*ink.shape, 4), np.uint8)
    layer[:, :, :3] = colour
    layer[:, :, 3] = np.rint(ink * 255)
    return _encoded(Image.fromarray(layer), "PNG")


def _coloured_alpha(ink: Ink, random: np.random.Generator) -> bytes:
    return _in_alpha(ink, tuple(random.integers(0, 256, 3)))


def _alpha_of_two_colours(ink: Ink, _: np.random.Generator) -> bytes:
    layer = np.full((*ink.shape, 4), 255, np.uint8)
    layer[:, : ink.shape[1] // 2, :3] = RED
    layer[:, :, 3] = np.rint(ink * 255)
    return _encoded(Image.fromarray(layer), "PNG")


def _pencil(ink: Ink, random: np.random.Generator) -> bytes:
    ink = _placed(ink, 700, 700, 620, 40, 40)
    grain = random.uniform(0.45, 1, ink.shape).astype(np.float32)
    return _encoded(_image(_drawn(ink * grain, (250, 250, 249), PENCIL)), "JPEG", 85)


def _coloured(ink: Ink, random: np.random.Generator) -> bytes:
    return _png(_drawn(ink, WHITE, random.choice(np.array([*_PENS, (250, 220, 40), (90, 200, 240)]))))


def _paper(
    ink: Ink,
    random: np.random.Generator,
    ground: tuple[int, ...] = WHITE,
    pen: tuple[int, ...] = BLUE,
    lines: float = 0,
    squared: bool = False,
    portrait: bool = True,
) -> NDArray[np.float32]:
    """A page with a drawing in its middle, lined at a distance that is a share of its width."""
    height, width = (_PAGE, int(_PAGE * 0.75)) if portrait else (_PAGE, _PAGE)
    page = np.empty((height, width, 3), np.float32)
    page[:] = np.minimum(np.asarray(ground), 243)
    if lines:
        rule = np.array((150, 175, 215), np.float32)
        step = max(8, round(lines * width))
        for row in range(int(random.integers(0, step)), height, step):
            page[row : row + 2] = rule
        for column in range(int(random.integers(0, step)), width if squared else 0, step):
            page[:, column : column + 2] = rule
    size = int(min(height, width) * random.uniform(0.6, 0.85))
    top, left = ((length - size) // 2 for length in (height, width))
    return _drawn(_placed(ink, height, width, size, top, left), page, pen)


def _photographed(page: NDArray[np.float32], random: np.random.Generator, light: NDArray[np.float32] | float) -> bytes:
    """What a camera makes of a scene: light, a soft lens, noise, and a JPEG."""
    seen = np.asarray(_image(page * np.asarray(light)).filter(ImageFilter.GaussianBlur(0.8)), np.float32)
    grain = random.normal(0, 3, seen.shape[:2])[:, :, None] + random.normal(0, 1.5, seen.shape)
    return _encoded(_image(seen + grain), "JPEG", int(random.integers(70, 92)))


def _gradient(shape: tuple[int, ...], random: np.random.Generator, darkest: float) -> NDArray[np.float32]:
    """Light that falls off in a random direction, ``(height, width, 1)``."""
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    angle = random.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * rows + np.sin(angle) * columns + 1.42) / 2.84
    light: NDArray[np.float32] = (darkest + (1 - darkest) * ramp)[:, :, None].astype(np.float32)
    return light


def _shade(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    """The shadow of a hand or a phone, with a soft edge across the page."""
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    angle = random.uniform(0, 2 * np.pi)
    distance = np.cos(angle) * rows + np.sin(angle) * columns + random.uniform(-0.5, 0.5)
    soft = 1 / (1 + np.exp(-distance / random.uniform(0.01, 0.08)))
    light: NDArray[np.float32] = (0.55 + 0.45 * soft)[:, :, None].astype(np.float32)
    return light


def _uneven(ink: Ink, random: np.random.Generator) -> bytes:
    page = _paper(ink, random)
    return _photographed(page, random, _gradient(page.shape, random, 0.4))


def _shadow(ink: Ink, random: np.random.Generator) -> bytes:
    page = _paper(ink, random, CREAM)
    return _photographed(page, random, _shade(page.shape, random) * 0.95)


def _lined(ink: Ink, random: np.random.Generator) -> bytes:
    page = _paper(ink, random, lines=random.uniform(0.03, 0.06))
    return _photographed(page, random, _gradient(page.shape, random, 0.8))


def _squared(ink: Ink, random: np.random.Generator) -> bytes:
    page = _paper(ink, random, lines=random.uniform(0.022, 0.05), squared=True)
    return _photographed(page, random, _gradient(page.shape, random, 0.8))


def _on_table(page: NDArray[np.float32], random: np.random.Generator, tilt: float, turn: float) -> NDArray[np.float32]:
    """The page on dark wood, seen from above or aslant: each corner moves by up to ``tilt`` of the page's height."""
    height, width = page.shape[0] * 5 // 4, page.shape[1] * 4 // 3
    grain = random.normal(0, 1, (height, 1, 1)).cumsum(axis=0) % 14 + random.normal(0, 4, (height, width, 1))
    table = np.array((70, 50, 36), np.float32) + grain.astype(np.float32)
    angle = np.radians(random.uniform(-turn, turn))
    middle, half = np.array((width, height)) / 2, np.array((page.shape[1], page.shape[0])) / 2
    corners = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1))) * half
    corners += random.uniform(-tilt, tilt, corners.shape) * page.shape[0]
    rotation = np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))
    seen = middle + corners @ rotation.T
    coefficients = _perspective(seen, (np.array(((-1, -1), (1, -1), (1, 1), (-1, 1))) + 1) * half)
    layer = _image(np.dstack([page, np.full(page.shape[:2], 255, np.float32)]))
    moved = layer.transform((width, height), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
    values = np.asarray(moved, np.float32)
    alpha = values[:, :, 3:] / 255
    return values[:, :, :3] * alpha + table * (1 - alpha)


def _perspective(seen: NDArray[np.float64], page: NDArray[np.float64]) -> list[float]:
    """Pillow's coefficients of the projection that maps four corners in the picture to those of the page."""
    rows = []
    for (x, y), (u, v) in zip(seen, page, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.linalg.solve(np.array(rows), page.ravel()).tolist()


def _dark_table(ink: Ink, random: np.random.Generator) -> bytes:
    return _photographed(_on_table(_paper(ink, random), random, 0.0, 4), random, 0.95)


def _aslant(ink: Ink, random: np.random.Generator) -> bytes:
    scene = _on_table(_paper(ink, random), random, 0.05, 6)
    return _photographed(scene, random, _gradient(scene.shape, random, 0.6))


def _kraft(ink: Ink, random: np.random.Generator) -> bytes:
    page = _paper(ink, random, KRAFT, (30, 28, 30), portrait=False)
    return _photographed(page, random, _gradient(page.shape, random, 0.75))


def _pencil_on_paper(ink: Ink, random: np.random.Generator) -> bytes:
    grain = random.uniform(0.5, 1, ink.shape).astype(np.float32)
    page = _paper(ink * grain, random, pen=PENCIL)
    return _photographed(page, random, _gradient(page.shape, random, 0.6))


def _jpeg(ink: Ink, _: np.random.Generator) -> bytes:
    return _encoded(_image(255 * (1 - ink)), "JPEG", 12)


CONDITIONS: Mapping[str, Condition] = {
    "clean": lambda ink, _: _png(255 * (1 - ink)),
    "small": lambda ink, random: _png(255 * (1 - _small(ink, random))),
    "speck": _speck,
    "several specks": _specks,
    "black frame": _framed,
    "black on transparent": lambda ink, _: _in_alpha(ink, (0, 0, 0)),
    "white on transparent": lambda ink, _: _in_alpha(ink, WHITE),
    "coloured on transparent": _coloured_alpha,
    "white and red on transparent": _alpha_of_two_colours,
    "white on black": lambda ink, _: _png(255 * ink),
    "pencil": _pencil,
    "coloured pen": _coloured,
    "JPEG of quality 12": _jpeg,
    "uneven light": _uneven,
    "shadow": _shadow,
    "kraft paper": _kraft,
    "pencil on paper": _pencil_on_paper,
    "lined paper": _lined,
    "squared paper": _squared,
    "dark table": _dark_table,
    "aslant on a table": _aslant,
}
