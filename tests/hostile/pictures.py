"""Pictures of every format that is read, and what strangers make of them: damaged, repeated, absurd."""

import io
import struct
from collections.abc import Mapping

from hypothesis import strategies as st
from PIL import Image

from tests.training.model.test_formats import dng, heif, jxl

MOST = 1_000_000  # bytes of a damaged picture
EXTREMES = (0, 1, 2, 255, 256, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1)


def pictures() -> dict[str, bytes]:
    """A small picture of every kind."""
    noise = Image.effect_noise((40, 40), 80).convert("RGB")
    frames = [noise.quantize(colours) for colours in range(2, 7)]
    return {
        "png": _encoded(noise, "PNG"),
        "png of colours": _encoded(noise.quantize(16), "PNG", transparency=0),
        "jpeg": _encoded(noise, "JPEG"),
        "progressive jpeg": _encoded(noise, "JPEG", progressive=True),
        "jpeg of inks": _encoded(noise.convert("CMYK"), "JPEG"),
        "gif": _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "bmp": _encoded(noise, "BMP"),
        "tiff": _encoded(noise, "TIFF"),
        "tiff, deflated": _encoded(noise, "TIFF", compression="tiff_adobe_deflate"),
        "tiff, fax": _encoded(noise.convert("1"), "TIFF", compression="group4"),
        "tiff, jpeg": _encoded(noise, "TIFF", compression="jpeg"),
        "webp": _encoded(noise, "WEBP"),
        "animated webp": _encoded(frames[0].convert("RGB"), "WEBP", save_all=True, append_images=frames[1:]),
        "avif": _encoded(noise, "AVIF"),
        "heif": heif(noise),
        "jxl": jxl(noise),
        "raw": dng(noise),
        "raw with a preview": dng(noise, preview=(_encoded(noise, "JPEG"), noise.size)),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><path d='M1 1L8 8' stroke='red'/></svg>",
    }


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flipped(content: bytes, at: int, bits: int) -> bytes:
    """Some bits of a byte inverted."""
    return content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :]


def overwritten(content: bytes, at: int, piece: bytes) -> bytes:
    """Other bytes in the place of some; the length stays the same."""
    return (content[:at] + piece + content[at + len(piece) :])[: len(content)]


def spliced(content: bytes, at: int, other: bytes, start: int) -> bytes:
    """The beginning of one and the end of another."""
    return content[:at] + other[start:]


def repeated(content: bytes, start: int, end: int, times: int) -> bytes:
    """A segment several times in a row, as often as the whole stays within ``MOST`` bytes."""
    segment = content[start:end]
    times = min(times, 1 + max(0, MOST - len(content)) // max(1, len(segment)))
    return content[:start] + segment * times + content[end:]


@st.composite
def damaged(draw: st.DrawFn, originals: Mapping[str, bytes]) -> bytes:
    """One of the originals after up to six changes of its bytes."""
    names = sorted(originals)
    content = originals[draw(st.sampled_from(names))]
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 6)))):
        if not content:
            break
        at = draw(_places(content))
        match draw(st.sampled_from(("flip", "write", "cut", "splice", "repeat"))):
            case "flip":
                content = flipped(content, at, draw(st.integers(1, 255)))
            case "write":
                kind = draw(st.sampled_from((">B", ">H", "<H", ">I", "<I")))
                number = draw(st.sampled_from(EXTREMES)) % 256 ** struct.calcsize(kind)
                content = overwritten(content, at, struct.pack(kind, number))
            case "cut":
                content = content[:at]
            case "splice":
                other = originals[draw(st.sampled_from(names))]
                content = spliced(content, at, other, draw(_places(other)))
            case "repeat":
                end = min(len(content), at + draw(st.integers(1, 400)))
                content = repeated(content, at, end, draw(st.sampled_from((2, 3, 10, 1000, 100_000))))
    return content[:MOST]


def _places(content: bytes) -> st.SearchStrategy[int]:
    """A place in the bytes; half of them in the first hundred, where headers are."""
    last = len(content) - 1
    return st.integers(0, min(100, last)) | st.integers(0, last)
