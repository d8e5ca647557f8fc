import math

import numpy as np
import pytest
import torch

from training.operators.hydrogen import Hydrogen, exact_states
from training.operators.jets import Jet
from training.operators.lattice import shifted_lattice
from training.operators.problem import Points

ENERGIES = [-1 / (2 * n + 1) ** 2 for n in range(4) for _ in range(2 * n + 1)]


@pytest.fixture(scope="module")
def reference():
    return Hydrogen().reference()


def inner(reference, left, right):
    return (left * reference.points.weight.numpy()[:, None]).T @ right / len(left)


def test_there_are_sixteen_states_on_four_levels(reference):
    np.testing.assert_allclose(reference.eigenvalues, ENERGIES)
    assert [level.stop - level.start for level in reference.levels] == [1, 3, 5, 7]
    for level in reference.levels:
        assert len(set(reference.eigenvalues[level])) == 1


def test_exact_states_are_orthonormal(reference):
    overlap = inner(reference, reference.functions, reference.functions)
    np.testing.assert_allclose(overlap, np.eye(16), atol=1e-8)


def test_exact_states_solve_the_equation():
    """-laplacian f - f/r = E f, the Laplacian by central differences of the closed form."""
    x = np.random.default_rng(0).uniform(0.5, 8, size=(50, 2))
    step = 1e-3
    shifts = [np.array(s) * step for s in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    laplacian = (sum(exact_states(x + shift, 4) for shift in shifts) - 4 * exact_states(x, 4)) / step**2
    f = exact_states(x, 4)
    radius = np.hypot(*x.T)[:, None]
    np.testing.assert_allclose(-laplacian - f / radius, f * np.array(ENERGIES), atol=1e-6)


def test_the_ground_state_is_the_known_exponential():
    x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    expected = np.exp(-np.array([0.0, 1.0, 2.0])) * math.sqrt(2 / math.pi)
    np.testing.assert_allclose(exact_states(x, 1)[:, 0], expected)


def test_samples_integrate_known_functions():
    problem = Hydrogen()
    points = problem.sample(shifted_lattice(20_000, 2, torch.Generator().manual_seed(0)))
    radius = points.x.norm(dim=1)
    for length in (0.5, 3.0, 7.0):
        density = torch.exp(-2 * radius / length) * 2 / math.pi / length**2
        assert (points.weight * density).mean() == pytest.approx(1, abs=2e-3)
        assert (points.weight * density / radius).mean() == pytest.approx(2 / length, rel=5e-3)


def test_the_envelope_bounds_importance_weights():
    problem = Hydrogen()
    points = problem.sample(shifted_lattice(5000, 2, torch.Generator().manual_seed(0)))
    weight = points.weight * problem.envelope(points.x) ** 2
    assert weight.max() <= 1
    assert (weight / points.x.norm(dim=1)).max() <= 1


def test_forms_have_the_energies_of_exact_states(reference):
    """Gradients by central differences; the form without second derivatives must give <f, T f> = -E."""
    x, step = reference.points.x.numpy(), 1e-5
    value = exact_states(x, 4)
    gradient = np.stack(
        [
            (exact_states(x + shift, 4) - exact_states(x - shift, 4)) / (2 * step)
            for shift in (np.array([step, 0]), np.array([0, step]))
        ]
    )
    jet = Jet(torch.from_numpy(value), torch.from_numpy(gradient))
    forms = Hydrogen().forms(Points(reference.points.x, reference.points.weight))
    np.testing.assert_allclose(forms.operator.matrix(jet, jet).numpy(), np.diag(-np.array(ENERGIES)), atol=2e-5)
    np.testing.assert_allclose(forms.metric.matrix(jet, jet).numpy(), np.eye(16), atol=1e-8)
