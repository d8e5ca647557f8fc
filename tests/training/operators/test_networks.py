import pytest
import torch

from training.operators.hydrogen import Hydrogen
from training.operators.jets import jet, laplacian
from training.operators.networks import ModeFunctions

PROBLEM = Hydrogen(shells=2)
X = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4


def build(*, shared, seed=0):
    return ModeFunctions(PROBLEM, shared=shared, width=8, depth=2, fourier=4, seed=seed).double()


@pytest.mark.parametrize("shared", [False, True])
def test_one_value_for_each_point_and_mode(shared):
    assert build(shared=shared)(X).shape == (50, 4)


def test_a_network_each_mode_shares_nothing():
    functions = build(shared=False)
    functions(X)[:, 1].sum().backward()
    for parameter in functions.parameters():
        assert parameter.grad is not None
        assert (parameter.grad[[0, 2, 3]] == 0).all()
    assert functions.weights[0].grad[1].abs().max() > 0


def test_a_shared_network_shares_all_but_the_last_layer():
    functions = build(shared=True)
    functions(X)[:, 1].sum().backward()
    assert functions.weights[0].grad.abs().max() > 0
    assert (functions.weights[-1].grad[0][:, [0, 2, 3]] == 0).all()


def test_parallel_networks_equal_networks_one_by_one():
    functions = build(shared=False)
    features = PROBLEM.features(X)
    waves = features @ functions.frequencies
    for mode in range(4):
        hidden = torch.cat([features, waves.sin(), waves.cos()], dim=1)
        for layer in range(3):
            hidden = hidden @ functions.weights[layer][mode] + functions.biases[layer][mode]
            hidden = torch.tanh(hidden) if layer < 2 else hidden
        expected = hidden[:, 0] * PROBLEM.envelope(X)
        torch.testing.assert_close(functions(X)[:, mode], expected)


def test_seeds_decide_the_parameters():
    first, again, other = (build(shared=False, seed=seed)(X) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first, other)


def test_integration_by_parts_agrees_with_the_exact_laplacian():
    """Over the plane, <f, T f> from first derivatives is <f, laplacian f + f/r> from second ones."""
    functions = build(shared=False)
    points = PROBLEM.reference().points
    values = jet(functions, points.x)
    by_parts = PROBLEM.forms(points).operator.diagonal(values)
    image = laplacian(functions, points.x) + values.value / points.x.norm(dim=1)[:, None]
    torch.testing.assert_close((points.weight[:, None] * values.value * image).mean(dim=0), by_parts, rtol=1e-3, atol=0)
