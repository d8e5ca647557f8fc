"""From decoded pixels of any kind to 8-bit sRGB without transparency.

- **More than 8 bits.** Floating-point values are taken to lie in 0..1 if none is above 2, which leaves room for the
  overshoot of filters. Otherwise, and for integers, white is the largest value of the bits that the file's header
  states, if these are fewer than 16; else the smallest of 255, 1023, 4095 and 65535 that holds every value, because
  cameras store 10 and 12 bits in 16; else the largest value itself. NaN is black, and values outside are clipped.
- **Colour profiles.** Colours are converted by the image's ICC profile, unless it means sRGB anyway. A profile that is
  damaged, huge or of another kind of image is ignored.
- **Transparency.** The ground is white. It is black where much of the image is transparent and what can be seen is
  nearly white, or fine strokes some of which are nearly white and none nearly black: so white strokes stay visible.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFilter, ImageOps

__all__ = ["to_srgb"]

_TOPS = (2**8 - 1, 2**10 - 1, 2**12 - 1, 2**16 - 1)
_LARGEST_UNIT = 2.0  # of floating-point values that are taken to mean 0..1
_VISIBLE = 24  # grey levels, or levels of opacity, that can be told from the ground
_LEAST_CLEAR = 0.25  # share of an image that is transparent if it may be on a black ground
_SOME = 0.05  # share of what can be seen from which a colour counts

_LARGEST_PROFILE = 4 << 20  # bytes
_SRGB_TOLERANCE = 2  # grey levels that a profile of sRGB may differ from it by, for there are many roundings
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(image: Image.Image, source: Image.Image) -> Image.Image:
    """Converts pixels of any kind, by the rules above.

    Args:
        image: decoded, and upright.
        source: the image as it was opened, with what its header says.

    Returns:
        An RGB image that carries no metadata.
    """
    profile = source.info.get("icc_profile")
    flat = _flatten(_eight_bits(image, source))
    if isinstance(profile, bytes) and 0 < len(profile) <= _LARGEST_PROFILE:
        flat = _managed(image, flat, profile)
    flat.info = {}
    return flat


def _eight_bits(image: Image.Image, source: Image.Image) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=np.inf, neginf=-np.inf)
    highest = float(values.max(initial=0.0, where=np.isfinite(values)))
    if image.mode == "F" and highest <= _LARGEST_UNIT:
        top = 1.0
    else:
        [bits, *_] = getattr(source, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))
        stated = 2**bits - 1 if bits < 16 else 0
        top = float(next((each for each in _TOPS if each >= max(highest, stated)), highest))
    return Image.fromarray(np.rint(np.clip(values / top, 0, 1) * 255).astype(np.uint8))


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in image.info:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return _on(layer, "black" if _is_lost_on_white(layer) else "white")


def _is_lost_on_white(layer: Image.Image) -> bool:
    """Whether what can be seen of a layer is nearly white, or fine strokes of which some are."""
    opacity = layer.getchannel("A")
    clear = sum(opacity.histogram()[:_VISIBLE])
    if not _LEAST_CLEAR * layer.width * layer.height <= clear < layer.width * layer.height:
        return False
    highest = int(np.asarray(opacity).max())
    solid = opacity.point([255 * (value >= highest / 2) for value in range(256)])
    counts = np.array(layer.convert("RGB").convert("L").histogram(solid))  # edges may have any colour
    light, dark = (part.sum() / counts.sum() for part in (counts[256 - _VISIBLE :], counts[:_VISIBLE]))
    return bool(light == 1 or (light > _SOME > dark and _is_fine(solid)))


def _is_fine(strokes: Image.Image) -> bool:
    """Whether a mask shows strokes that are narrow compared with all of them together."""
    drawn = strokes.crop(strokes.getbbox())
    drawn.thumbnail((128, 128), Image.Resampling.BOX)
    width = max(3, max(drawn.size) // 16 * 2 + 1)
    padded = ImageOps.expand(drawn.point(lambda value: 255 * (value >= 128)), width)
    return not padded.filter(ImageFilter.MinFilter(width)).getbbox()


def _on(layer: Image.Image, ground: str) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer).convert("RGB")


def _managed(image: Image.Image, flat: Image.Image, profile: bytes) -> Image.Image:
    """Colours as a profile means them, if it fits the image."""
    kind = "CMYK" if image.mode == "CMYK" else "L" if image.mode.startswith(("1", "L", "I", "F")) else "RGB"
    transform = _to_srgb(profile, kind)
    if transform is None:
        return flat
    return transform.apply(image if kind == "CMYK" else flat.convert(kind))


@lru_cache(maxsize=16)  # a collection has few profiles; hashing one takes microseconds
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns an image of a mode, with a profile, into sRGB; None if nothing does or need do."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _SPACES.get(opened.profile.xcolor_space) != mode:
            return None
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
        return None if mode != "CMYK" and _is_srgb(transform, mode) else transform
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether colours spread over all of RGB, or all greys, stay as they are."""
    if mode == "RGB":
        samples = Image.fromarray(np.indices((9, 9, 9), np.uint8).reshape(3, 1, -1).transpose(1, 2, 0) * 31)
    else:
        samples = Image.linear_gradient("L")
    difference = np.asarray(transform.apply(samples), np.int16) - np.asarray(samples.convert("RGB"), np.int16)
    return bool(np.abs(difference).max() <= _SRGB_TOLERANCE)
