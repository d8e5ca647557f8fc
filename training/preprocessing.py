"""From an image to the tensor an encoder expects; part of the model, saved with it."""

from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageChops, ImageOps
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

__all__ = ["Preprocessing"]

_INK_THRESHOLD = 24  # grey levels away from white that count as ink


class Preprocessing(BaseModel):
    """How images of one modality become input tensors.

    Attributes:
        size: side of the square input in pixels.
        mean: subtracted per channel after scaling to 0..1.
        std: divided by per channel.
        fit: ``stretch`` to the square, or ``pad`` with white to keep the aspect ratio.
        crop_to_ink: first cut a drawing to its ink plus a margin, so that a small drawing in a corner of
            the canvas is encoded like a large one.
        grayscale: drop colour, which drawings do not have.
        margin: white left around the ink, as a fraction of its longer side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(224, ge=32, le=1024)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    fit: Literal["stretch", "pad"] = "stretch"
    crop_to_ink: bool = False
    grayscale: bool = False
    margin: float = Field(0.06, ge=0, le=1)

    def __call__(self, image: Image.Image) -> Tensor:
        """Converts one RGB image.

        Returns:
            ``(3, size, size)`` float32.
        """
        pixels = torch.from_numpy(np.array(self.arrange(image))).permute(2, 0, 1).float().div_(255)
        return self.normalise(pixels)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Turns values 0..1, ``(..., 3, size, size)``, into those that the backbone was trained with."""
        return (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]

    def arrange(self, image: Image.Image) -> Image.Image:
        """The ``(size, size)`` RGB image that the encoder sees."""
        if self.crop_to_ink:
            image = _crop_to_ink(image, self.margin)
        if self.fit == "pad":
            longer = max(image.size)
            image = ImageOps.pad(image, (longer, longer), color="white")
        if self.grayscale:
            image = image.convert("L").convert("RGB")
        return image.resize((self.size, self.size), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _crop_to_ink(image: Image.Image, margin: float) -> Image.Image:
    difference = ImageChops.invert(image.convert("L"))
    box = difference.point(lambda value: 255 * (value > _INK_THRESHOLD)).getbbox()
    if box is None:
        return image
    border = max(1, round(margin * max(box[2] - box[0], box[3] - box[1])))
    return ImageOps.expand(image.crop(box), border, fill="white")
