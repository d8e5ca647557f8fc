"""Augmentation of training images: the strokes and placement of drawings, the framing and light of photos.

All random numbers come from one generator, so that the images of a step depend on its seed alone and a resumed run
sees the same ones. Images are float tensors ``(n, 3, size, size)`` with values 0 (black) to 1 (white).
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

__all__ = ["AffineRange", "Draws", "augment_photos", "augment_sketches"]


class Draws:
    """Random numbers for images of a batch; those of an image do not depend on which others are there.

    Args:
        generator: source of all of them.
        batch: number of images of the whole batch.
        rows: the images that are there, ``(n,)``; all when omitted.
        device: where the images are. The numbers are the same on every device.
    """

    def __init__(
        self, generator: Generator, batch: int, rows: Tensor | None = None, device: torch.device | None = None
    ) -> None:
        self._generator = generator
        self._batch = batch
        self._rows = torch.arange(batch) if rows is None else rows
        self._device = device

    def uniform(self, low: float = 0, high: float = 1) -> Tensor:
        """One number for each image, ``(n,)``."""
        return self.uniform_rows(1, low, high)[:, 0]

    def uniform_rows(self, count: int, low: float, high: float) -> Tensor:
        """Several numbers for each image, ``(n, count)``."""
        numbers = torch.rand(count * self._batch, generator=self._generator) * (high - low) + low
        return numbers.view(self._batch, count)[self._rows].to(device=self._device)


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


def augment_sketches(images: Tensor, draws: Draws) -> Tensor:
    """Varies stroke width and placement, mirrors half of the drawings, and erases a rectangle from half of them.

    Args:
        images: drawings with dark strokes on white, ``(n, 3, size, size)``.
        draws: random numbers for them.

    Returns:
        ``(n, 3, size, size)``.
    """
    images = _vary_thickness(images, draws)
    images = 1 - _place(1 - images, SKETCH_PLACEMENT, draws, outside="zeros")
    return _erase(images, 0.5, draws, fill=images.new_ones(len(images)))


def augment_photos(images: Tensor, draws: Draws) -> Tensor:
    """Varies framing, light and saturation, mirrors half of the photos, and covers a rectangle in a quarter of them.

    Args:
        images: photos, ``(n, 3, size, size)``.
        draws: random numbers for them.

    Returns:
        ``(n, 3, size, size)``.
    """
    images = _vary_light(_place(images, PHOTO_PLACEMENT, draws, outside="reflection"), draws)
    return _erase(images, 0.25, draws, fill=draws.uniform())


def _vary_thickness(images: Tensor, draws: Draws) -> Tensor:
    kind = draws.uniform()[:, None, None, None]
    amount = draws.uniform()[:, None, None, None]
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


def _place(images: Tensor, limits: AffineRange, draws: Draws, *, outside: str) -> Tensor:
    """Random affine maps, half of them mirrored; ``outside`` is ``grid_sample``'s padding."""
    angle = draws.uniform(-limits.rotation, limits.rotation) * math.pi / 180
    scale = torch.exp(-draws.uniform(math.log(limits.smallest), math.log(limits.largest)))
    stretch = torch.exp(draws.uniform(-limits.stretch, limits.stretch))
    mirror = torch.where(draws.uniform() < 0.5, -1.0, 1.0)
    to_source = images.new_zeros(len(images), 2, 3)
    to_source[:, 0, 0] = torch.cos(angle) * scale * stretch * mirror
    to_source[:, 0, 1] = draws.uniform(-limits.shear, limits.shear) - torch.sin(angle) * scale
    to_source[:, 1, 0] = torch.sin(angle) * scale * mirror
    to_source[:, 1, 1] = torch.cos(angle) * scale / stretch
    to_source[:, :, 2] = draws.uniform_rows(2, -2 * limits.shift, 2 * limits.shift)
    grid = functional.affine_grid(to_source, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode=outside, align_corners=False)


def _vary_light(images: Tensor, draws: Draws) -> Tensor:
    saturation, contrast, brightness = (
        draws.uniform(low, high)[:, None, None, None] for low, high in ((0.0, 1.3), (0.7, 1.3), (-0.15, 0.15))
    )
    images = torch.lerp(images.mean(dim=1, keepdim=True), images, saturation)
    return (torch.lerp(images.mean(dim=(1, 2, 3), keepdim=True), images, contrast) + brightness).clamp(0, 1)


def _erase(images: Tensor, share: float, draws: Draws, *, fill: Tensor) -> Tensor:
    """Fills one random rectangle of a share of the images with their ``fill``, ``(n,)``."""
    height, width = images.shape[2:]
    chosen = draws.uniform() < share
    inside = []
    for side in (height, width):
        extent = draws.uniform(*_ERASED_SIDE)
        start = draws.uniform() * (1 - extent)
        place = (torch.arange(side, device=images.device) + 0.5) / side
        inside.append((place >= start[:, None]) & (place < (start + extent)[:, None]))
    mask = (chosen[:, None] & inside[0])[:, :, None] & inside[1][:, None, :]
    return torch.where(mask[:, None], fill[:, None, None, None], images)
