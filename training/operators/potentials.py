"""Energy landscapes with several wells."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

__all__ = ["LANDSCAPES", "Landscape", "Potential"]


class Potential(StrEnum):
    """Names of the landscapes."""

    DOUBLE_WELL = "double-well"
    MUELLER_BROWN = "mueller-brown"


@dataclass(frozen=True)
class Landscape:
    """A potential and the region that holds its wells.

    Attributes:
        energy: maps points ``(n, dimensions)`` to energies ``(n,)``.
        low: corner of the box that holds all but a negligible part of exp(-beta U).
        high: the opposite corner.
        beta: inverse temperature.
        timescale: time scale of the slowest motions.
    """

    energy: Callable[[Tensor], Tensor]
    low: tuple[float, ...]
    high: tuple[float, ...]
    beta: float
    timescale: float


def _double_well(x: Tensor) -> Tensor:
    return 5 * (x[:, 0] ** 2 - 1) ** 2 + 0.5 * x[:, 0]


def _mueller_brown(x: Tensor) -> Tensor:
    """K. Mueller and L. D. Brown, Theoretica Chimica Acta 53 (1979): four anisotropic Gaussians."""
    heights = (-200.0, -100.0, -170.0, 15.0)
    shapes = ((-1.0, 0.0, -10.0), (-1.0, 0.0, -10.0), (-6.5, 11.0, -6.5), (0.7, 0.6, 0.7))
    centres = ((1.0, 0.0), (0.0, 0.5), (-0.5, 1.5), (-1.0, 1.0))
    total = torch.zeros_like(x[:, 0])
    for height, (a, b, c), (x0, y0) in zip(heights, shapes, centres, strict=True):
        u, v = x[:, 0] - x0, x[:, 1] - y0
        total = total + height * torch.exp(a * u**2 + b * u * v + c * v**2)
    return total


LANDSCAPES = {
    Potential.DOUBLE_WELL: Landscape(_double_well, (-2.0,), (2.0,), beta=1.0, timescale=1.0),
    Potential.MUELLER_BROWN: Landscape(_mueller_brown, (-1.9, -0.8), (1.3, 2.1), beta=1 / 20, timescale=0.05),
}
