"""Random points that fill the unit cube evenly, for estimates of low variance in few dimensions."""

import torch
from torch import Tensor

__all__ = ["shifted_lattice"]


def shifted_lattice(count: int, dimensions: int, generator: torch.Generator) -> Tensor:
    """Draws a lattice that is moved by one random shift, modulo 1.

    Every single point is uniform, so means over the lattice are unbiased. Together the points leave no gaps, so the
    means vary far less than those of independent points. Two lattices with separate shifts are independent.

    Args:
        count: number of points.
        dimensions: dimensions of the cube.
        generator: random generator for the shift.

    Returns:
        Points ``(count, dimensions)`` in [0, 1), float64.
    """
    root = 1.5  # converges to the root of root^dimensions = root + 1, the golden ratio in two dimensions
    for _ in range(40):
        root = (1 + root) ** (1 / dimensions) if dimensions > 1 else 1.0
    steps = torch.tensor([1 / count, *(root**-k for k in range(1, dimensions))], dtype=torch.float64)
    shift = torch.rand(dimensions, generator=generator, dtype=torch.float64)
    return (torch.arange(count, dtype=torch.float64)[:, None] * steps + shift) % 1
