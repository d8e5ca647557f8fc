import pytest
import torch

from training.fit.losses import Nesting
from training.operators.jets import Jet
from training.operators.objectives import Method, NestedLoRA, NeuralEigenfunctions, SpIN, build_objective
from training.operators.problem import Forms, QuadraticForm

MODES, POINTS = 4, 400


class Diagonal:
    """T multiplies every function by t(x): eigenfunctions are the points themselves. Enough of a problem."""

    modes = MODES
    dimensions = 1
    constant_mode = False


@pytest.fixture
def forms():
    """Points that stand for eigenfunctions: 1, 2, 3, ... with eigenvalues 1, 1/2, 1/3, ..."""
    operator = 1 / torch.arange(1, POINTS // 2 + 1, dtype=torch.float64).repeat(2)
    ones = torch.ones(POINTS, dtype=torch.float64)
    return Forms(QuadraticForm(operator, None), QuadraticForm(ones, None))


def exact():
    """Modes at the points, the same in both halves of the batch; orthonormal."""
    modes = torch.eye(POINTS // 2, MODES, dtype=torch.float64).repeat(2, 1) * (POINTS / 2) ** 0.5
    return modes


def random(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(POINTS, MODES, dtype=torch.float64, generator=generator)


def as_jet(value):
    return Jet(value, value.new_zeros(1, *value.shape))


def gradient(objective, value, forms):
    leaf = value.clone().requires_grad_()
    return torch.autograd.grad(objective(as_jet(leaf), forms), leaf)[0]


@pytest.mark.parametrize("nesting", list(Nesting))
def test_nested_lora_rests_at_the_exact_modes_only(forms, nesting):
    scaled = exact() * torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).rsqrt()
    objective = NestedLoRA(Diagonal(), nesting)
    assert gradient(objective, scaled, forms).abs().max() < 1e-12
    assert gradient(objective, exact(), forms).abs().max() > 1e-3
    turned = scaled.clone()
    turned[:, :2] = scaled[:, :2] @ torch.tensor([[0.8, 0.6], [-0.6, 0.8]], dtype=torch.float64)
    moves = gradient(objective, turned, forms).abs().max()
    assert (moves < 1e-9) == (nesting is Nesting.NONE)


def test_nested_lora_multiplies_independent_halves(forms):
    """With second halves swapped for zeros the quadratic term is zero, whatever the first halves are."""
    value = random()
    value[POINTS // 2 :] = 0
    expected = -2 * (value[: POINTS // 2] ** 2 * forms.operator.value[: POINTS // 2, None]).sum() / POINTS
    torch.testing.assert_close(NestedLoRA(Diagonal(), Nesting.NONE)(as_jet(value), forms), expected)


def eigenvalue(value, mode, forms):
    """A_ii of SpIN, written out: outputs up to the mode, made orthonormal."""
    metric, operator = (form.matrix(as_jet(value), as_jet(value)) for form in (forms.metric, forms.operator))
    inverse = torch.linalg.inv(torch.linalg.cholesky(metric))
    return (inverse @ operator @ inverse.T)[mode, mode]


def test_spin_follows_each_eigenvalue_with_lower_outputs_fixed(forms):
    value = random()
    objective = SpIN(MODES).double()
    actual = gradient(objective, value, forms)
    for mode in range(MODES):
        leaf = value.clone().requires_grad_()
        expected = torch.autograd.grad(-eigenvalue(leaf, mode, forms), leaf)[0][:, mode]
        torch.testing.assert_close(actual[:, mode], expected, rtol=1e-4, atol=1e-8)


def test_spin_values_are_minus_the_sum_of_eigenvalues(forms):
    value = SpIN(MODES).double()(as_jet(exact()), forms)
    assert value.item() == pytest.approx(-(1 + 1 / 2 + 1 / 3 + 1 / 4), rel=1e-4)


def test_spin_averages_its_metric(forms):
    objective = SpIN(MODES, decay=0.5).double()
    for factor in (1.0, 3.0, 2.0):
        objective(as_jet(exact() * factor), forms)
    torch.testing.assert_close(objective.average, 4.5 * torch.eye(MODES, dtype=torch.float64))


def test_spin_reads_orthonormal_modes_out(forms):
    metric = random().T @ random()
    inverse = SpIN(MODES).read_out(metric)
    torch.testing.assert_close(inverse @ metric @ inverse.T, torch.eye(MODES, dtype=torch.float64))


def test_neural_ef_follows_its_formula_with_lower_modes_fixed(forms):
    value = random()
    actual = gradient(NeuralEigenfunctions(), value, forms)

    def aim(fixed, mode_values, mode):
        both = torch.cat([fixed[:, :mode], mode_values[:, None]], dim=1)
        both = both * (both**2).mean(dim=0).rsqrt()
        products = both.T @ (both * forms.operator.value[:, None]) / POINTS
        return products[mode, mode] - sum(products[mode, j] ** 2 / products[j, j].detach() for j in range(mode))

    for mode in range(MODES):
        leaf = value[:, mode].clone().requires_grad_()
        torch.testing.assert_close(actual[:, mode], torch.autograd.grad(-aim(value, leaf, mode), leaf)[0])


def test_baselines_rest_at_the_exact_modes(forms):
    for objective in (SpIN(MODES).double(), NeuralEigenfunctions()):
        assert gradient(objective, exact(), forms).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("method", "kind"),
    [(Method.NESTED_LORA, NestedLoRA), (Method.SPIN, SpIN), (Method.NEURAL_EF, NeuralEigenfunctions)],
)
def test_methods_by_name(method, kind):
    assert isinstance(build_objective(method, Diagonal(), Nesting.SEQUENTIAL), kind)
