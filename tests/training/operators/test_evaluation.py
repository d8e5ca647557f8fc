import numpy as np
import pytest
import torch

from training.fit.losses import Nesting
from training.operators.evaluation import evaluate_modes, mode_values
from training.operators.hydrogen import Hydrogen, exact_states
from training.operators.langevin import Langevin
from training.operators.objectives import Method, build_objective
from training.operators.potentials import Potential

SHELLS = 2


class ExactStates(torch.nn.Module):
    """The closed form of the first states in torch, times a matrix."""

    def __init__(self, combination):
        super().__init__()
        self.combination = torch.as_tensor(combination, dtype=torch.float64)

    def forward(self, x):
        r = (x**2).sum(dim=1).clamp_min(1e-12).sqrt()
        ground = torch.exp(-r) * (2 / torch.pi) ** 0.5
        rho = 2 * r / 3
        tail = torch.exp(-rho / 2)
        radial = (1 - rho) * tail / (torch.pi * 2 * 27 / 4) ** 0.5
        angular = [2 * x[:, axis] / 3 * tail / (torch.pi * 2 * 27 / 4) ** 0.5 for axis in (0, 1)]
        return torch.stack([ground, radial, *angular], dim=1) @ self.combination


@pytest.fixture(scope="module")
def problem():
    return Hydrogen(SHELLS)


@pytest.fixture(scope="module")
def reference(problem):
    return problem.reference()


def evaluate(problem, reference, combination, method=Method.NESTED_LORA):
    objective = build_objective(method, problem, Nesting.SEQUENTIAL)
    return evaluate_modes(problem, ExactStates(combination), objective, reference)


def test_exact_modes_have_no_errors(problem, reference):
    figures = evaluate(problem, reference, np.diag([1.0, 0.3, 2.0, -0.5])).learned
    np.testing.assert_allclose(figures.eigenvalues, [-1, -1 / 9, -1 / 9, -1 / 9], rtol=1e-4)
    assert figures.largest_error < 1e-4
    assert figures.overlap < 1e-6
    assert max(figures.angles) < 0.01
    assert max(figures.subspace_distances) < 1e-3


def test_turning_modes_within_their_level_is_no_error(problem, reference):
    turn = np.eye(4)
    turn[1:, 1:] = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    evaluation = evaluate(problem, reference, turn)
    assert max(evaluation.learned.angles) < 0.01
    assert max(evaluation.learned.subspace_distances) < 1e-3
    np.testing.assert_allclose(evaluation.sign_agreement, 1, atol=1e-3)


def test_mixing_levels_is_an_error_that_rayleigh_ritz_undoes(problem, reference):
    """Modes 0 and 1 turned by 30 degrees into each other."""
    mix = np.eye(4)
    mix[:2, :2] = [[np.cos(np.pi / 6), 0.5], [-0.5, np.cos(np.pi / 6)]]
    evaluation = evaluate(problem, reference, mix)
    figures = evaluation.learned
    np.testing.assert_allclose(figures.angles, [30, 30, 0, 0], atol=0.05)
    np.testing.assert_allclose(figures.subspace_distances, [0.5, 0.5], atol=1e-3)
    expected = -(0.75 + 0.25 / 9), -(0.25 + 0.75 / 9)
    np.testing.assert_allclose(figures.eigenvalues[:2], expected, rtol=1e-3)
    assert figures.overlap < 1e-6
    assert evaluation.ritz.largest_error < 1e-4
    assert max(evaluation.ritz.angles) < 0.05


def test_overlap_is_the_mean_cosine(problem, reference):
    mix = np.eye(4)
    mix[0, 1] = 1.0  # the second output is at 45 degrees to the first
    figures = evaluate(problem, reference, mix).learned
    assert figures.overlap == pytest.approx(2 * np.sqrt(0.5) / 12, abs=1e-4)


def test_spin_reads_modes_out_of_mixed_outputs(problem, reference):
    """Outputs that mix lower modes in are what SpIN learns; its Cholesky factor unmixes them."""
    mix = np.triu(np.random.default_rng(1).normal(size=(4, 4))) + 2 * np.eye(4)
    assert evaluate(problem, reference, mix).learned.largest_error > 0.1
    assert evaluate(problem, reference, mix, Method.SPIN).learned.largest_error < 1e-4


def test_aligned_modes_are_the_exact_ones(problem, reference):
    combination = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    combination[0], combination[:, 0] = [1, 0, 0, 0], [1, 0, 0, 0]
    functions = ExactStates(combination)
    objective = build_objective(Method.NESTED_LORA, problem, Nesting.NONE)
    aligned = evaluate_modes(problem, functions, objective, reference).aligned
    x = np.random.default_rng(2).normal(size=(30, 2)) * 3
    np.testing.assert_allclose(mode_values(problem, functions, aligned, x), exact_states(x, SHELLS), atol=1e-3)


def test_the_constant_mode_is_left_out():
    problem = Langevin(Potential.DOUBLE_WELL, 2, cells=256)
    objective = build_objective(Method.NESTED_LORA, problem, Nesting.SEQUENTIAL)

    class Steps(torch.nn.Module):
        def forward(self, x):
            return torch.cat([torch.tanh(3 * x) + 0.5, x], dim=1)

    evaluation = evaluate_modes(problem, Steps(), objective, problem.reference())
    assert len(evaluation.learned.eigenvalues) == 2
    assert evaluation.aligned.shape == (3, 2)
    assert evaluation.ritz.relative_errors[0] < 0.2  # a step is nearly the slow mode, but for its mean
    assert evaluation.learned.relative_errors[0] > evaluation.ritz.relative_errors[0]
