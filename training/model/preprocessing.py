"""Preprocessing of an image into the tensor that an encoder expects; it is saved as part of the model."""

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field

from training.drawings.ink import find_drawing

if TYPE_CHECKING:
    from torch import Tensor  # not loaded where images are only arranged

__all__ = ["Preprocessing"]

_LEAST_INK = 0.5  # of a canvas's shorter side that ink spans, unless it is small
_SMALL_INK = 0.6  # of the side of the canvas that small ink gets; drawings of many kinds are found best from 0.5 to 0.7
_LARGEST_SQUARE = 64_000_000  # pixels; a strip that would be padded to more is reduced first
_LARGEST_CANVAS = 4  # times the input's side; larger ones are reduced first, for a strip would be squared
_GAP = 2.0  # an image this many times larger than what is made of it, twice over, is reduced by a whole factor first


class Preprocessing(BaseModel):
    """How images of one modality become input tensors.

    Attributes:
        size: side of the square input in pixels.
        mean: subtracted per channel after scaling to 0..1.
        std: divided by per channel.
        fit: ``stretch`` to the square, or ``pad`` with white to keep the aspect ratio.
        crop_to_ink: first find the ink (see ``training.drawings.ink``) and give it a square canvas of which it
            spans at least half. Dark drawings that fill a white square canvas well stay as they are.
        grayscale: drop colour, which drawings do not have.
        margin: left around ink that would touch the border of its square, as a fraction of its longer side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(224, ge=32, le=1024)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    fit: Literal["stretch", "pad"] = "stretch"
    crop_to_ink: bool = False
    grayscale: bool = False
    margin: float = Field(0.06, ge=0, le=1)

    @property
    def draft(self) -> int:
        """Pixels of the shorter side that decoding an image must leave: more, where a part of it may be enlarged."""
        return self.size * (_LARGEST_CANVAS if self.crop_to_ink else 1)

    def __call__(self, image: Image.Image) -> "Tensor":
        """Converts one RGB image, as ``arrange`` and ``tensor`` do, in half of the time.

        PyTorch resizes, in the same way as Pillow but with the processor's vector instructions; single values of pixels
        differ by one or two grey levels.

        Returns:
            ``(3, size, size)`` float32.
        """
        return self.tensor(_resized_by_torch(self._framed(image), self.size))

    def tensor(self, arranged: Image.Image | NDArray[np.uint8]) -> "Tensor":
        """Converts the image that the encoder sees, as ``arrange`` returns it, ``(3, size, size)`` float32.

        Args:
            arranged: the image, or its pixels, ``(size, size, 3)`` or ``(size, size)``.
        """
        import torch

        pixels = np.asarray(arranged)
        planes = pixels[None] if pixels.ndim == 2 else np.stack([pixels[:, :, channel] for channel in range(3)])
        # Channels are told apart before they become floats: transposing those takes far longer.
        return self.normalise(torch.tensor(planes).float(), white=255)

    def normalise(self, pixels: "Tensor", white: float = 1) -> "Tensor":
        """Turns values 0..white into those that the backbone was trained with, ``(..., 3, size, size)``.

        Args:
            pixels: float32 ``(..., 3, size, size)``, or ``(..., 1, size, size)`` if all channels are alike.
            white: the value of white.
        """
        scale, shift = _affine_map(self.mean, self.std, white)
        return (pixels * scale.to(pixels.device)).sub_(shift.to(pixels.device))

    def arrange(self, image: Image.Image) -> Image.Image:
        """The ``(size, size)`` image that the encoder sees: in RGB, or in grey levels if it has no colours."""
        return _resized(self._framed(image), self.size)

    def _framed(self, image: Image.Image) -> Image.Image:
        """What is to be resized to the square."""
        if self.crop_to_ink:
            image = _crop_to_ink(image, self.margin, self.draft)
        if self.fit == "pad":
            longer = max(image.size)
            if longer**2 > _LARGEST_SQUARE:
                image = _reduced(image, self.size * _LARGEST_CANVAS)
                longer = max(image.size)
            image = ImageOps.pad(image, (longer, longer), color="white")
        return image.convert("L") if self.grayscale else image


@lru_cache(maxsize=8)
def _affine_map(mean: tuple[float, ...], std: tuple[float, ...], white: float) -> tuple["Tensor", "Tensor"]:
    """What values are multiplied by, and what is subtracted then, ``(3, 1, 1)``."""
    import torch

    deviations = torch.tensor(std)[:, None, None]
    return 1 / (white * deviations), torch.tensor(mean)[:, None, None] / deviations


def _resized(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=_GAP)


def _resized_by_torch(image: Image.Image, size: int) -> NDArray[np.uint8]:
    if max(image.size) >= 2 * _GAP * size:  # Pillow reduces it first
        return np.asarray(_resized(image, size))
    import torch
    from torch.nn.functional import interpolate

    with torch.inference_mode():
        pixels = torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1)[None]
        resized = interpolate(pixels, (size, size), mode="bicubic", antialias=True)[0]
        values: NDArray[np.uint8] = (resized[0] if len(resized) == 1 else resized.permute(1, 2, 0)).numpy()
    return values


@lru_cache(maxsize=8)
def _columns(*triples: tuple[float, float, float]) -> "list[Tensor]":
    """Values for the three channels of an image."""
    import torch

    return [torch.tensor(triple)[:, None, None] for triple in triples]


def _crop_to_ink(image: Image.Image, margin: float, largest: int) -> Image.Image:
    image = _reduced(image, largest)
    drawing = find_drawing(image)
    if drawing is None:
        return Image.new("L", image.size, "white")
    image, box, ground = drawing
    ink = max(box[2] - box[0], box[3] - box[1])
    side = min(image.size) if ink >= _LEAST_INK * min(image.size) else ink / _SMALL_INK
    side = round(max(side, ink * (1 + 2 * margin)))
    if image.size == (side, side):
        return image
    square = Image.new(image.mode, (side, side), ground if image.mode == "L" else (ground,) * 3)
    square.paste(image, ((side - box[0] - box[2]) // 2, (side - box[1] - box[3]) // 2))
    return square


def _reduced(image: Image.Image, largest: int) -> Image.Image:
    """An image whose longer side is at most so many pixels."""
    if (scale := largest / max(image.size)) >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=_GAP)
