"""Opening images that may be corrupt, huge or hostile."""

import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import ExifTags, Image, UnidentifiedImageError

from training.base.errors import ImageError, ImageTooLarge
from training.base.regular_files import read_regular
from training.model.colours import to_srgb
from training.model.costs import check_directory, open_checked, webp_size
from training.model.formats import FORMAT_SUFFIXES, Opened, open_extra
from training.model.vector_drawings import is_drawing, open_drawing

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "ImageFacts", "describe_image", "image_files", "open_image", "read_image"]

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
    | {suffix for suffix, is_installed in FORMAT_SUFFIXES.items() if is_installed}
)
MAX_PIXELS = 64_000_000

_JPEG = ("JPEG", "MPO")  # the second has several pictures
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation
_LONGEST_REASON = 200  # characters of what a decoder says
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_EXTRAS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})

Result = TypeVar("Result")

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit counts what is never decoded; the limit here is the caller's
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class ImageFacts(NamedTuple):
    """What an image is.

    Attributes:
        format: as browsers know it, such as ``JPEG``, which the several pictures in one file of some cameras are too.
        width: of the whole image when it is upright, in pixels.
        height: likewise.
    """

    format: str
    width: int
    height: int

    @property
    def suffix(self) -> str:
        """The usual suffix of a file's name."""
        return f".{self.format.lower()}"


def image_files(folder: Path) -> list[Path]:
    """Files below a folder that are images by their suffix, sorted.

    Broken links and files that cannot even be looked at are listed too, so that whoever opens them can say why not.
    """
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and _may_be_file(f))


def open_image(
    source: Path | bytes, *, max_pixels: int = MAX_PIXELS, draft: int | None = None, drawing: bool = False
) -> Image.Image:
    """Decodes an image file, or the bytes of one; see ``read_image``.

    Raises:
        ImageError: if the image is empty, not an image, truncated or damaged; ImageTooLarge if it is that.
        OSError: if the file cannot be read at all, or is no regular file.
    """
    content = source if isinstance(source, bytes) else read_regular(source)
    return read_image(content, max_pixels=max_pixels, draft=draft, drawing=drawing)[1]


def read_image(
    content: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    draft: int | None = None,
    drawing: bool = False,
    bounded: bool = False,
) -> tuple[ImageFacts, Image.Image]:
    """Says what an image is and decodes it to 8-bit sRGB, upright, with transparency flattened.

    The pixel limit is checked on the header, before anything is decoded. It counts the pixels that decoding holds in
    memory: a JPEG that is not progressive is decoded at half its width and height where it would pass the limit, so it
    may have four times as many pixels, as photos of phones with 108 or 200 megapixels do; so may a raw file of a
    camera. Of an animation the first frame is used. Text in a PNG is ignored, however long. How values, colours and
    transparency become RGB is said in ``training.model.colours``, which other formats there are in
    ``training.model.formats``.

    Args:
        content: of the file.
        max_pixels: largest width times height that is decoded.
        draft: lets a JPEG be decoded at a reduced scale whose shorter side is still at least this many
            pixels; the scale is exact and several times faster for large photos.
        drawing: whether it may be an SVG drawing, as sketches may.
        bounded: whether this process has limits of time and memory and may crash, so that an SVG drawing is drawn in
            it; otherwise that is done in a process of its own.

    Returns:
        The facts of the whole image, and the image as decoded.

    Raises:
        ImageError: if the image is empty, not an image, truncated or damaged; ImageTooLarge if it is that,
            ImageTooCostly if it is made so that it takes far more work than its pixels (see ``training.model.costs``).
        MemoryError: if the machine has not the memory for an image within the limit.
    """

    def decode(opened: Opened) -> tuple[ImageFacts, Image.Image]:
        image, orientation = opened.decode()
        _check_size(image.width, image.height, _held(image), max_pixels)
        _reduce(image, max_pixels, draft)
        image.load()
        turn = _TURNS.get(_orientation(image) if orientation is None else orientation)
        return _facts(opened), to_srgb(image if turn is None else image.transpose(turn), image)

    return _examine(content, decode, max_pixels, drawing, bounded)


