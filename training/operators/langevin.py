"""Overdamped Langevin dynamics: the generator (L f)(x) = -grad U . grad f + laplacian f / beta."""

from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from training.operators.generator_grid import Grid, GridModes, cell_centres, generator_modes
from training.operators.potentials import LANDSCAPES, Landscape, Potential
from training.operators.problem import Array, Forms, Picture, Points, Problem, QuadraticForm, Reference

__all__ = ["Langevin"]

_TEMPERING = 0.5  # the proposal is exp(-beta U) to this power, so that it also visits barriers
_PROPOSAL_CELLS = 400
_RARE = 1e-4  # relative to the largest probability of a cell; pictures leave out rarer cells


class Langevin(Problem):
    """The operator T = (1 - tau L)^-1, which averages the dynamics over an exponential time with mean tau.

    L is self-adjoint under p = exp(-beta U) / Z but unbounded. In the Hilbert space with the inner product <f, g> =
    E_p[f g] + tau E_p[grad f . grad g] / beta, its resolvent T is self-adjoint and bounded, and <f, T g> = E_p[f g].
    Nothing has to be inverted, and first derivatives suffice. T has the eigenfunctions of L and the eigenvalues 1 / (1
    + tau rate), where rate is an eigenvalue of -L. The leading mode is the constant, with eigenvalue 1.

    Args:
        potential: name of the energy landscape.
        modes: number of modes besides the constant one.
        cells: number of cells of the reference grid along each axis.
    """

    constant_mode: ClassVar[bool] = True

    def __init__(self, potential: Potential, modes: int = 8, *, cells: int | None = None) -> None:
        self.name = f"Langevin dynamics, {potential}, {modes} modes"
        self.landscape = LANDSCAPES[potential]
        self.dimensions = len(self.landscape.low)
        self.modes = modes
        self.cells = cells or (2048 if self.dimensions == 1 else 256)
        self._proposal = _Proposal(self.landscape)

    def features(self, x: Tensor) -> Tensor:
        """Coordinates scaled to [-1, 1]."""
        low, high = (torch.tensor(corner, dtype=x.dtype) for corner in (self.landscape.low, self.landscape.high))
        return (2 * x - low - high) / (high - low)

    def envelope(self, x: Tensor) -> Tensor:
        """The constant 1, because the functions need not vanish anywhere."""
        return torch.ones_like(x[:, 0])

    def sample(self, uniform: Tensor) -> Points:
        """Samples a tempered density on cells, so that both wells and barriers are visited."""
        return self._proposal.sample(uniform)

    def forms(self, points: Points) -> Forms:
        """The form E_p[f g] in the space with the inner product E_p[f g] + tau E_p[grad f . grad g] / beta."""
        diffusion = points.weight * self.landscape.timescale / self.landscape.beta
        return Forms(QuadraticForm(points.weight, None), metric=QuadraticForm(points.weight, diffusion))

    def eigenvalues(self, spectrum: Array) -> Array:
        """The eigenvalues of L."""
        return (1 - 1 / spectrum) / self.landscape.timescale

    @cached_property
    def _solved(self) -> tuple[Grid, GridModes]:
        grid = cell_centres(self.landscape, self.cells)
        return grid, generator_modes(self.landscape, grid, self.modes)

    def reference(self) -> Reference:
        """The modes on the fine grid, whose error is estimated from a grid of twice the cell size."""
        grid, modes = self._solved
        rough = generator_modes(self.landscape, cell_centres(self.landscape, self.cells // 2), self.modes)
        return Reference(
            Points(torch.from_numpy(grid.centres), torch.from_numpy(modes.probability * len(grid.centres))),
            eigenvalues=-modes.rates,
            functions=modes.functions,
            levels=tuple(slice(mode, mode + 1) for mode in range(self.modes)),
            error=float(np.abs(rough.rates / modes.rates - 1).max() / 3),  # the error of a second-order scheme
        )

    def picture(self, mode: int) -> Picture:
        """The part of the box where the dynamics spend their time."""
        grid, modes = self._solved
        visible = modes.probability > _RARE * modes.probability.max()
        values = np.where(visible, modes.functions[:, mode], np.nan)
        return Picture(grid.centres, grid.shape, values, f"mode {mode + 1}")


class _Proposal:
    """A density that is constant on cells. It is sampled axis by axis by inversion, with weights for exp(-beta U) / Z.

    Args:
        landscape: energy landscape to sample.
    """

    def __init__(self, landscape: Landscape) -> None:
        self._landscape = landscape
        self._grid: Grid = cell_centres(landscape, _PROPOSAL_CELLS)
        energy = landscape.beta * landscape.energy(torch.from_numpy(self._grid.centres))
        self._ground = energy.min()
        self._volume = float(np.prod(self._grid.size))
        self._partition = float(torch.exp(self._ground - energy).sum()) * self._volume
        tempered = torch.exp(_TEMPERING * (self._ground - energy))
        self._shares = (tempered / tempered.sum()).reshape(_PROPOSAL_CELLS, -1)

    def sample(self, uniform: Tensor) -> Points:
        """Maps points ``(n, dimensions)`` of the unit cube to weighted points."""
        marginal = self._shares.sum(dim=1)
        row, offset = _invert(marginal.expand(len(uniform), -1), uniform[:, 0])
        coordinates, column = [offset], torch.zeros_like(row)
        if uniform.shape[1] > 1:
            column, offset = _invert(self._shares[row] / marginal[row, None], uniform[:, 1])
            coordinates.append(offset)
        low, size = (torch.tensor(v, dtype=uniform.dtype) for v in (self._landscape.low, self._grid.size))
        x = low + size * torch.stack(coordinates, dim=1)
        density = self._shares[row, column] / self._volume
        target = torch.exp(self._ground - self._landscape.beta * self._landscape.energy(x)) / self._partition
        return Points(x, target / density)


def _invert(shares: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the cell of each row's distribution that its uniform number falls in, and the position within the cell."""
    edges = shares.cumsum(dim=1)
    cell = torch.searchsorted(edges, uniform[:, None].contiguous(), right=True)[:, 0].clamp(max=shares.shape[1] - 1)
    chosen = cell[:, None]
    within = 1 - (edges.gather(1, chosen)[:, 0] - uniform) / shares.gather(1, chosen)[:, 0]
    return cell, cell + within.clamp(0, 1)
