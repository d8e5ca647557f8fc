"""Decoding within bounds of memory: few images at the same time, none of them too large."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from training.model.images import ImageFacts, describe_image, open_image

__all__ = ["Decoder"]


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
        self, content: bytes, draft: int | None = None, *, drawing: bool = False, known_pixels: int = 0
    ) -> Iterator[Image.Image]:
        """Decodes an image, which counts towards the limit until the block ends.

        Args:
            content: bytes of the file.
            draft: see ``read_image``.
            drawing: likewise.
            known_pixels: width times height that an image like this had before; it may have as many again, whatever the
                limit.

        Raises:
            ImageError: if the bytes are not a usable image; ``ImageTooLarge`` if the image has too many pixels.
        """
        with self._places:
            limit = max(self._max_pixels, known_pixels)
            yield open_image(content, max_pixels=limit, draft=draft, drawing=drawing)

    def describe(self, content: bytes) -> ImageFacts:
        """What an image is.

        Raises:
            ImageError: if it is no usable image; ImageTooLarge if it has too many pixels.
        """
        with self._places:
            return describe_image(content, max_pixels=self._max_pixels)
