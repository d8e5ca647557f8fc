import itertools

import numpy as np
import pytest
import torch

from training.fit.losses import (
    NestedLoRALoss,
    Nesting,
    SelfAdjointLoss,
    class_means,
    low_rank_objective,
    nesting_weights,
    second_moment,
    with_constant_mode,
)


def low_rank(f, g):
    """The formula for one rank, written out."""
    modes = range(f.shape[1])
    value = -2 * sum((f[:, i] * g[:, i]).mean() for i in modes)
    return value + sum((f[:, i] * f[:, j]).mean() * (g[:, i] * g[:, j]).mean() for i in modes for j in modes)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    f = torch.randn(40, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    g = torch.randn(40, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    return f, g


def gradients(value, pair):
    return torch.autograd.grad(value, pair)


def test_unnested_loss_is_the_formula(pair):
    loss = NestedLoRALoss(5, Nesting.NONE, constant_mode=False)
    torch.testing.assert_close(loss(*pair), low_rank(*pair))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_joint_loss_is_the_mean_over_nested_ranks(pair, step):
    f, g = pair
    ranks = sorted({*range(step, 6, step), 5})
    expected = sum(low_rank(f[:, :rank], g[:, :rank]) for rank in ranks) / len(ranks)
    actual = NestedLoRALoss(5, Nesting.JOINT, step=step, constant_mode=False)(f, g)
    torch.testing.assert_close(actual, expected)
    for ours, reference in zip(gradients(actual, pair), gradients(expected, pair), strict=True):
        torch.testing.assert_close(ours, reference)


def test_sequential_gradient_is_that_of_each_mode_with_lower_modes_fixed(pair):
    f, g = pair
    actual = NestedLoRALoss(5, Nesting.SEQUENTIAL, constant_mode=False)(f, g)
    torch.testing.assert_close(actual, low_rank(f, g))
    expected_f, expected_g = torch.zeros_like(f), torch.zeros_like(g)
    for mode in range(5):
        each_f, each_g = gradients(low_rank(f[:, : mode + 1], g[:, : mode + 1]), pair)
        expected_f[:, mode], expected_g[:, mode] = each_f[:, mode], each_g[:, mode]
    actual_f, actual_g = gradients(actual, pair)
    torch.testing.assert_close(actual_f, expected_f)
    torch.testing.assert_close(actual_g, expected_g)
    assert not torch.allclose(actual_f, gradients(low_rank(f, g), pair)[0])


@pytest.mark.parametrize("nesting", list(Nesting))
def test_constant_mode_is_a_known_first_function(pair, nesting):
    f, g = pair
    ones = torch.ones(40, 1, dtype=torch.float64)
    actual = NestedLoRALoss(5, nesting)(f, g)
    weights = with_constant_mode(nesting_weights(5, nesting))
    weights = type(weights)(*(part.double() for part in weights))
    wide_f, wide_g = torch.cat([ones, f], 1), torch.cat([ones, g], 1)
    expected = low_rank_objective(
        (wide_f * wide_g).mean(0),
        second_moment(wide_f),
        second_moment(wide_g),
        type(weights)(*(w.double() for w in weights)),
    )
    torch.testing.assert_close(actual, expected)


def test_constant_mode_penalises_a_mean():
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(100, 3, generator=generator)
    f -= f.mean(0)
    loss = NestedLoRALoss(3)
    assert loss(f + 1, f + 1) > loss(f, f)


def test_labels_use_every_pair_of_a_class(pair):
    f, g = pair
    labels = torch.arange(40) % 4
    expected = torch.zeros((), dtype=torch.float64)
    for label in range(4):
        rows = labels == label
        every_pair = (f[rows][:, None] * g[rows][None]).mean(dim=(0, 1)).sum()
        expected = expected - 2 * every_pair / 4
    expected = expected + (second_moment(f) * second_moment(g)).sum()
    torch.testing.assert_close(NestedLoRALoss(5, Nesting.NONE, constant_mode=False)(f, g, labels), expected)


def test_class_means():
    values = torch.tensor([[1.0], [3.0], [10.0]])
    torch.testing.assert_close(class_means(values, torch.tensor([7, 7, 2])), torch.tensor([[10.0], [2.0]]))


def test_loss_is_symmetric_in_its_arguments(pair):
    loss = NestedLoRALoss(5)
    torch.testing.assert_close(loss(*pair), loss(*reversed(pair)))


@pytest.mark.parametrize("shape", [(40, 4), (39, 5), (40,)])
def test_wrong_shapes_are_refused(pair, shape):
    with pytest.raises(ValueError, match="must both be"):
        NestedLoRALoss(5)(pair[0], torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize(("dim", "step"), [(0, 1), (3, 0)])
def test_weights_need_positive_sizes(dim, step):
    with pytest.raises(ValueError, match="positive"):
        nesting_weights(dim, step=step)


@pytest.mark.parametrize("nesting", list(Nesting))
@pytest.mark.parametrize("constant_mode", [False, True])
def test_self_adjoint_loss_of_equal_halves_is_the_paired_loss_of_equal_functions(pair, nesting, constant_mode):
    f = pair[0]
    expected = NestedLoRALoss(5, nesting, constant_mode=constant_mode)(f, f)
    rows = torch.cat([torch.ones(40, 1, dtype=torch.float64), f], 1) if constant_mode else f
    actual = SelfAdjointLoss(5, nesting, constant_mode=constant_mode)((rows**2).mean(0), rows, rows)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(torch.autograd.grad(actual, f), torch.autograd.grad(expected, f))


def test_self_adjoint_loss_is_unbiased_over_independent_halves():
    """The same batch twice overestimates the square of an expectation; independent halves do not."""
    generator = torch.Generator().manual_seed(0)
    loss = SelfAdjointLoss(2, Nesting.NONE, constant_mode=False)
    batches = torch.randn(3000, 2, 8, 2, generator=generator)
    none = torch.zeros(2)
    independent = torch.stack([loss(none, first, second) for first, second in batches])
    assert abs(independent.mean() - 2) < 4 * independent.std() / 3000**0.5
    assert torch.stack([loss(none, first, first) for first, _ in batches]).mean() > 2.5


@pytest.mark.parametrize("shapes", [((4,), (9, 5), (9, 5)), ((5,), (9, 4), (9, 5)), ((5,), (9, 5), (9, 6))])
def test_self_adjoint_loss_refuses_wrong_shapes(shapes):
    with pytest.raises(ValueError, match="must be"):
        SelfAdjointLoss(5, constant_mode=False)(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("labels", [[0, 1, 0], (0, 1, 0), np.array([0, 1, 0])], ids=["list", "tuple", "array"])
@pytest.mark.parametrize("use", [class_means, lambda f, labels: NestedLoRALoss(2)(f, f, labels)], ids=["means", "loss"])
def test_labels_that_are_no_tensor_are_refused_with_the_remedy(labels, use):
    with pytest.raises(TypeError, match=r"labels must be a tensor of integers, not \w+; use torch\.as_tensor"):
        use(torch.zeros(3, 2), labels)


@pytest.mark.parametrize("labels", [torch.zeros(2, dtype=int), torch.zeros(3, 1, dtype=int), torch.zeros(3)])
def test_labels_need_one_integer_for_each_row(labels):
    with pytest.raises(ValueError, match=r"labels must be \(3,\) integers, not \(.*\) of \w+"):
        NestedLoRALoss(2)(torch.zeros(3, 2), torch.zeros(3, 2), labels)


@pytest.mark.parametrize("nesting", list(Nesting))
@pytest.mark.parametrize("labels", [None, torch.arange(40) % 7])
def test_autocast_does_not_change_the_loss_or_its_gradient(pair, nesting, labels):
    f, g = (z.detach().float().requires_grad_() for z in pair)
    loss = NestedLoRALoss(5, nesting)
    expected = loss(f, g, labels)
    with torch.autocast("cpu", torch.bfloat16):
        actual = loss(f, g, labels)
    assert actual.dtype == torch.float32
    for ours, reference in zip(
        (actual, *gradients(actual, (f, g))), (expected, *gradients(expected, (f, g))), strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=0, atol=0)


def test_half_precision_embeddings_do_not_overflow():
    f = torch.full((8, 3), 300.0, dtype=torch.float16)  # whose squares half precision cannot hold
    assert NestedLoRALoss(3)(f, f) == NestedLoRALoss(3)(f.float(), f.float())
    assert SelfAdjointLoss(3, constant_mode=False)(f[0], f, f) == SelfAdjointLoss(3, constant_mode=False)(
        f[0].float(), f.float(), f.float()
    )


def test_autocast_does_not_change_the_self_adjoint_loss(pair):
    f, g = (z.detach().float() for z in pair)
    loss = SelfAdjointLoss(5, constant_mode=False)
    expected = loss((f * g).mean(dim=0), f, g)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss((f * g).mean(dim=0), f, g) == expected


@pytest.mark.parametrize("size", [1, 2, 3])
def test_second_term_is_biased_as_documented(pair, size):
    f, g = (z.detach()[:4] for z in pair)  # four pairs, equally likely: every batch can be tried
    loss = NestedLoRALoss(5, Nesting.NONE, constant_mode=False)
    batches = [list(rows) for rows in itertools.product(range(4), repeat=size)]
    found = torch.stack([loss(f[rows], g[rows]) for rows in batches]).mean()
    unbiased = ((f.T @ f / 4) * (g.T @ g / 4)).sum()
    own = torch.einsum("ni,nj,ni,nj->", f, f, g, g) / 4
    torch.testing.assert_close(found, -2 * (f * g).mean(0).sum() + (1 - 1 / size) * unbiased + own / size)
