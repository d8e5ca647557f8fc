"""Decoding within bounds of memory: few images at the same time, none of them too large."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from PIL import Image

from service.errors import RequestProblem
from training.model.images import ImageFacts, describe_image, open_image, read_image

__all__ = ["Crop", "Decoder"]


class Crop(NamedTuple):
    """A part of an image that is upright, in pixels of the whole image."""

    x: int
    y: int
    width: int
    height: int


class Decoder:
    """Decodes all images of the service: sketches, photos and thumbnails. It may be used from many threads.

    Args:
        max_at_once: largest number of images that are being decoded, or held decoded, at the same time.
        max_pixels: largest width times height of an image.
    """

    def __init__(self, max_at_once: int, max_pixels: int) -> None:
        self.max_at_once = max_at_once
        self._places = threading.Semaphore(max_at_once)
        self._max_pixels = max_pixels

    @contextmanager
    def image(
        self,
        content: bytes,
        draft: int | None = None,
        crop: Crop | None = None,
        *,
        drawing: bool = False,
        known_pixels: int = 0,
    ) -> Iterator[Image.Image]:
        """Decodes an image, which counts towards the limit until the block ends.

        Args:
            content: bytes of the file.
            draft: see ``read_image``; without effect on a part of an image, which needs its detail.
            crop: part of the image to keep; all of it when omitted.
            drawing: see ``read_image``.
            known_pixels: width times height that an image like this had before; it may have as many again, whatever the
                limit.

        Raises:
            ImageError: if the bytes are not a usable image; ``ImageTooLarge`` if the image has too many pixels.
            RequestProblem: 422 if the part does not lie within the image.
        """
        with self._places:
            limit = max(self._max_pixels, known_pixels)
            if crop is None:
                yield open_image(content, max_pixels=limit, draft=draft, drawing=drawing)
            else:
                yield _cropped(*read_image(content, max_pixels=limit, drawing=drawing), crop)

    def describe(self, content: bytes) -> ImageFacts:
        """What an image is.

        Raises:
            ImageError: if it is no usable image; ImageTooLarge if it has too many pixels.
        """
        with self._places:
            return describe_image(content, max_pixels=self._max_pixels)


def _cropped(facts: ImageFacts, image: Image.Image, crop: Crop) -> Image.Image:
    """A part of an image, which may have been decoded at a reduced scale."""
    right, bottom = crop.x + crop.width, crop.y + crop.height
    if right > facts.width or bottom > facts.height:
        raise RequestProblem(
            422,
            f"the crop of {crop.width} x {crop.height} pixels from {crop.x}, {crop.y} does not lie within the photo, "
            f"which has {facts.width} x {facts.height}",
        )
    across, down = image.width / facts.width, image.height / facts.height
    left, top = min(int(crop.x * across), image.width - 1), min(int(crop.y * down), image.height - 1)
    return image.crop((left, top, max(left + 1, round(right * across)), max(top + 1, round(bottom * down))))
