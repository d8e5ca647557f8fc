import numpy as np
import pytest

from index.accelerators.brute_force import compare_all
from index.accelerators.coded import CodedIndex
from index.accelerators.panorama import PanoramaIndex
from index.accelerators.recall import (
    QUERIES,
    RecallPoint,
    calibrate,
    effort_for,
    is_refuted,
    measured_recall,
    probe_queries,
)
from tests.index.conftest import decaying

POINTS = [
    RecallPoint(dimensions=dimensions, effort=effort, recall=recall)
    for dimensions, found in ((4, {1: 0.9, 2: 0.99, 4: 1.0}), (16, {1: 0.7, 3: 0.96}))
    for effort, recall in found.items()
]


def test_the_smallest_effort_that_sufficed_at_both_measured_neighbours():
    assert effort_for(POINTS, 4, 0.9) == 1
    assert effort_for(POINTS, 4, 0.95) == 2
    assert effort_for(POINTS, 16, 0.95) == 3
    assert effort_for(POINTS, 9, 0.95) == 3
    assert effort_for(POINTS, 2, 0.99) == 2


def test_exact_where_nothing_sufficed_or_all_is_wanted():
    assert effort_for(POINTS, 16, 0.99) is None
    assert effort_for(POINTS, 4, 1) is None
    assert effort_for([], 4, 0.5) is None


def test_more_results_than_measured_take_more_effort():
    assert effort_for(POINTS, 16, 0.95, 10) == effort_for(POINTS, 16, 0.95, 1) == 3
    assert effort_for(POINTS, 16, 0.95, 25) == 8


def test_one_miss_refutes_an_exact_search():
    assert is_refuted(1, 1 - 1 / (10 * QUERIES), QUERIES)
    assert not is_refuted(1, 1, QUERIES)


def test_what_is_far_below_the_target_is_refuted_and_what_is_near_it_is_not():
    for target, refuted, kept in ((0.99, 0.95, 0.965), (0.95, 0.88, 0.91), (0.5, 0.36, 0.45), (0.01, 0.0, 0.0)):
        assert is_refuted(target, refuted, QUERIES) == (target > 0.05)
        assert not is_refuted(target, kept, QUERIES)
        assert not is_refuted(target, (1 + target) / 2, QUERIES)
    assert is_refuted(0.01, 0.0, 1000)


@pytest.mark.parametrize("true", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_a_recall_that_meets_its_target_is_refuted_in_one_of_a_thousand_samples_at_most(true):
    """Queries that find all of their 10 best or none of them: the most that such shares can vary."""
    samples = np.random.default_rng(0).binomial(QUERIES, true, 100_000) / QUERIES
    shares, times = np.unique(samples, return_counts=True)
    refuted = np.array([is_refuted(true, share, QUERIES) for share in shares])
    assert times[refuted].sum() / times.sum() <= 0.001


def test_what_is_measured_is_the_share_of_the_best():
    vectors, queries = decaying(500, 12), decaying(20, 12, 1)
    truth = compare_all(queries, [vectors], 10, 12)[0]
    assert measured_recall(PanoramaIndex.build(vectors), queries, truth, 12, None, 500) == 1
    best = compare_all(queries, [vectors], 1, 12)[1][:, 0]
    less = vectors.copy()
    less[best] = 0  # the best of every query is gone, others may be of several queries
    lost = np.isin(compare_all(queries, [vectors], 10, 12)[1], best).mean()
    assert measured_recall(PanoramaIndex.build(less), queries, truth, 12, None, 500) == pytest.approx(1 - lost)


def test_recall_is_measured_at_growing_efforts_until_nothing_is_missed():
    vectors = decaying(3000, 32)
    points = calibrate(CodedIndex.build(vectors), vectors)
    assert {point.dimensions for point in points} == {2, 8, 32}
    for dimensions in (2, 8, 32):
        exact, *approximate = [point for point in points if point.dimensions == dimensions]
        assert (exact.effort, exact.recall) == (None, 1)
        efforts, recalls = zip(*((point.effort, point.recall) for point in approximate), strict=True)
        assert list(efforts) == sorted(set(efforts))
        assert list(recalls) == sorted(recalls)
        assert recalls[0] < recalls[-1]
        assert recalls[-1] >= 0.9995


def test_probe_queries_are_as_long_as_photos():
    photos = decaying(4000, 8)
    queries = probe_queries(photos)
    assert queries.shape == (2000, 8)
    np.testing.assert_allclose((queries**2).mean(axis=0), (photos**2).mean(axis=0), rtol=0.2)
