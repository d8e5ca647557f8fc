"""Opening images that may be corrupt, huge or hostile."""

import io
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from training.base.errors import ImageError, ImageTooLarge

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "image_files", "image_size", "open_image"]

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
MAX_PIXELS = 64_000_000

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")

# Pillow warns at a limit of its own; the limit here is the caller's, and stricter.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def image_files(folder: Path) -> list[Path]:
    """Files below a folder that are images by their suffix, sorted.

    Broken links and files that cannot even be looked at are listed too, so that whoever opens them can say why not.
    """
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and _may_be_file(f))


def open_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, draft: int | None = None) -> Image.Image:
    """Decodes an image to RGB, upright, with transparency flattened on white.

    The pixel limit is checked on the header, before anything is decoded. Of an animation the first frame
    is used.

    Args:
        source: a file, or the bytes of one.
        max_pixels: largest width times height accepted.
        draft: lets a JPEG be decoded at a reduced scale whose shorter side is still at least this many
            pixels; the scale is exact and several times faster for large photos.

    Raises:
        ImageError: if the image is empty, not an image, truncated or damaged; ImageTooLarge if it is that.
        OSError: if the file cannot be read at all.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    if not content:
        raise ImageError("empty file")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageTooLarge(_too_large(image.size, max_pixels))
            if draft is not None:
                shrunk = max(1, round(max(image.size) / min(image.size) * draft))
                image.draft("RGB", (shrunk, shrunk))
            image.load()
            return _flatten(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"more than the limit of {max_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image in a known format ({', '.join(_FORMATS)})") from error
    except Exception as error:  # decoders of hostile bytes raise nearly anything, MemoryError included
        raise ImageError(f"truncated or damaged image ({type(error).__name__}: {error})") from error


def image_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels, upright, of an image that ``open_image`` accepts; reads the header only."""
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        sideways = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (image.height, image.width) if sideways else image.size


def _may_be_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _too_large(size: tuple[int, int], max_pixels: int) -> str:
    return f"{size[0]} x {size[1]} px is more than the limit of {max_pixels} pixels"


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # more than 8 bits a pixel would clip to white
        values = np.asarray(image, dtype=np.float64)
        top = max(255.0 if values.max() <= 255 else 65535.0, values.max())
        image = Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        background = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(background, layer).convert("RGB")
    return image.convert("RGB")
