"""Pictures in formats that Pillow does not read by itself: HEIF, JPEG XL, and raw files of cameras.

Their packages come with the extra ``formats``. What a file is, its first bytes say; without its package, such a file
is refused with a message that names the extra.

- **Turns.** A HEIF or JPEG XL file says in its own header how it is turned, and its decoder does that. Orientations in
  its EXIF data repeat that, or are left over from a conversion, and are ignored, as the formats demand.
- **Raw files.** The preview that the camera stored is used if it is large enough; it shows the photo as the camera
  developed it, and is read in milliseconds. Else the sensor's values are developed at half their width and height.
"""

import io
import struct
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from training.base.errors import ImageError
from training.model.costs import open_checked
from training.model.jpeg_xl import read_header

if TYPE_CHECKING:
    import rawpy

__all__ = ["EXTRA", "FORMAT_SUFFIXES", "Opened", "open_extra"]

EXTRA = "svdraw[formats]"  # what ``pip install`` is to bring

_RAW = ".3fr .arw .cr2 .cr3 .crw .dng .erf .iiq .kdc .mef .mrw .nef .nrw .orf .pef .raf .rw2 .rwl .sr2 .srf .srw .x3f"
_PACKAGES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "pi_heif"),
    ".jxl": "pillow_jxl",
    **dict.fromkeys(_RAW.split(), "rawpy"),
}

FORMAT_SUFFIXES = {suffix: find_spec(package) is not None for suffix, package in _PACKAGES.items()}
"""Suffixes of files that the extra ``formats`` is for, and whether their package is installed."""

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
_LEAST_PREVIEW = 512  # pixels of the shorter side; the models' squares are half as large
_TURNS = (1, 2, 4, 3, 5, 8, 6, 7)  # EXIF orientations by what LibRaw calls a flip


class Opened(NamedTuple):
    """A picture whose header was read.

    Attributes:
        format: as people call it.
        width: of the whole picture when it is upright, in pixels.
        height: likewise.
        held: number of pixels that decoding holds in memory.
        decode: gives an image of Pillow, which may not be decoded yet, and the EXIF orientation that it has; None if
            its EXIF data are to say that once it is decoded.
    """

    format: str
    width: int
    height: int
    held: int
    decode: Callable[[], tuple[Image.Image, int | None]]


def open_extra(content: bytes) -> Opened | None:
    """Reads the header of a picture in one of these formats; None if the file is of another.

    Raises:
        ImageError: if the package for it is not installed.
        Exception: nearly any, if the file is damaged.
    """
    for name, accepts, open_it in _READERS:
        if accepts(content):
            try:
                return open_it(content)
            except ImportError as error:
                raise ImageError(f'{name}, which pip install "{EXTRA}" makes readable') from error
    return None


def _is_heif(content: bytes) -> bool:
    size = int.from_bytes(content[:4], "big")
    brands = {content[8:12]} | {content[at : at + 4] for at in range(16, min(size, 256), 4)}
    return content[4:8] == b"ftyp" and bool(brands & _HEIF_BRANDS) and not brands & _AVIF_BRANDS


def _open_heif(content: bytes) -> Opened:
    import pi_heif

    pi_heif.options.DECODE_THREADS = 1  # several pictures are decoded at the same time
    image = pi_heif.HeifImageFile(io.BytesIO(content))
    return Opened("HEIF", image.width, image.height, image.width * image.height, lambda: (image, 1))


def _is_jxl(content: bytes) -> bool:
    return content.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"))


def _open_jxl(content: bytes) -> Opened:
    import pillow_jxl

    width, height, orientation = read_header(content)

    def decode() -> tuple[Image.Image, int]:
        try:
            is_jpeg, facts, data, profile, _ = pillow_jxl.Decoder(num_threads=0)(content)
        except RuntimeError as error:  # which tells people how to build libjxl
            raise ImageError("truncated or damaged image (JPEG XL)") from error
        if is_jpeg:  # the very JPEG that was compressed once more, as it was before
            return open_checked(data, ("JPEG",)), orientation
        image = Image.frombytes(facts.mode, (facts.width, facts.height), data)
        image.info["icc_profile"] = profile
        return image, 1

    upright = (height, width) if orientation > 4 else (width, height)
    return Opened("JXL", *upright, width * height, decode)


def _is_raw(content: bytes) -> bool:
    if content.startswith(_RAW_STARTS) or content[4:12] == b"ftypcrx " or content[6:14] == b"HEAPCCDR":
        return True
    if not content.startswith((b"II*\0", b"MM\0*")):
        return False
    if content[8:10] == b"CR" or content[8:12] in (b"IIII", b"MMMM"):
        return True
    tags = _first_directory(content)
    is_preview = tags.get(254) == 1 and 271 in tags and 330 in tags  # by a camera's maker, the photo further down
    return 50706 in tags or tags.get(262) == 32803 or is_preview  # DNG, or colours by a filter


def _first_directory(tiff: bytes) -> dict[int, int]:
    """Tags of a TIFF file's first directory, with their values where these are single numbers."""
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        [start] = struct.unpack_from(f"{order}I", tiff, 4)
        [count] = struct.unpack_from(f"{order}H", tiff, start)
        entries = [struct.unpack_from(f"{order}HHI4s", tiff, start + 2 + 12 * each) for each in range(count)]
    except struct.error:
        return {}
    return {tag: struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", value)[0] for tag, kind, _, value in entries}


def _open_raw(content: bytes) -> Opened | None:
    import rawpy

    try:
        raw = rawpy.imread(io.BytesIO(content))
    except rawpy.LibRawFileUnsupportedError:
        if content.startswith((b"II*\0", b"MM\0*")):
            return None  # another TIFF, which Pillow may read
        raise
    sizes = raw.sizes
    turn = _TURNS[sizes.flip]
    width, height = (sizes.height, sizes.width) if turn > 4 else (sizes.width, sizes.height)

    def decode() -> tuple[Image.Image, int]:
        with raw:
            preview = _preview(raw)
            if preview is not None:
                is_upright = turn > 4 and (preview.width > preview.height) == (width > height)  # its sides tell
                return preview, 1 if is_upright else turn
            return Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True)), 1

    return Opened("RAW", width, height, -(-width // 2) * -(-height // 2), decode)


def _preview(raw: "rawpy.RawPy") -> Image.Image | None:
    import rawpy

    try:
        stored = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        return None
    if stored.format != rawpy.ThumbFormat.JPEG or not isinstance(stored.data, bytes):
        return None
    image = open_checked(stored.data, ("JPEG",))
    return image if min(image.size) >= _LEAST_PREVIEW else None


_READERS: tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], Opened | None]], ...] = (
    ("a HEIF picture", _is_heif, _open_heif),
    ("a JPEG XL picture", _is_jxl, _open_jxl),
    ("a raw file of a camera", _is_raw, _open_raw),
)
