"""What a decoder does with an image: arranges it for an encoder, makes a thumbnail of it, or says what it is.

This runs in the processes of ``service.encoding.nursery``, which have no PyTorch.
"""

import io
from functools import lru_cache
from typing import Literal, NamedTuple, Self

from PIL import Image

from service.encoding.messages import Header
from service.errors import RequestProblem
from training.base.errors import ImageTooCostly, ImageTooLarge
from training.base.rejects import reject_reason
from training.drawings.ink import is_blank
from training.model.images import ImageFacts, describe_image, read_image
from training.model.preprocessing import Preprocessing

__all__ = ["Crop", "Task", "perform"]


class Crop(NamedTuple):
    """A part of an image that is upright, in pixels of the whole image."""

    x: int
    y: int
    width: int
    height: int


class Task(NamedTuple):
    """What to do with an image.

    Attributes:
        result: ``arranged`` for the pixels that an encoder sees, ``(size, size)`` or ``(size, size, 3)`` uint8;
            ``thumbnail`` for a WebP file; ``facts`` for what the image is.
        max_pixels: see ``read_image``.
        seconds: processor time that this may take.
        drawing: see ``read_image``.
        crop: part of the image to keep; all of it when omitted.
        preprocessing: the encoder's, as JSON.
        size: side of the square that a thumbnail fits, in pixels.
        memory: bytes that this may take beside the content.
    """

    result: Literal["arranged", "thumbnail", "facts"]
    max_pixels: int
    seconds: float
    drawing: bool = False
    crop: Crop | None = None
    preprocessing: str = ""
    size: int = 0
    memory: int = 0

    def header(self) -> Header:
        """The task as the header of a message."""
        return self._asdict()

    @classmethod
    def from_header(cls, header: Header) -> Self:
        """The task that a header holds."""
        crop = header.pop("crop")
        return cls(**header, crop=crop and Crop(*crop))


def perform(task: Task, content: bytes) -> tuple[Header, bytes]:
    """Does what is asked. Whatever goes wrong is told in the header, as ``error`` with a ``reason``."""
    try:
        return _results(task, content)
    except RequestProblem as problem:
        return {"error": "request", "status": problem.status, "reason": problem.detail}, b""
    except ImageTooLarge as error:
        return {"error": "pixels", "reason": error.reason}, b""
    except ImageTooCostly as error:
        return {"error": "cost", "reason": error.reason}, b""
    except MemoryError:
        return {"error": "memory", "reason": ""}, b""
    except Exception as error:  # decoders of hostile bytes raise nearly anything
        return {"error": "image", "reason": reject_reason(error)}, b""


def _results(task: Task, content: bytes) -> tuple[Header, bytes]:
    if task.result == "facts":
        return {"facts": describe_image(content, max_pixels=task.max_pixels)}, b""
    if task.result == "thumbnail":
        _, image = read_image(content, max_pixels=task.max_pixels, draft=task.size)
        image.thumbnail((task.size, task.size))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=82)
        return {}, buffer.getvalue()
    preprocessing = _preprocessing(task.preprocessing)
    draft = preprocessing.draft if task.crop is None else None  # a part of an image needs its detail
    facts, image = read_image(content, max_pixels=task.max_pixels, draft=draft, drawing=task.drawing, bounded=True)
    if task.crop is not None:
        image = _cropped(facts, image, task.crop)
    arranged = preprocessing.arrange(image)
    return {"blank": is_blank(arranged), "gray": arranged.mode == "L"}, arranged.tobytes()


@lru_cache(maxsize=8)
def _preprocessing(text: str) -> Preprocessing:
    return Preprocessing.model_validate_json(text)


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
