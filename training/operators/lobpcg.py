"""The hydrogen atom by LOBPCG on a plane grid: the cost of accuracy for a method that stores every point."""

import time
import warnings

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import sparse
from scipy.fft import dstn, idstn
from scipy.sparse.linalg import LinearOperator, lobpcg

from training.operators.problem import Array

__all__ = ["GridCost", "solve_hydrogen"]

_REACH = 80.0  # half the side of the box
_TOLERANCE = 1e-5
_ITERATIONS = 300


class GridCost(BaseModel):
    """Accuracy and cost of one grid.

    Attributes:
        cells: number of cells along each axis.
        unknowns: number of values that represent all modes together.
        median_error: median relative error of the eigenvalues.
        largest_error: largest relative error of the eigenvalues.
        cpu_seconds: processor time of all cores, in seconds.
        converged: whether the residuals fell below the tolerance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cells: int
    unknowns: int
    median_error: float
    largest_error: float
    cpu_seconds: float
    converged: bool


def solve_hydrogen(cells: int, energies: Array) -> GridCost:
    """Solves by central differences on a square grid that avoids the origin, with zero outside the box.

    LOBPCG is preconditioned by the exact inverse of -laplacian + 1/10, which sine transforms diagonalise.

    Args:
        cells: number of points along each axis; an even number.
        energies: the exact energies, ``(modes,)``.
    """
    started = time.process_time()
    step = 2 * _REACH / cells
    axis = -_REACH + step * (np.arange(cells) + 0.5)
    second = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(cells, cells)) / step**2
    identity = sparse.eye_array(cells)
    attraction = sparse.diags_array(1 / np.hypot(axis[:, None], axis[None, :]).ravel())
    matrix = (sparse.kron(second, identity) + sparse.kron(identity, second) - attraction).tocsr()
    frequencies = (2 - 2 * np.cos(np.arange(1, cells + 1) * np.pi / (cells + 1))) / step**2
    symbol = (frequencies[:, None] + frequencies[None, :] + 0.1)[..., None]

    def smooth(block: Array) -> Array:
        waves = dstn(block.reshape(cells, cells, -1), type=1, axes=(0, 1))
        smoothed: Array = idstn(waves / symbol, type=1, axes=(0, 1)).reshape(block.shape)
        return smoothed

    inverse = LinearOperator(matrix.shape, matvec=smooth, matmat=smooth, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal((cells**2, len(energies)))
    with warnings.catch_warnings():  # LOBPCG warns if it does not converge; the result reports it
        warnings.simplefilter("ignore", UserWarning)
        values, _, history = lobpcg(
            matrix,
            smooth(start),
            M=inverse,
            largest=False,
            tol=_TOLERANCE,
            maxiter=_ITERATIONS,
            retResidualNormsHistory=True,
        )
    errors = np.abs(np.sort(values) / energies - 1)
    return GridCost(
        cells=cells,
        unknowns=cells**2 * len(energies),
        median_error=float(np.median(errors)),
        largest_error=float(errors.max()),
        cpu_seconds=time.process_time() - started,
        converged=bool(np.max(history[-1]) <= _TOLERANCE),
    )