def describe_image(content: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Says what an image is that ``read_image`` accepts, in most formats from its header alone.

    Raises:
        ImageError: if it is no image; ImageTooLarge if it has too many pixels.
    """
    return _examine(content, _facts, max_pixels)


def _may_be_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _examine(
    content: bytes, use: Callable[[Opened], Result], max_pixels: int, drawing: bool = False, bounded: bool = False
) -> Result:
    """What ``use`` makes of the opened image; whatever goes wrong with the image is an ``ImageError``."""
    if not content:
        raise ImageError("empty file")
    try:
        if opened := _open_other(content, max_pixels, drawing, bounded):
            _check_size(opened.width, opened.height, opened.held, max_pixels)
            return use(opened)
        try:
            return _use(content, use, max_pixels)
        except ValueError:  # how Pillow refuses text or a colour profile that unpacks to more than a megabyte
            if not content.startswith(_PNG):
                raise
            return _use(_without_extras(content), use, max_pixels)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image in a known format ({', '.join(_FORMATS)})") from error
    except Exception as error:  # decoders of hostile bytes raise nearly anything
        why = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ImageError(f"truncated or damaged image ({type(error).__name__}: {why})") from error


def _open_other(content: bytes, max_pixels: int, drawing: bool, bounded: bool) -> Opened | None:
    """The opened image if it is none that Pillow reads."""
    if not is_drawing(content):
        return open_extra(content)
    if not drawing:
        raise ImageError("an SVG drawing, which only sketches may be")
    return open_drawing(content, max_pixels, bounded)


def _use(content: bytes, use: Callable[[Opened], Result], max_pixels: int) -> Result:
    if size := webp_size(content):
        _check_size(*size, size[0] * size[1], max_pixels)
    with open_checked(content, _FORMATS) as image:
        held = _held(image)
        _check_size(image.width, image.height, held, max_pixels)
        orientation = _orientation(image)
        width, height = _stored_size(image)
        if orientation in (5, 6, 7, 8):
            width, height = height, width
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        return use(Opened(kind, width, height, held, lambda: (image, None)))


def _without_extras(png: bytes) -> bytes:
    """A PNG without its texts and its colour profile."""
    kept, start = [_PNG], len(_PNG)
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        if png[start + 4 : start + 8] not in _PNG_EXTRAS:
            kept.append(png[start:end])
        start = end
    return b"".join(kept)


def _check_size(width: int, height: int, held: int, max_pixels: int) -> None:
    if held > max_pixels:
        raise ImageTooLarge(f"{width} x {height} px is more than the limit of {max_pixels} pixels")


def _held(image: Image.Image) -> int:
    """Pixels that decoding an image holds at least."""
    width, height = image.size
    if image.format in _JPEG and "progressive" not in image.info:  # others are held whole
        width, height = (width + 1) // 2, (height + 1) // 2
    return width * height


def _reduce(image: Image.Image, max_pixels: int, draft: int | None) -> None:
    """Has a JPEG decoded at a reduced scale, where this is asked for or necessary; other formats stay as they are."""
    longer, shorter = max(image.size), min(image.size)
    sides = [longer] if draft is None else [max(1, round(longer / shorter * draft))]
    if longer * shorter > max_pixels:
        sides.append(max(1, shorter // 2))
    if (side := min(sides)) < longer and image.format in _JPEG:  # others would take a thumbnail that they carry
        image.draft("RGB", (side, side))


def _facts(opened: Opened) -> ImageFacts:
    return ImageFacts(opened.format, opened.width, opened.height)


def _stored_size(image: Image.Image) -> tuple[int, int]:
    tags = getattr(image, "tag_v2", {})  # of a TIFF, whose size Pillow may or may not have turned already
    return tags.get(ExifTags.Base.ImageWidth, image.width), tags.get(ExifTags.Base.ImageLength, image.height)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where the file has none or one that is no whole number."""
    if image.format == "PNG":
        image.load()  # EXIF data may lie behind the pixels
    check_directory(image.info.get("exif", b""))
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data; the picture is as good without
        return 1
    return orientation if isinstance(orientation, int) else 1
