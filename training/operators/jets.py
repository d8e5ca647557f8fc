"""Functions of x together with their derivatives, by forward-mode differentiation of a whole batch."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import jvp, vmap

__all__ = ["Jet", "jet", "laplacian"]

Functions = Callable[[Tensor], Tensor]

with warnings.catch_warnings():  # the first derivative makes torch load code of its own that it deprecates
    warnings.simplefilter("ignore", FutureWarning)
    jvp(torch.sin, (torch.zeros(1),), (torch.zeros(1),))


class Jet(NamedTuple):
    """L functions at n points.

    Attributes:
        value: ``(n, L)``.
        gradient: ``(dimensions, n, L)``.
    """

    value: Tensor
    gradient: Tensor

    def detach(self) -> "Jet":
        """The same with no gradient to parameters."""
        return Jet(self.value.detach(), self.gradient.detach())

    def rows(self, part: slice) -> "Jet":
        """The functions at some of the points."""
        return Jet(self.value[part], self.gradient[:, part])

    def with_constant(self) -> "Jet":
        """The same functions behind the constant function 1."""
        return Jet(
            torch.cat([torch.ones_like(self.value[:, :1]), self.value], dim=1),
            torch.cat([torch.zeros_like(self.gradient[..., :1]), self.gradient], dim=2),
        )


def jet(functions: Functions, x: Tensor) -> Jet:
    """Values and gradients, differentiable with respect to parameters.

    One forward pass carries the derivative along every axis, so the cost grows with the dimensions of x and not
    with the number of functions.

    Args:
        functions: maps ``(n, dimensions)`` to ``(n, L)``, row by row.
        x: ``(n, dimensions)``.
    """

    def along(direction: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = jvp(functions, (x,), (direction.expand_as(x),))[:2]
        return value, slope

    axes = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    values, gradient = vmap(along)(axes)
    return Jet(values[0], gradient)


def laplacian(functions: Functions, x: Tensor) -> Tensor:
    """Exact Laplacian: the sum of second derivatives along the axes.

    Args:
        functions: maps ``(n, dimensions)`` to ``(n, L)``, row by row.
        x: ``(n, dimensions)``.

    Returns:
        ``(n, L)``.
    """

    def second(direction: Tensor) -> Tensor:
        def first(points: Tensor) -> Tensor:
            derivative: Tensor = jvp(functions, (points,), (direction.expand_as(points),))[1]
            return derivative

        value: Tensor = jvp(first, (x,), (direction.expand_as(x),))[1]
        return value

    return sum((second(axis) for axis in torch.eye(x.shape[1], dtype=x.dtype, device=x.device)), x.new_zeros(()))
