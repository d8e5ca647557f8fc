import numpy as np
import pytest
import torch

from training.operators.generator_grid import cell_centres, generator_modes
from training.operators.langevin import Langevin
from training.operators.lattice import shifted_lattice
from training.operators.potentials import LANDSCAPES, Landscape, Potential

HARMONIC = Landscape(lambda x: (x**2).sum(dim=1) / 2, (-7.0,), (7.0,), beta=1.0, timescale=1.0)
PLANE = Landscape(
    lambda x: x[:, 0] ** 2 / 2 + 1.5 * x[:, 1] ** 2 / 2, (-6.0, -5.0), (6.0, 5.0), beta=1.0, timescale=1.0
)


def test_a_harmonic_well_has_the_integers_and_hermite_polynomials():
    grid = cell_centres(HARMONIC, 1000)
    modes = generator_modes(HARMONIC, grid, 3)
    np.testing.assert_allclose(modes.rates, [1, 2, 3], rtol=1e-3)
    x = grid.centres[:, 0]
    for mode, hermite in enumerate((x, (x**2 - 1) / np.sqrt(2))):
        assert abs((modes.functions[:, mode] * hermite) @ modes.probability) == pytest.approx(1, abs=1e-4)


def test_a_plane_well_has_sums_of_rates():
    modes = generator_modes(PLANE, cell_centres(PLANE, 100), 4)
    np.testing.assert_allclose(modes.rates, [1, 1.5, 2, 2.5], rtol=1e-2)


def test_grid_modes_are_orthonormal_and_centred():
    modes = generator_modes(PLANE, cell_centres(PLANE, 60), 4)
    weighted = modes.functions * modes.probability[:, None]
    np.testing.assert_allclose(weighted.T @ modes.functions, np.eye(4), atol=1e-8)
    np.testing.assert_allclose(weighted.sum(axis=0), 0, atol=1e-8)


@pytest.mark.parametrize("potential", list(Potential))
def test_samples_integrate_the_stationary_density(potential):
    problem = Langevin(potential, 2, cells=100)
    points = problem.sample(shifted_lattice(4000, problem.dimensions, torch.Generator().manual_seed(0)))
    reference = problem.reference().points
    assert points.weight.mean() == pytest.approx(1, abs=0.01)
    expected = (reference.weight[:, None] * reference.x).mean(dim=0)
    torch.testing.assert_close((points.weight[:, None] * points.x).mean(dim=0), expected, atol=0.02, rtol=0.01)


def test_the_box_holds_the_dynamics():
    for landscape in LANDSCAPES.values():
        grid = cell_centres(landscape, 120)
        probability = generator_modes(landscape, grid, 1).probability.reshape(grid.shape)
        for axis in range(len(grid.shape)):
            for wall in (0, -1):
                assert np.take(probability, wall, axis=axis).sum() < 1e-4


def test_resolvent_and_generator_have_the_same_modes():
    problem = Langevin(Potential.DOUBLE_WELL, 3)
    rates = np.array([0.1, 1.0, 10.0])
    np.testing.assert_allclose(problem.eigenvalues(1 / (1 + problem.landscape.timescale * rates)), -rates)


def test_the_reference_tells_its_own_error():
    reference = Langevin(Potential.DOUBLE_WELL, 3, cells=64).reference()
    better = Langevin(Potential.DOUBLE_WELL, 3, cells=512).reference()
    error = np.abs(reference.eigenvalues / better.eigenvalues - 1).max()
    assert error == pytest.approx(reference.error, rel=0.3)
    assert better.error < 2e-5
