from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.data.pairing import InstancePairs
from training.data.pairs import Group, PairedData
from training.fit.contrastive import ContrastiveLoss, Matches

GROUPS = (Group("cat", (0, 1), (0, 1)), Group("dog", (2,), (2,)), Group("cat", (3,), (1,)), Group("cow", (1,), (3,)))
DATA = PairedData(tuple(Path(f"{n}.png") for n in range(4)), tuple(Path(f"{n}.jpg") for n in range(4)), GROUPS)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    f = torch.randn(6, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    g = torch.randn(6, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    return f, g, labels[:, None] == labels


def written_out(f, g, matches, temperature):
    """The formula, sketch by sketch and photo by photo."""
    scores = torch.stack([torch.stack([a @ b / a.norm() / b.norm() / temperature for b in g]) for a in f])
    value = torch.zeros((), dtype=f.dtype)
    for table, weights in ((scores, matches.double()), (scores.T, matches.double().T)):
        for row, weight in zip(table, weights, strict=True):
            row_loss = sum(w * -(s - torch.log(torch.exp(row).sum())) for w, s in zip(weight, row, strict=True))
            value = value + row_loss / weight.sum() / len(table) / 2
    return value


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_loss_is_the_formula_and_so_is_its_gradient(batch, temperature):
    f, g, matches = batch
    actual, expected = ContrastiveLoss(temperature)(f, g, matches), written_out(f, g, matches, temperature)
    torch.testing.assert_close(actual, expected)
    gradients = [torch.autograd.grad(value, (f, g)) for value in (actual, expected)]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(lambda *pair: ContrastiveLoss(temperature)(*pair, matches), (f, g))


def test_matches_may_be_weighed_and_sides_may_differ_in_number(batch):
    f, g, _ = batch
    weights = torch.rand(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(ContrastiveLoss(0.2)(f, g[:4], weights), written_out(f, g[:4], weights, 0.2))


def test_lengths_of_embeddings_do_not_count(batch):
    f, g, matches = batch
    torch.testing.assert_close(ContrastiveLoss()(f, g, matches), ContrastiveLoss()(3 * f, 0.1 * g, matches))


def test_two_photos_of_a_class_are_not_told_apart():
    """At the optimum a sketch is as near to all photos of its class, which NestedLoRA's class means say, too."""
    f = torch.eye(2, dtype=torch.float64).repeat_interleave(2, dim=0)
    labels = torch.tensor([0, 0, 1, 1])
    loss = ContrastiveLoss(0.05)
    matches = labels[:, None] == labels
    best = loss(f, f, matches)
    assert float(best) == pytest.approx(float(torch.tensor(2.0).log()), abs=1e-6)  # one of two, with even odds
    assert loss(f, f[[2, 3, 0, 1]], matches) > best + 1


@pytest.mark.parametrize(
    ("f", "g", "matches"), [((3, 4), (3, 5), (3, 3)), ((3, 4), (2, 4), (3, 3)), ((4,), (4,), (4, 4))]
)
def test_wrong_shapes_are_refused(f, g, matches):
    with pytest.raises(ValueError, match="must be"):
        ContrastiveLoss()(torch.ones(f), torch.ones(g), torch.ones(matches))


@pytest.mark.parametrize("matches", [torch.tensor([[1, 1], [0, 0]]), torch.tensor([[1, 0], [1, 0]])])
def test_a_sketch_or_photo_without_match_is_refused(matches):
    with pytest.raises(ValueError, match="needs a match"):
        ContrastiveLoss()(torch.ones(2, 3), torch.ones(2, 3), matches)


def test_matches_are_the_pairs_of_a_class_whatever_the_groups():
    matches = Matches(DATA, depicted=0)
    everything = matches(torch.arange(4), torch.arange(4))
    assert everything.tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 1],  # in two classes
        [0, 0, 1, 0],
        [1, 1, 0, 0],  # photo 0 is in another group of its class
    ]
    some = matches(torch.tensor([3, 2]), torch.tensor([2, 0, 0]))
    assert some.tolist() == [[0, 1, 1], [1, 0, 0]]


def test_the_photo_that_a_sketch_depicts_matches_more():
    """Named for sketch 0; the only one of their group for sketches 1 to 3."""
    named = replace(DATA, instances=InstancePairs({DATA.sketches[0]: DATA.photos[1]}, "by name"))
    everything = Matches(named, depicted=0.5)(torch.arange(4), torch.arange(4))
    assert everything.tolist() == [[1, 1.5, 0, 0], [1, 1, 0, 1.5], [0, 0, 1.5, 0], [1, 1.5, 0, 0]]
