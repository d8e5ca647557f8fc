"""Picture files that are small to send and large to open."""

import io
import struct

import numpy as np
from PIL import Image

__all__ = ["costly_drawing", "huge_photo", "many_scans", "many_tiles", "tall_strips"]

_SCAN = b"\xff\xda"
_END = b"\xff\xd9"


def many_scans(side: int = 4000, scans: int = 3000) -> bytes:
    """A progressive JPEG whose last scan is repeated; a decoder passes over every block once for each scan."""
    content = _encoded(Image.new("L", (side, side), 200), "JPEG", progressive=True)
    last = content.rindex(_SCAN)
    return content[:last] + content[last : content.rindex(_END)] * scans + _END


def many_tiles(side: int = 1000) -> bytes:
    """A TIFF of one byte a tile: a list of as many tiles as the picture has pixels."""
    count, data = side * side, 8
    places = np.full(count, data, "<u4").tobytes()
    sizes = np.ones(count, "<u4").tobytes()
    start = data + 8
    return _tiff(side, side, b"\0" * 8 + places + sizes, start + len(places) + len(sizes), [
        (322, 3, 1, 1), (323, 3, 1, 1), (324, 4, count, start), (325, 4, count, start + len(places)),
    ])  # fmt: skip


def tall_strips(height: int = 60_000, width: int = 1000) -> bytes:
    """A TIFF with a strip for each row, which are all the same bytes: a megabyte that unfolds to sixty."""
    row = bytes(width)
    places = np.full(height, 8, "<u4").tobytes()
    sizes = np.full(height, width, "<u4").tobytes()
    start = 8 + width
    return _tiff(width, height, row + places + sizes, start + len(places) + len(sizes), [
        (273, 4, height, start), (278, 4, 1, 1), (279, 4, height, start + len(places)),
    ])  # fmt: skip


def costly_drawing(levels: int = 6) -> bytes:
    """An SVG drawing that shows a stroke ten times, that ten times, and so on."""
    groups = ["<g id='a0'><path d='M1 1L8 8' stroke='black'/></g>"]
    for level in range(1, levels + 1):
        use = f"<use href='#a{level - 1}' x='1'/>"
        groups.append(f"<g id='a{level}'>{use * 10}</g>")
    return f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'>{''.join(groups)}</svg>".encode()


def huge_photo(side: int = 7900, seed: int = 0) -> bytes:
    """A progressive JPEG close to the largest photo that is decoded."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (side // 100, side // 100, 3), dtype=np.uint8))
    return _encoded(small.resize((side, side)), "JPEG", progressive=True, quality=40)


def _tiff(width: int, height: int, content: bytes, directory: int, more: list[tuple[int, int, int, int]]) -> bytes:
    """A grey TIFF without compression; ``more`` are tags, types, counts and values, or places of values."""
    facts = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    entries = sorted([*facts, *more])
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", directory) + content + struct.pack("<H", len(entries)) + packed + bytes(4)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
