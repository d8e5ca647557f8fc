import numpy as np

from training.operators.hydrogen import Hydrogen
from training.operators.lobpcg import solve_hydrogen

ENERGIES = Hydrogen(shells=2).reference().eigenvalues


def test_finer_grids_cost_more_and_err_less():
    coarse, fine = (solve_hydrogen(cells, ENERGIES) for cells in (32, 96))
    assert coarse.converged
    assert fine.converged
    assert fine.unknowns == 9 * coarse.unknowns == 96**2 * 4
    assert fine.largest_error < coarse.largest_error
    assert fine.median_error < 0.5


def test_runs_repeat():
    first, again = (solve_hydrogen(32, ENERGIES) for _ in range(2))
    np.testing.assert_allclose(first.median_error, again.median_error, rtol=1e-6)
