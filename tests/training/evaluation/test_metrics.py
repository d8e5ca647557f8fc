import numpy as np
import pytest
from scipy.sparse import csr_array

from training.evaluation import figures
from training.evaluation.figures import curve_dimensions, instance_accuracy, retrieval_figures
from training.evaluation.metrics import (
    accuracy_at,
    average_precision,
    average_precision_by_scores,
    interpolated_average_precision,
    precision_at,
    precision_at_min,
    rank_relevance,
)

RANKED = np.array([[True, False, True, False], [False, False, False, True], [False, True, True, True]])


def test_average_precision_by_hand():
    np.testing.assert_allclose(average_precision(RANKED), [(1 + 2 / 3) / 2, 1 / 4, (1 / 2 + 2 / 3 + 3 / 4) / 3])


def test_average_precision_with_cutoff_by_hand():
    np.testing.assert_allclose(average_precision(RANKED, 2), [1 / 2, 0, (1 / 2) / 2])


def test_interpolated_precision_is_the_best_at_that_recall_or_more():
    np.testing.assert_allclose(interpolated_average_precision(RANKED), [(1 + 2 / 3) / 2, 1 / 4, 3 / 4])


def test_precision_and_accuracy():
    np.testing.assert_allclose(precision_at(RANKED, 2), [1 / 2, 0, 1 / 2])
    np.testing.assert_allclose(precision_at_min(RANKED, 2), [1 / 2, 0, 1 / 2])
    np.testing.assert_allclose(precision_at_min(RANKED, 4), [1, 1, 1])
    np.testing.assert_allclose(accuracy_at(RANKED, 1), [1, 0, 0])
    np.testing.assert_allclose(accuracy_at(RANKED, 2), [1, 0, 1])


def test_queries_without_positives_score_zero():
    nothing = np.zeros((1, 4), dtype=bool)
    for function in (average_precision, interpolated_average_precision):
        assert function(nothing) == 0
    assert precision_at_min(nothing, 2) == 0


def test_ties_are_ranked_by_position():
    relevant = np.array([[False, True, True]])
    np.testing.assert_array_equal(
        rank_relevance(np.array([[1.0, 1.0, 2.0]], np.float32), relevant), [[True, False, True]]
    )


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("values", [3, 40, 10**6], ids=["most are tied", "some are tied", "hardly any is tied"])
def test_average_precision_by_scores_is_that_of_the_ranking(values, kind):
    random = np.random.default_rng(values)
    scores = random.integers(-values, values, (60, 80)).astype(kind)
    relevant = random.random((60, 80)) < np.linspace(0, 1, 60)[:, None]  # none in the first row, all in the last
    found = average_precision_by_scores(scores, relevant)
    np.testing.assert_allclose(found, average_precision(rank_relevance(scores, relevant)), rtol=1e-12)
    by_sorting = np.take_along_axis(relevant, np.argsort(-scores, axis=1, kind="stable"), axis=1)
    np.testing.assert_array_equal(rank_relevance(scores, relevant), by_sorting)
    assert found[0] == 0


def test_differences_below_single_precision_count():
    relevant = np.array([[False, True]])
    np.testing.assert_array_equal(rank_relevance(np.array([[1.0, 1.0 + 1e-12]]), relevant), [[True, False]])


def test_scores_of_either_sign_of_zero_are_tied():
    relevant = np.array([[False, True, False, True, False]])
    scores = np.array([[0.0, -0.0, -1.0, 0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(rank_relevance(scores, relevant), [[False, False, True, True, False]])


def test_a_query_whose_scores_are_all_equal_is_ranked_by_position():
    """Each of 20,000 relevant items is tied with all of 40,000."""
    relevant = (np.arange(40_000) % 2 == 0)[None]
    found = average_precision_by_scores(np.zeros((1, 40_000), np.float32), relevant)
    np.testing.assert_allclose(found, average_precision(relevant), rtol=1e-12)


@pytest.mark.parametrize("block", [1, 7, 10**6])
def test_figures_do_not_depend_on_how_many_scores_are_ranked_at_once(block, monkeypatch):
    random = np.random.default_rng(0)
    sketches, photos = (random.normal(size=(n, 6)).astype(np.float32) for n in (30, 50))
    relevant = csr_array(np.arange(30)[:, None] % 5 == np.arange(50)[None] % 5)
    expected = retrieval_figures(sketches, photos, relevant)
    monkeypatch.setattr(figures, "_SCORED", block * 110)
    monkeypatch.setattr(figures, "_RANKED", block * 50)
    found = retrieval_figures(sketches, photos, relevant)
    assert found.map_all == pytest.approx(expected.map_all)
    assert found.accuracy == pytest.approx(expected.accuracy)


def test_figures_agree_with_the_functions():
    random = np.random.default_rng(0)
    sketches, photos = (random.normal(size=(n, 6)).astype(np.float32) for n in (700, 50))
    relevant = np.arange(700)[:, None] % 5 == np.arange(50)[None] % 5
    found = retrieval_figures(sketches, photos, csr_array(relevant))
    ranked = rank_relevance(sketches @ photos.T, relevant)
    assert found.map_all == pytest.approx(average_precision(ranked).mean())
    assert found.precision[25] == pytest.approx(precision_at(ranked, 25).mean())
    assert [point.dimensions for point in found.curve] == [1, 2, 4, 6]
    assert found.curve[-1].most == found.curve[-1].least == pytest.approx(found.map_all)
    assert found.curve[0].least == pytest.approx(
        average_precision(rank_relevance(sketches[:, 5:] @ photos[:, 5:].T, relevant)).mean()
    )


def test_instance_accuracy_by_hand():
    photos = np.eye(3, dtype=np.float32)
    sketches = np.array([[3, 2, 1], [3, 2, 1], [1, 2, 3], [0, 0, 1]], dtype=np.float32)
    own = np.array([0, 1, -1, 2])
    assert instance_accuracy(sketches, photos, own) == {1: 2 / 3}
    assert instance_accuracy(sketches, photos, np.full(4, -1)) == {}


def test_curve_dimensions():
    assert curve_dimensions(1) == [1]
    assert curve_dimensions(8) == [1, 2, 4, 8]
    assert curve_dimensions(99) == [1, 2, 4, 8, 16, 32, 64, 99]
