"""Augmentation of training images: the strokes and placement of drawings, the framing and light of photos.

All random numbers come from one generator, so that the images of a step depend on its seed alone and a resumed run
sees the same ones. Images are float tensors ``(n, 3, size, size)`` with values 0 (black) to 1 (white).
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

__all__ = ["AffineRange", "augment_photos", "augment_sketches"]


@dataclass(frozen=True)
class AffineRange:
    """Ranges from which random affine transformations are drawn.

    Attributes:
        rotation: largest angle in degrees, in either direction.
        smallest: smallest scale; scales are log-uniform, and below 1 the content shrinks.
        largest: largest scale.
        shift: largest shift as a fraction of the side, in either direction.
        shear: largest shear factor, in either direction.
        stretch: largest natural logarithm of the change of aspect ratio, in either direction.
    """

    rotation: float
    smallest: float
    largest: float
    shift: float
    shear: float
    stretch: float


SKETCH_PLACEMENT = AffineRange(rotation=15, smallest=0.8, largest=1.25, shift=0.05, shear=0.1, stretch=0.1)
PHOTO_PLACEMENT = AffineRange(rotation=10, smallest=0.95, largest=1.5, shift=0.06, shear=0.05, stretch=0.1)

_THICKER, _THINNER = 0.3, 0.15  # shares of the drawings
_ERASED_SIDE = (0.1, 0.4)  # of the image's side


def augment_sketches(images: Tensor, generator: Generator) -> Tensor:
    """Varies stroke width and placement, mirrors half of the drawings, and erases a rectangle from half of them.

    Args:
        images: drawings with dark strokes on white, ``(n, 3, size, size)``.
        generator: source of all random numbers.

    Returns:
        ``(n, 3, size, size)``.
    """
    images = _vary_thickness(images, generator)
    images = 1 - _place(1 - images, SKETCH_PLACEMENT, generator, outside="zeros")
    return _erase(images, 0.5, generator, fill=torch.ones(len(images)))


def augment_photos(images: Tensor, generator: Generator) -> Tensor:
    """Varies framing, light and saturation, mirrors half of the photos, and covers a rectangle in a quarter of them.

    Args:
        images: photos, ``(n, 3, size, size)``.
        generator: source of all random numbers.

    Returns:
        ``(n, 3, size, size)``.
    """
    images = _vary_light(_place(images, PHOTO_PLACEMENT, generator, outside="reflection"), generator)
    return _erase(images, 0.25, generator, fill=torch.rand(len(images), generator=generator))


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _vary_thickness(images: Tensor, generator: Generator) -> Tensor:
    count = len(images)
    kind = torch.rand(count, generator=generator)[:, None, None, None]
    amount = torch.rand(count, generator=generator)[:, None, None, None]
    thicker = torch.lerp(images, _darkest(images, (-1, 1)), amount)
    thinner = torch.lerp(images, 1 - _darkest(1 - images, (1,)), 0.6 * amount)
    return torch.where(kind < _THICKER, thicker, torch.where(kind > 1 - _THINNER, thinner, images))


def _darkest(images: Tensor, shifts: tuple[int, ...]) -> Tensor:
    """Smallest value of each pixel and its neighbours along both axes; a few minima of whole images beat pooling."""
    for axis in (-2, -1):
        darkest = images.clone()
        size = images.shape[axis]
        for shift in shifts:
            here = darkest.narrow(axis, max(0, -shift), size - abs(shift))
            torch.minimum(here, images.narrow(axis, max(0, shift), size - abs(shift)), out=here)
        images = darkest
    return images


def _place(images: Tensor, limits: AffineRange, generator: Generator, *, outside: str) -> Tensor:
    """Random affine maps, half of them mirrored; ``outside`` is ``grid_sample``'s padding."""
    count = len(images)
    angle = _uniform(count, -limits.rotation, limits.rotation, generator) * math.pi / 180
    scale = torch.exp(-_uniform(count, math.log(limits.smallest), math.log(limits.largest), generator))
    stretch = torch.exp(_uniform(count, -limits.stretch, limits.stretch, generator))
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    to_source = torch.zeros(count, 2, 3)
    to_source[:, 0, 0] = torch.cos(angle) * scale * stretch * mirror
    to_source[:, 0, 1] = _uniform(count, -limits.shear, limits.shear, generator) - torch.sin(angle) * scale
    to_source[:, 1, 0] = torch.sin(angle) * scale * mirror
    to_source[:, 1, 1] = torch.cos(angle) * scale / stretch
    to_source[:, :, 2] = _uniform(2 * count, -2 * limits.shift, 2 * limits.shift, generator).view(count, 2)
    grid = functional.affine_grid(to_source, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode=outside, align_corners=False)


def _vary_light(images: Tensor, generator: Generator) -> Tensor:
    count = len(images)
    saturation, contrast, brightness = (
        _uniform(count, low, high, generator)[:, None, None, None]
        for low, high in ((0.0, 1.3), (0.7, 1.3), (-0.15, 0.15))
    )
    images = torch.lerp(images.mean(dim=1, keepdim=True), images, saturation)
    return (torch.lerp(images.mean(dim=(1, 2, 3), keepdim=True), images, contrast) + brightness).clamp(0, 1)


def _erase(images: Tensor, share: float, generator: Generator, *, fill: Tensor) -> Tensor:
    """Fills one random rectangle of a share of the images with their ``fill``, ``(n,)``."""
    count, _, height, width = images.shape
    chosen = torch.rand(count, generator=generator) < share
    inside = []
    for side in (height, width):
        extent = _uniform(count, *_ERASED_SIDE, generator)
        start = torch.rand(count, generator=generator) * (1 - extent)
        place = (torch.arange(side) + 0.5) / side
        inside.append((place >= start[:, None]) & (place < (start + extent)[:, None]))
    mask = (chosen[:, None] & inside[0])[:, :, None] & inside[1][:, None, :]
    return torch.where(mask[:, None], fill[:, None, None, None], images)
