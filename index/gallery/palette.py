"""Colours of photos: how much of a photo has which of the twelve colours that people name.

A photo is looked at in 64 x 64 points. Each point has the colour whose nearest example is closest in CIELAB, and counts
by its place: by half at 0.6 of the way from the middle to a border, for there the subject is more often than the
background. The shares of all colours are kept in one number, 5 bits each, in steps of 1/32.

A photo is said to have a colour if its share reaches a threshold. That of black, white, gray and brown is higher,
because nearly every background has them. docs/gallery.md shows how often the subject's colour is found.
"""

import re
from functools import lru_cache
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.errors import FilterError

__all__ = ["PALETTE", "color_names", "color_shares", "names_of_color"]

_EXAMPLES = {
    "black": "000000 141414 1a1c22",
    "white": "ffffff f2f2f2 e9e9e6",
    "gray": "3a3a3a 606060 808080 a0a0a0 c0c0c0",
    "red": "ff0000 c81414 a01020 7a0a12 e03a34 d02038",
    "orange": "ff8000 f06a14 e8883a ffa040 d96a1c d2500f c85a1e",
    "yellow": "ffff00 f5dc14 e8c832 fff07a d8c020 d2b450",
    "green": "00ff00 10a020 145a1e 3c6a2c 6eb432 90c060 a0e080 4c8c5c 808a28 2a3c18",
    "teal": "00ffff 00c8b4 00a0a0 006e6e 40e0d0 5ab4b4 90e0dc",
    "blue": "0000ff 0808a0 00045a 0a0fcc 1446c8 143c82 1e90ff 6496d2 96c8f0 46648c 14285a",
    "purple": "8000c0 6e1e8c 501464 a050c8 8c64aa c896e6 6a50d0 8a1a80",
    "pink": "f0b4be ff69b4 ff1493 ffc0cb f0a0a0 e678aa d25082 f58c8c ff9ae0",
    "brown": "8b4513 64320f 462814 a0703c 7d5a3c c0986a 5a4632",
}
PALETTE = tuple(_EXAMPLES)
"""Names of the colours."""

_ALIASES = {"grey": "gray", "cyan": "teal", "turquoise": "teal", "violet": "purple", "magenta": "pink"}
_LEAST = 3  # steps that make a colour one of the photo,
_MORE = {"black": 6, "white": 6, "gray": 8, "brown": 8}  # or more, for what is in nearly every background
_LEASTS = [(name, _MORE.get(name, _LEAST)) for name in PALETTE]
_BITS = 5  # of a share
_STEPS = 2**_BITS
_HIGHEST = _STEPS - 1
_SIDE = 64  # points
_SPREAD = 0.5  # standard deviation of the weight of points, in half sides
_ALSO = 5.0  # CIELAB units that another colour may lie farther from a sought one than the nearest
_HEX = re.compile(r"#([0-9a-f]{3}|[0-9a-f]{6})")


def color_shares(image: Image.Image) -> int:
    """Measures the shares of all colours in an RGB image, in one number that ``color_names`` reads."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
    points = np.frombuffer(small.tobytes("raw", "RGBX"), "<u4")  # red in the lowest byte
    places = points >> 3 & 0x1F | points >> 6 & 0x3E0 | points >> 9 & 0x7C00
    shares = np.bincount(_table().take(places), _weights(), len(PALETTE))
    steps = np.minimum(np.round(_STEPS * shares).astype(int), _HIGHEST).tolist()
    return sum(step << _BITS * number for number, step in enumerate(steps))


def color_names(shares: int | None) -> list[str] | None:
    """Returns the names of the colours that a photo has, by descending share; None if they were not measured."""
    if shares is None:
        return None
    found = []
    for name, least in _LEASTS:
        if (share := shares & _HIGHEST) >= least:
            found.append((-share, name))
        shares >>= _BITS
    found.sort(key=itemgetter(0))
    return [name for _, name in found]


def names_of_color(value: object) -> list[str]:
    """Returns the names that a filter's colour means: a name itself, the nearest ones of ``#rrggbb``.

    Raises:
        FilterError: if it is neither.
    """
    text = value.strip().lower() if isinstance(value, str) else ""
    if (name := _ALIASES.get(text, text)) in PALETTE:
        return [name]
    if not (match := _HEX.fullmatch(text)):
        raise FilterError(f"filter on color: a colour is #rrggbb or one of {', '.join(PALETTE)}")
    digits = match[1] if len(match[1]) == 6 else "".join(2 * digit for digit in match[1])
    distances = _distances(np.array([list(bytes.fromhex(digits))]))[0]
    return [PALETTE[number] for number in np.argsort(distances) if distances[number] <= distances.min() + _ALSO]


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint8]:
    """The number of the colour of every RGB value, of which 5 bits count each, red the lowest, ``(32768,)``."""
    values = np.indices((32, 32, 32))[::-1].reshape(3, -1).T * 8 + 4
    nearest: NDArray[np.uint8] = _distances(values).argmin(axis=1).astype(np.uint8)
    return nearest


@lru_cache(maxsize=1)
def _weights() -> NDArray[np.float64]:
    """How much each point of an image counts, ``(4096,)``; 1 in total."""
    along = np.exp(-0.5 * (np.linspace(-1, 1, _SIDE) / _SPREAD) ** 2)
    weights: NDArray[np.float64] = np.outer(along, along).ravel()
    weights /= weights.sum()
    return weights


def _distances(values: NDArray[np.integer]) -> NDArray[np.float64]:
    """The distance of RGB values ``(n, 3)`` from the nearest example of every colour, ``(n, colours)``."""
    sought = _lab(values)
    columns = []
    for examples in _EXAMPLES.values():
        known = _lab(np.array([list(bytes.fromhex(example)) for example in examples.split()]))
        squares = (sought**2).sum(axis=1)[:, None] - 2 * sought @ known.T + (known**2).sum(axis=1)
        columns.append(np.sqrt(np.maximum(squares.min(axis=1), 0)))
    return np.stack(columns, axis=1)


def _lab(values: NDArray[np.integer]) -> NDArray[np.float64]:
    """CIELAB coordinates of 8-bit sRGB values, for a D65 white; both ``(n, 3)``."""
    parts = values / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    relative = linear @ to_xyz.T / to_xyz.sum(axis=1)
    x, y, z = np.where(relative > 216 / 24389, np.cbrt(relative), (24389 / 27 * relative + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
