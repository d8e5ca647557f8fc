"""The hydrogen atom in two dimensions: H = -laplacian - 1/|x|, whose bound states are known in closed form."""

import math
from typing import ClassVar

import numpy as np
import torch
from scipy.special import eval_genlaguerre
from torch import Tensor

from training.operators.problem import Array, Forms, Picture, Points, Problem, QuadraticForm, Reference

__all__ = ["Hydrogen", "exact_states"]

_SCALES = (1.0, 4.0, 12.0)  # length scales of the radial proposal, a mixture of exponentials
_SHARES = (1 / 7, 2 / 7, 4 / 7)
_REACH = 200.0  # radius of the quadrature
_RADII, _ANGLES = 400, 48
_PIXELS = 96


class Hydrogen(Problem):
    """The operator T = -H, whose positive eigenvalues are 1/(2n+1)^2 with multiplicity 2n+1, for n = 0, 1, 2, ...

    Integration by parts turns <f, -laplacian f> into the mean of |grad f|^2, which needs only first derivatives.
    The radius is drawn from a mixture q of exponentials, and functions carry the envelope sqrt(q / (2 pi sqrt(1 +
    r^2))). All importance weights are therefore bounded, even those of the singular 1/r.

    Args:
        shells: number of values of n; 4 values give 16 modes.
    """

    dimensions = 2
    constant_mode: ClassVar[bool] = False

    def __init__(self, shells: int = 4) -> None:
        self.name = f"2D hydrogen atom, {shells**2} states"
        self.shells = shells
        self.modes = shells**2

    def features(self, x: Tensor) -> Tensor:
        """Compressed coordinates and radii, so that lengths of 1 and of 100 both matter."""
        r = _radius(x)[:, None]
        logarithm = torch.log1p(r)
        return torch.cat([x / r * logarithm, x / (1 + r), logarithm, 1 / (1 + r)], dim=1)

    def envelope(self, x: Tensor) -> Tensor:
        """Square root of the sampling density, with its pole at the origin smoothed."""
        r = _radius(x)
        return (_proposal(r) / (2 * math.pi * torch.sqrt(1 + r**2))).sqrt()

    def sample(self, uniform: Tensor) -> Points:
        """Samples the radius by inversion, a part of the interval for each exponential, and the angle uniformly."""
        shares = torch.tensor(_SHARES, dtype=uniform.dtype)
        edges = shares.cumsum(0)
        share = uniform[:, 0].contiguous()
        part = torch.searchsorted(edges[:-1].contiguous(), share, right=True)
        within = (share - (edges - shares)[part]) / shares[part]
        r = -torch.tensor(_SCALES, dtype=uniform.dtype)[part] * torch.log1p(-within.clamp(1e-9, 1 - 1e-9))
        angle = 2 * math.pi * uniform[:, 1]
        return Points(torch.stack([r * angle.cos(), r * angle.sin()], dim=1), 2 * math.pi * r / _proposal(r))

    def forms(self, points: Points) -> Forms:
        """<f, T g> = integral of f g / r - grad f . grad g, in the space of square-integrable functions."""
        operator = QuadraticForm(value=points.weight / _radius(points.x), gradient=-points.weight)
        return Forms(operator, metric=QuadraticForm(value=points.weight, gradient=None))

    def eigenvalues(self, spectrum: Array) -> Array:
        """The energies of the states."""
        return -spectrum

    def reference(self) -> Reference:
        """The exact states on a polar grid: Gauss-Legendre nodes in log(1 + 2r), equal steps of the angle."""
        nodes, weights = np.polynomial.legendre.leggauss(_RADII)
        span = math.log1p(2 * _REACH)
        r = np.expm1((nodes + 1) / 2 * span) / 2
        weight = weights / 2 * span * (r + 0.5) * r * 2 * math.pi / _ANGLES
        angle = np.arange(_ANGLES) * 2 * math.pi / _ANGLES
        x = np.stack([np.outer(r, np.cos(angle)), np.outer(r, np.sin(angle))], axis=-1).reshape(-1, 2)
        points = Points(torch.from_numpy(x), torch.from_numpy(np.repeat(weight, _ANGLES) * len(x)))
        return Reference(
            points,
            eigenvalues=np.array([-1 / (2 * n + 1) ** 2 for n in range(self.shells) for _ in range(2 * n + 1)]),
            functions=exact_states(x, self.shells),
            levels=tuple(slice(n**2, (n + 1) ** 2) for n in range(self.shells)),
        )

    def picture(self, mode: int) -> Picture:
        """A square that is as wide as the states of the mode's level."""
        n = math.isqrt(mode)
        reach = (2 * n + 1) ** 2 + 5.0
        axis = np.linspace(-reach, reach, _PIXELS)
        x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        return Picture(x, (_PIXELS, _PIXELS), exact_states(x, self.shells)[:, mode], f"n = {n}")


def exact_states(x: Array, shells: int) -> Array:
    """Computes orthonormal bound states: rho^m exp(-rho/2) L_{n-m}^{2m}(rho) {cos, sin}(m angle), rho = 2r/(2n+1).

    Args:
        x: points ``(n, 2)``.
        shells: number of values of n.

    Returns:
        The values ``(n, shells^2)``, in order of n, then m, cosine before sine.
    """
    r, angle = np.hypot(x[:, 0], x[:, 1]), np.arctan2(x[:, 1], x[:, 0])
    columns: list[Array] = []
    for n in range(shells):
        rho = 2 * r / (2 * n + 1)
        for m in range(n + 1):
            radial = rho**m * np.exp(-rho / 2) * eval_genlaguerre(n - m, 2 * m, rho)
            # The integral of rho^(2m+1) exp(-rho) L^2 is (n+m)!/(n-m)! (2n+1); lengths scale by (2n+1)/2.
            square = math.factorial(n + m) / math.factorial(n - m) * (2 * n + 1) * ((2 * n + 1) / 2) ** 2
            parts = [np.ones_like(angle)] if m == 0 else [np.cos(m * angle), np.sin(m * angle)]
            square *= 2 * math.pi if m == 0 else math.pi
            columns.extend(radial * part / math.sqrt(square) for part in parts)
    return np.stack(columns, axis=1)


def _radius(x: Tensor) -> Tensor:
    return (x**2).sum(dim=1).clamp_min(1e-12).sqrt()


def _proposal(r: Tensor) -> Tensor:
    """Density of the radius that is sampled."""
    scales, shares = torch.tensor(_SCALES, dtype=r.dtype), torch.tensor(_SHARES, dtype=r.dtype)
    return (shares / scales * torch.exp(-r[:, None] / scales)).sum(dim=1)
