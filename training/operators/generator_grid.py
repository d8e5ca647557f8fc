"""The spectrum of overdamped Langevin dynamics on a fine grid, by SciPy, as a reference for the networks."""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import eigsh

from training.operators.potentials import Landscape
from training.operators.problem import Array

__all__ = ["Grid", "GridModes", "cell_centres", "generator_modes"]


class Grid(NamedTuple):
    """The cells of a box.

    Attributes:
        shape: number of cells along each axis.
        size: size of a cell along each axis.
        centres: centres of the cells, ``(cells, dimensions)``; the last axis runs fastest.
    """

    shape: tuple[int, ...]
    size: tuple[float, ...]
    centres: Array


class GridModes(NamedTuple):
    """The slowest modes of the generator, without the constant one.

    Attributes:
        rates: ``(modes,)``, the negated eigenvalues, ascending.
        functions: values of the modes, ``(cells, modes)``, orthonormal under ``probability``.
        probability: probability of each cell, ``(cells,)``, proportional to exp(-beta U).
    """

    rates: Array
    functions: Array
    probability: Array


def cell_centres(landscape: Landscape, cells: int) -> Grid:
    """Divides the landscape's box into ``cells`` cells along every axis."""
    size = tuple((high - low) / cells for low, high in zip(landscape.low, landscape.high, strict=True))
    axes = [low + step * (np.arange(cells) + 0.5) for low, step in zip(landscape.low, size, strict=True)]
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(size))
    return Grid((cells,) * len(size), size, centres)


def generator_modes(landscape: Landscape, grid: Grid, modes: int) -> GridModes:
    """Computes the modes by finite volumes with reflecting walls, of second order in the size of a cell.

    The flux between neighbouring cells is proportional to exp(-beta U) at their common face. Scaled by the square root
    of the probability, the generator is a symmetric sparse matrix. Shift-and-invert finds its smallest eigenvalues.
    """
    energy = landscape.beta * _energy(landscape, grid.centres)
    index = np.arange(len(energy)).reshape(grid.shape)
    matrix = sparse.csr_matrix((len(energy), len(energy)))
    for axis, size in enumerate(grid.size):
        left = np.delete(index, -1, axis=axis).ravel()
        right = np.delete(index, 0, axis=axis).ravel()
        face = landscape.beta * _energy(landscape, (grid.centres[left] + grid.centres[right]) / 2)
        scale = 1 / (landscape.beta * size**2)
        for i, j in itertools.product((left, right), repeat=2):
            sign = 1 if i is j else -1
            entries = sign * scale * np.exp((energy[i] + energy[j]) / 2 - face)
            matrix = matrix + sparse.csr_matrix((entries, (i, j)), shape=matrix.shape)
    shift = -0.1 / landscape.timescale  # below the spectrum, so that the factorised matrix is definite
    start = np.random.default_rng(0).standard_normal(len(energy))  # always the same, so that runs are reproducible
    rates, vectors = eigsh(matrix.tocsc(), k=modes + 1, sigma=shift, v0=start)
    order = np.argsort(rates)[1:]
    weight = np.exp(energy.min() - energy)
    probability = weight / weight.sum()
    return GridModes(rates[order], vectors[:, order] / np.sqrt(probability)[:, None], probability)


def _energy(landscape: Landscape, x: Array) -> Array:
    energy: Array = landscape.energy(torch.from_numpy(x)).numpy()
    return energy
