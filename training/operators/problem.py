"""The interface of an eigenvalue problem that can be solved by networks and checked against a reference."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.operators.jets import Jet

__all__ = ["Array", "Forms", "Picture", "Points", "Problem", "QuadraticForm", "Reference"]

Array = NDArray[np.float64]


class Points(NamedTuple):
    """Points and their importance weights: the mean of weight * f * g estimates <f, g>.

    Attributes:
        x: points ``(n, dimensions)``.
        weight: importance weights ``(n,)``.
    """

    x: Tensor
    weight: Tensor


class QuadraticForm(NamedTuple):
    """The form Q(f, g), the mean over points of value * f * g + gradient * grad f . grad g.

    Attributes:
        value: coefficients ``(n,)``.
        gradient: coefficients ``(n,)``, or None if the form has no derivatives.
    """

    value: Tensor | None
    gradient: Tensor | None

    def matrix(self, left: Jet, right: Jet) -> Tensor:
        """Computes Q(f_i, g_j) for all functions of two jets at the same points, ``(L, M)``."""
        total: Tensor = left.value.new_zeros(())
        if self.value is not None:
            total = total + (left.value * self.value[:, None]).T @ right.value / len(self.value)
        if self.gradient is not None:
            weighted = left.gradient * self.gradient[:, None]
            total = total + torch.einsum("dni,dnj->ij", weighted, right.gradient) / len(self.gradient)
        return total

    def part(self, rows: slice) -> "QuadraticForm":
        """The form as a mean over some of the points."""
        return QuadraticForm(
            None if self.value is None else self.value[rows], None if self.gradient is None else self.gradient[rows]
        )

    def diagonal(self, jet: Jet) -> Tensor:
        """Computes Q(f_i, f_i), ``(L,)``."""
        total = jet.value.new_zeros(())
        if self.value is not None:
            total = total + (self.value[:, None] * jet.value**2).mean(dim=0)
        if self.gradient is not None:
            total = total + (self.gradient[:, None] * (jet.gradient**2).sum(dim=0)).mean(dim=0)
        return total

    def samples(self, jet: Jet) -> Tensor:
        """Returns rows ``(m, L)`` whose second moment is Q(f_i, f_j), for a form without negative coefficients."""
        parts = []
        if self.value is not None:
            parts.append(jet.value * self.value.sqrt()[:, None])
        if self.gradient is not None:
            parts.extend(jet.gradient * self.gradient.sqrt()[:, None])
        return torch.cat(parts) * math.sqrt(len(parts))


class Forms(NamedTuple):
    """The operator T and the inner product of the Hilbert space in which it is self-adjoint.

    Attributes:
        operator: the form <f, T g>.
        metric: the form <f, g>.
    """

    operator: QuadraticForm
    metric: QuadraticForm

    def shifted(self, amount: float) -> "Forms":
        """The forms of the operator T + amount, which has the same eigenfunctions."""
        value, gradient = (
            old if new is None else amount * new + (0 if old is None else old)
            for old, new in zip(self.operator, self.metric, strict=True)
        )
        return Forms(QuadraticForm(value, gradient), self.metric)


class Reference(NamedTuple):
    """The exact modes, to compare with.

    Attributes:
        points: quadrature points; the mean of weight * f is the integral of f.
        eigenvalues: eigenvalues ``(L,)``, in the order of the modes and the units of ``Problem.eigenvalues``.
        functions: values ``(n, L)`` of the modes at those points, orthonormal under the weights.
        levels: groups of modes that share an eigenvalue.
        error: largest relative error of the eigenvalues themselves; 0 if they are exact.
    """

    points: Points
    eigenvalues: Array
    functions: Array
    levels: tuple[slice, ...]
    error: float = 0.0


class Picture(NamedTuple):
    """Where and how to draw a mode.

    Attributes:
        x: points of a grid, ``(n, dimensions)``.
        shape: shape of the grid: rows and columns of an image, or the length of a line.
        exact: values of the exact mode, ``(n,)``; NaN at points that are not drawn.
        title: title in a word or two.
    """

    x: Array
    shape: tuple[int, ...]
    exact: Array
    title: str


class Problem(ABC):
    """A self-adjoint operator T whose leading eigenfunctions are sought.

    Attributes:
        name: name in a few words, different for every problem.
        dimensions: number of dimensions of x.
        modes: number of eigenfunctions L.
        constant_mode: whether the leading eigenfunction is the constant, which is known and not counted in ``modes``.
    """

    name: str
    dimensions: int
    modes: int
    constant_mode: ClassVar[bool]

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Inputs of a network ``(n, features)``, all of order one."""

    @abstractmethod
    def envelope(self, x: Tensor) -> Tensor:
        """Factor ``(n,)`` by which every function is multiplied, so that it decays; 1 if it need not decay."""

    @abstractmethod
    def sample(self, uniform: Tensor) -> Points:
        """Maps points of the unit cube ``(n, dimensions)`` to importance-weighted points."""

    @abstractmethod
    def forms(self, points: Points) -> Forms:
        """The operator and its Hilbert space, as means over points."""

    @abstractmethod
    def eigenvalues(self, spectrum: Array) -> Array:
        """Converts eigenvalues of T to those that are usual for the problem."""

    @abstractmethod
    def reference(self) -> Reference:
        """The exact modes, to compare with."""

    @abstractmethod
    def picture(self, mode: int) -> Picture:
        """Where and how to draw a mode, counted from 0."""
