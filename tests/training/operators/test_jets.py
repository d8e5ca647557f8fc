import torch

from training.operators.jets import Jet, jet, laplacian

X = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5


def known(x):
    """Functions whose derivatives are known: x^2 y, sin(2x) e^y, log r."""
    return torch.stack(
        [x[:, 0] ** 2 * x[:, 1], torch.sin(2 * x[:, 0]) * torch.exp(x[:, 1]), x.norm(dim=1).log()], dim=1
    )


def test_gradients_of_known_functions():
    x, y = X.T
    value, gradient = jet(known, X)
    torch.testing.assert_close(value, known(X))
    radius = x**2 + y**2
    along_x = torch.stack([2 * x * y, 2 * torch.cos(2 * x) * torch.exp(y), x / radius], dim=1)
    along_y = torch.stack([x**2, torch.sin(2 * x) * torch.exp(y), y / radius], dim=1)
    torch.testing.assert_close(gradient, torch.stack([along_x, along_y]))


def test_laplacians_of_known_functions():
    x, y = X.T
    expected = torch.stack([2 * y, -3 * torch.sin(2 * x) * torch.exp(y), torch.zeros_like(x)], dim=1)
    torch.testing.assert_close(laplacian(known, X), expected)


def test_jets_are_differentiable_with_respect_to_parameters():
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    result = jet(lambda x: torch.sin(scale * x), X)
    slope = torch.autograd.grad(result.gradient.sum(), scale)[0]
    torch.testing.assert_close(slope, (torch.cos(1.5 * X) - 1.5 * X * torch.sin(1.5 * X)).sum())


def test_the_constant_stands_first():
    full = jet(known, X).with_constant()
    assert full.value.shape == (20, 4)
    assert (full.value[:, 0] == 1).all()
    assert (full.gradient[..., 0] == 0).all()
    torch.testing.assert_close(full.gradient[..., 1:], jet(known, X).gradient)


def test_parts_and_detached_jets():
    value = torch.rand(6, 2, requires_grad=True)
    whole = Jet(value, value.expand(3, 6, 2))
    part = whole.rows(slice(4, None))
    assert part.value.shape == (2, 2)
    assert part.gradient.shape == (3, 2, 2)
    assert not whole.detach().value.requires_grad
    assert not whole.detach().gradient.requires_grad
