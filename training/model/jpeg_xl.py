"""The header of a JPEG XL file, whose decoder would decode all of it to say how large the picture is."""

from collections.abc import Iterator

__all__ = ["read_header"]

_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIZES = (9, 13, 18, 30)  # bits of a side in pixels
_LONGEST = 64  # bytes of a codestream that hold its header


def read_header(content: bytes) -> tuple[int, int, int]:
    """Reads width and height as they are stored, in pixels, and the EXIF orientation that makes the picture upright.

    The format is that of ISO/IEC 18181-1: a codestream, alone or in boxes.

    Raises:
        ValueError: if this is no JPEG XL file, or one that is cut off.
    """
    codestream = content if content.startswith(b"\xff\x0a") else b"".join(_parts(content))
    if not codestream.startswith(b"\xff\x0a"):
        raise ValueError("a JPEG XL file without a picture")
    bits = _Bits(codestream[2:_LONGEST])
    is_small = bits.take(1) == 1
    height = _side(bits, is_small)
    ratio = bits.take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio]
        width = height * numerator // denominator
    else:
        width = _side(bits, is_small)
    is_default = bits.take(1) == 1
    has_orientation = not is_default and bits.take(1) == 1
    return width, height, bits.take(3) + 1 if has_orientation else 1


def _side(bits: "_Bits", is_small: bool) -> int:
    return 8 * (bits.take(5) + 1) if is_small else bits.take(_SIZES[bits.take(2)]) + 1


def _parts(content: bytes) -> Iterator[bytes]:
    """Pieces of the codestream in a file of boxes, as far as the header may go."""
    start = 0
    while start + 8 <= len(content):
        size, kind = int.from_bytes(content[start : start + 4], "big"), content[start + 4 : start + 8]
        head = 8
        if size == 1:
            size, head = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        end = start + size if size else len(content)
        if kind in (b"jxlc", b"jxlp"):
            first = start + head + (4 if kind == b"jxlp" else 0)  # a part begins with its number
            yield content[first : min(end, first + _LONGEST)]
            if kind == b"jxlc":
                return
        if end < start + head:
            return
        start = end


class _Bits:
    """Numbers packed into bytes, the lowest bit first."""

    def __init__(self, content: bytes) -> None:
        self._left = 8 * len(content)
        self._value = int.from_bytes(content, "little")

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("a JPEG XL file that is cut off")
        number = self._value & ((1 << count) - 1)
        self._value >>= count
        return number
