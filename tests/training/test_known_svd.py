"""The objective recovers the SVD of an operator whose answer is known: a discrete p(x, y) of 20 x 30 states."""

import numpy as np
import pytest
import torch
from torch import nn

from training.fit.losses import Nesting, low_rank_objective, nesting_weights, second_moment, with_constant_mode
from training.model.canonical import canonical_form

MODES = 4


@pytest.fixture(scope="module")
def joint():
    """p(x, y) with distinct singular values 0.9, 0.7, 0.5, 0.35, 0.2."""
    random = np.random.default_rng(3)
    p_x, p_y = random.dirichlet(np.full(20, 20.0)), random.dirichlet(np.full(30, 20.0))
    left = np.linalg.qr(np.column_stack([np.sqrt(p_x), random.normal(size=(20, 5))]))[0][:, 1:]
    right = np.linalg.qr(np.column_stack([np.sqrt(p_y), random.normal(size=(30, 5))]))[0][:, 1:]
    values = np.array([0.9, 0.7, 0.5, 0.35, 0.2])
    kernel = 1 + (left / np.sqrt(p_x)[:, None] * values) @ (right / np.sqrt(p_y)[:, None]).T
    scale = min(1.0, 0.95 / (1 - kernel.min()))  # keeps every probability positive
    joint = np.outer(p_x, p_y) * (1 + scale * (kernel - 1))
    assert joint.min() > 0
    return torch.from_numpy(joint)


def reference(joint):
    p_x, p_y = joint.sum(1), joint.sum(0)
    operator = joint / torch.sqrt(p_x[:, None] * p_y[None]) - torch.sqrt(p_x[:, None] * p_y[None])
    left, values, right = torch.linalg.svd(operator)
    return left[:, :MODES] / p_x.sqrt()[:, None], values[:MODES], right[:MODES].T / p_y.sqrt()[:, None]


def learn(joint, nesting):
    torch.manual_seed(0)
    p_x, p_y = joint.sum(1), joint.sum(0)
    f = nn.Parameter(0.3 * torch.randn(20, MODES, dtype=torch.float64))
    g = nn.Parameter(0.3 * torch.randn(30, MODES, dtype=torch.float64))
    weights = with_constant_mode(nesting_weights(MODES, nesting))
    weights = type(weights)(*(part.double() for part in weights))
    optimizer = torch.optim.Adam([f, g], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4000)
    for _ in range(4000):
        # Rows weighted by the square root of their probability make plain means into expectations.
        wide_f = torch.cat([torch.ones(20, 1, dtype=torch.float64), f], 1)
        wide_g = torch.cat([torch.ones(30, 1, dtype=torch.float64), g], 1)
        cross = torch.einsum("xi,xy,yi->i", wide_f, joint, wide_g)
        moments = [
            second_moment(table * (len(p) * p).sqrt()[:, None], nesting) for table, p in ((wide_f, p_x), (wide_g, p_y))
        ]
        optimizer.zero_grad()
        low_rank_objective(cross, *moments, weights).backward()
        optimizer.step()
        schedule.step()
    return f.detach(), g.detach()


def angles(learned, exact, probabilities):
    inner = (learned * exact * probabilities[:, None]).sum(0).abs()
    lengths = (learned**2 * probabilities[:, None]).sum(0).sqrt()
    return torch.rad2deg(torch.arccos((inner / lengths).clamp(max=1)))


@pytest.mark.parametrize("nesting", [Nesting.JOINT, Nesting.SEQUENTIAL])
def test_nesting_recovers_the_svd_in_order(joint, nesting):
    f, g = learn(joint, nesting)
    left, values, right = reference(joint)
    p_x, p_y = joint.sum(1), joint.sum(0)
    learned = ((f**2 * p_x[:, None]).sum(0) * (g**2 * p_y[:, None]).sum(0)).sqrt()
    torch.testing.assert_close(learned, values, rtol=0.01, atol=0)
    assert angles(f, left, p_x).max() < 2
    assert angles(g, right, p_y).max() < 2


def test_canonical_form_orders_what_was_learned_without_nesting(joint):
    f, g = learn(joint, Nesting.NONE)
    left, values, right = reference(joint)
    p_x, p_y = joint.sum(1), joint.sum(0)
    assert angles(f, left, p_x).max() > 10
    moments = [((table * p[:, None]).T @ table).numpy() for table, p in ((f, p_x), (g, p_y))]
    form = canonical_form(*moments)
    np.testing.assert_allclose(form.spectrum, values, rtol=0.01)
    assert angles(f @ torch.from_numpy(form.transform_f).T, left, p_x).max() < 2
    assert angles(g @ torch.from_numpy(form.transform_g).T, right, p_y).max() < 2
