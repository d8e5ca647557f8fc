"""Functions of x with their derivatives, by forward-mode differentiation of a whole batch."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import jvp, vmap

__all__ = ["Jet", "jet", "laplacian"]

Functions = Callable[[Tensor], Tensor]

with warnings.catch_warnings():  # torch loads its own deprecated code with the first derivative
    warnings.simplefilter("ignore", FutureWarning)
    jvp(torch.sin, (torch.zeros(1),), (torch.zeros(1),))


class Jet(NamedTuple):
    """Values and gradients of L functions at n points.

    Attributes:
        value: values ``(n, L)``.
        gradient: gradients ``(dimensions, n, L)``.
    """

    value: Tensor
    gradient: Tensor

    def detach(self) -> "Jet":
        """The same jet without gradients to parameters."""
        return Jet(self.value.detach(), self.gradient.detach())

    def rows(self, part: slice) -> "Jet":
        """The functions at some of the points."""
        return Jet(self.value[part], self.gradient[:, part])

    def with_constant(self) -> "Jet":
        """The same functions with the constant function 1 in front of them."""
        return Jet(
            torch.cat([torch.ones_like(self.value[:, :1]), self.value], dim=1),
            torch.cat([torch.zeros_like(self.gradient[..., :1]), self.gradient], dim=2),
        )


def jet(functions: Functions, x: Tensor) -> Jet:
    """Computes values and gradients, which are differentiable with respect to parameters.

    One forward pass carries the derivative along every axis. The cost grows with the dimensions of x, not with the
    number of functions.

    Args:
        functions: maps ``(n, dimensions)`` to ``(n, L)``, row by row.
        x: points ``(n, dimensions)``.
    """

    def along(direction: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = jvp(functions, (x,), (direction.expand_as(x),))[:2]
        return value, slope

    axes = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    values, gradient = vmap(along)(axes)
    return Jet(values[0], gradient)


def laplacian(functions: Functions, x: Tensor) -> Tensor:
    """Computes the exact Laplacian, the sum of the second derivatives along the axes.

    Args:
        functions: maps ``(n, dimensions)`` to ``(n, L)``, row by row.
        x: points ``(n, dimensions)``.

    Returns:
        The Laplacians, ``(n, L)``.
    """

    def second(direction: Tensor) -> Tensor:
        def first(points: Tensor) -> Tensor:
            derivative: Tensor = jvp(functions, (points,), (direction.expand_as(points),))[1]
            return derivative

        value: Tensor = jvp(first, (x,), (direction.expand_as(x),))[1]
        return value

    return sum((second(axis) for axis in torch.eye(x.shape[1], dtype=x.dtype, device=x.device)), x.new_zeros(()))
