import numpy as np
import pytest


@pytest.fixture
def refine(benchmark):
    benchmark("feedback")
    from measurements.feedback import refine

    return refine


def in_two_groups(per_group=30, seed=0):
    """Photos around two directions; a sketch between them, and which photos are of the first group."""
    rng = np.random.default_rng(seed)
    centres = np.repeat([[1, 0, 0, 0], [0, 1, 0, 0]], per_group, axis=0)
    photos = centres + 0.3 * rng.standard_normal(centres.shape)
    return np.array([1, 1.05, 0, 0], np.float32), photos.astype(np.float32), np.arange(2 * per_group) < per_group


def test_a_user_who_marks_nothing_sees_the_same_ranking(refine):
    values = refine(*in_two_groups(), likes=False, dislikes=False)
    assert values.shape == (3, 2)
    assert (values == values[0]).all()


@pytest.mark.parametrize(("likes", "dislikes"), [(True, False), (False, True), (True, True)])
def test_marks_turn_the_ranking_to_what_is_sought(refine, likes, dislikes):
    values = refine(*in_two_groups(), likes=likes, dislikes=dislikes)
    assert values[0, 0] < values[1, 0] <= 1
    assert values[1, 1] > values[0, 1]


def test_what_was_marked_counts_in_no_round(refine):
    """Else a photo that was marked, and so found for sure, would make the later rankings better."""
    sketch, photos, relevant = np.array([1, 0], np.float32), np.eye(2, dtype=np.float32).repeat(12, axis=0), None
    photos[:12] += np.linspace(0, 0.01, 12, dtype=np.float32)[:, None]
    relevant = np.zeros(24, np.bool_)
    relevant[11] = True  # the best photo is the only one sought; once it is marked, nothing is left to find
    assert (refine(sketch, photos, relevant, likes=True, dislikes=False) == 0).all()
    assert (refine(sketch, photos, relevant, likes=False, dislikes=False)[:, 0] == 1).all()
