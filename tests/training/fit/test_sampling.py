"""Draws from p(x, y): in proportion, within groups, and the same whenever a step is asked for."""

from pathlib import Path

import numpy as np
import torch

from training.data.pairs import Group, PairedData
from training.fit.sampling import FeatureBatches, PairSampler

GROUPS = (Group("a", (0, 1), (0,), 1.0), Group("b", (2,), (1, 2, 3), 2.0), Group("c", (0, 3), (3,), 5.0))
DATA = PairedData(tuple(Path(f"{n}.png") for n in range(4)), tuple(Path(f"{n}.jpg") for n in range(4)), GROUPS)


def test_pairs_are_of_one_group_in_proportion_to_its_weight():
    sketches, photos, groups = PairSampler(DATA, 40_000, seed=0).draw(0)
    joint = np.zeros((3, 4, 4))
    np.add.at(joint, (groups, sketches, photos), 1 / len(groups))
    expected = DATA.weights[:, None, None] * np.einsum(
        "gx,gy->gxy", DATA.sketch_incidence().toarray(), DATA.photo_incidence().toarray()
    )
    assert not joint[expected == 0].any()
    np.testing.assert_allclose(joint, expected, atol=0.01)  # four standard deviations


def test_a_draw_depends_on_seed_and_step_alone():
    expected = [PairSampler(DATA, 8, seed=1).draw(step) for step in range(4)]
    sampler = PairSampler(DATA, 8, seed=1)
    for step in (3, 0, 2, 1, 0):
        for part, other in zip(sampler.draw(step), expected[step], strict=True):
            np.testing.assert_array_equal(part, other)
    assert not np.array_equal(expected[0], expected[1])
    assert not np.array_equal(expected[0], PairSampler(DATA, 8, seed=2).draw(0))


def test_batches_of_features_are_the_rows_drawn():
    x, y = torch.arange(4.0)[:, None] * torch.ones(2), torch.arange(4.0)[:, None] * 10 * torch.ones(3)
    sampler = PairSampler(DATA, 16, seed=0)
    batch = FeatureBatches(sampler, x, y)(5)
    sketches, photos, groups = sampler.draw(5)
    assert batch.x.tolist() == [[row] * 2 for row in sketches.tolist()]
    assert batch.y.tolist() == [[row * 10] * 3 for row in photos.tolist()]
    assert batch.labels.tolist() == groups.tolist()
    assert (batch.sketches.tolist(), batch.photos.tolist()) == (sketches.tolist(), photos.tolist())


def test_a_group_of_no_weight_is_never_drawn():
    groups = (Group("a", (0,), (0,), 0.0), Group("b", (1,), (1,), 1.0))
    _, _, drawn = PairSampler(PairedData(DATA.sketches, DATA.photos, groups), 100, seed=0).draw(0)
    assert set(drawn.tolist()) == {1}


def test_pairs_of_a_class_come_together_and_each_pair_is_as_probable_as_ever():
    groups = (*GROUPS, Group("c", (3,), (2,), 4.0))  # two groups of one class
    data = PairedData(DATA.sketches, DATA.photos, groups)
    labels = np.array([0, 1, 2, 2])
    drawn = [PairSampler(data, 12, seed=0, class_pairs=4).draw(step)[2] for step in range(3000)]
    assert all(len(set(part)) == 1 for groups in drawn for part in labels[groups].reshape(3, 4))
    shares = np.bincount(np.concatenate(drawn), minlength=4) / 36_000
    np.testing.assert_allclose(shares, data.weights, atol=0.02)  # four standard deviations
    assert len(PairSampler(data, 7, seed=0, class_pairs=4).draw(0)[2]) == 7


def test_sizes_of_draws():
    assert [len(part) for part in PairSampler(DATA, 7, seed=0).draw(0)] == [7, 7, 7]


def test_groups_are_drawn_as_numpy_draws_them():
    """So that a run that was begun by an earlier version goes on with the same pairs."""
    expected = np.random.default_rng([7, 3]).choice(len(GROUPS), 500, p=DATA.weights)
    assert PairSampler(DATA, 500, seed=7).draw(3)[2].tolist() == expected.tolist()
