"""What an image would cost to decode, beside its pixels: counted in its structure before anything is decoded.

A small file can cost much: each scan of a progressive JPEG goes over all pixels again, and a TIFF of tiles of one pixel
is read tile by tile. The limits are far above what cameras and encoders make, and counting takes linear time.
"""

import io
import re
import struct
from collections.abc import Iterator

from PIL import Image

from training.base.errors import ImageTooCostly

__all__ = ["check_directory", "open_checked", "webp_size"]

_MAX_SCANS = 100  # libjpeg writes 10, optimisers up to 64
_MAX_SEGMENTS = 2000  # of a JPEG; metadata come in parts of 64 KiB, and each scan has one or a few
_MAX_EXIF = 16  # of these segments, which are joined one by one; the standard allows one
_MAX_CHUNKS = 100_000  # of a PNG; encoders write 8 KiB of pixels in one
_MAX_PROFILES = 10  # of a PNG, each of which may unpack to a megabyte; the standard allows one
_MAX_PARTS = 65_536  # tiles or strips of a TIFF
_MAX_TAGS = 65_536  # of a TIFF, or of EXIF data
_MAX_NUMBERS = 500_000  # in these tags; tables of 16 bits have 200,000
_MAX_BLOCKS = 100_000  # of a GIF before its first picture

_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # neither filling nor a restart within the pixels
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_ALONE = {0x01, 0xD8}  # markers without a segment
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF_OFFSETS = {273, 324}  # tags with a number for each strip, or tile
_TIFF_BYTES = {1, 2, 6, 7}  # types that are read as one text
_TRAILER = 0x3B


def open_checked(content: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Opens an image with Pillow, without decoding it, once it is known that decoding costs no more than its pixels.

    A JPEG that must be held whole has ``progressive`` in its ``info``, for whatever reason that is.

    Raises:
        ImageTooCostly: if it does.
        Exception: nearly any, if the image is damaged.
    """
    scans = 1
    if content.startswith(b"\xff\xd8"):
        scans = _check_jpeg(content)
    elif content.startswith(_PNG):
        _check_png(content)
    elif content.startswith((b"GIF87a", b"GIF89a")):
        _check_gif(content)
    else:
        check_directory(content)
    image = Image.open(io.BytesIO(content), formats=formats)
    if scans > 1:
        image.info["progressive"] = 1
    return image


def webp_size(content: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP states, whose decoder takes memory for them when it is opened; None for others."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP" or len(content) < 30:
        return None
    if content[12:16] == b"VP8X":
        return int.from_bytes(content[24:27], "little") + 1, int.from_bytes(content[27:30], "little") + 1
    if content[12:16] == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(content[26:28], "little") & 0x3FFF, int.from_bytes(content[28:30], "little") & 0x3FFF


def check_directory(tiff: bytes) -> None:
    """Counts what the first directory of a TIFF holds, or of EXIF data, which are one; others pass.

    Raises:
        ImageTooCostly: if there are more parts or numbers than any camera or encoder makes.
    """
    numbers = 0
    for number, (tag, kind, count) in enumerate(_entries(tiff.removeprefix(b"Exif\0\0"))):
        _check(number, _MAX_TAGS, "tags")
        if tag in _TIFF_OFFSETS:
            _check(count, _MAX_PARTS, "tiles or strips")
        if kind not in _TIFF_BYTES:
            numbers += count
    _check(numbers, _MAX_NUMBERS, "numbers in its tags")


def _check(count: int, most: int, what: str) -> None:
    if count > most:
        raise ImageTooCostly(f"it has more than {most:,} {what}; no camera or encoder makes as many")


def _check_jpeg(content: bytes) -> int:
    """Counts the scans that must be decoded; 1 stands for an image that is decoded row by row."""
    scans = exif = components = 0
    for number, (marker, start) in enumerate(_segments(content), 1):
        if marker == _SOS:
            scans += 1
            if scans == 1 and components and content[start : start + 1] == bytes([components]):
                break  # all colours in one scan: what follows is not read
        elif marker in _FRAMES:
            is_sequential = marker in (0xC0, 0xC1, 0xC9)
            components = content[start + 5] if is_sequential and start + 5 < len(content) else 0
        exif += marker == _APP1 and content.startswith(b"Exif\0\0", start)
        _check(scans, _MAX_SCANS, "scans")
        _check(number, _MAX_SEGMENTS, "segments")
        _check(exif, _MAX_EXIF, "segments of EXIF data")
    return scans


def _segments(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """The marker of each segment, and where its content begins."""
    at = 2
    while found := _MARKER.search(jpeg, at):
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            return
        if marker in _ALONE:
            continue
        yield marker, at + 2
        at += max(2, int.from_bytes(jpeg[at : at + 2], "big"))


def _check_png(content: bytes) -> None:
    at, chunks, profiles = len(_PNG), 0, 0
    while at + 8 <= len(content) and chunks <= _MAX_CHUNKS and profiles <= _MAX_PROFILES:
        size, kind = struct.unpack_from(">I4s", content, at)
        chunks += 1
        profiles += kind == b"iCCP"
        at += 12 + size
    _check(chunks, _MAX_CHUNKS, "chunks")
    _check(profiles, _MAX_PROFILES, "colour profiles")


def _check_gif(content: bytes) -> None:
    at = 13 + (3 * (2 << (content[10] & 7)) if len(content) > 10 and content[10] & 0x80 else 0)
    blocks = 0
    while at < len(content) and content[at] not in (0x2C, _TRAILER) and blocks <= _MAX_BLOCKS:
        if content[at] == 0x21:
            at += 2
            while at < len(content) and content[at] and blocks <= _MAX_BLOCKS:
                at += content[at] + 1
                blocks += 1
        at += 1
        blocks += 1
    _check(blocks, _MAX_BLOCKS, "blocks before its first picture")


def _entries(tiff: bytes) -> Iterator[tuple[int, int, int]]:
    """Tag, type and number of values of each entry in the first directory; none if it is no TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    version = tiff[2:4]
    if order is None:
        return
    is_big = version in (b"\x2b\0", b"\0\x2b")
    start, count, entry, tail = ("Q", "Q", "HHQ", 8) if is_big else ("I", "H", "HHI", 4)
    try:
        [at] = struct.unpack_from(order + start, tiff, 8 if is_big else 4)
        [entries] = struct.unpack_from(order + count, tiff, at)
    except struct.error:
        return
    at += struct.calcsize(order + count)
    size = struct.calcsize(order + entry) + tail
    complete = min(entries, max(0, len(tiff) - at) // size)
    for number in range(complete):
        yield struct.unpack_from(order + entry, tiff, at + number * size)
