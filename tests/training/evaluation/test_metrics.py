import numpy as np
import pytest
from scipy.sparse import csr_array

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


@pytest.mark.parametrize("values", [3, 40, 10**6], ids=["most are tied", "some are tied", "hardly any is tied"])
def test_average_precision_by_scores_is_that_of_the_ranking(values):
    random = np.random.default_rng(values)
    scores = random.integers(-values, values, (60, 80)).astype(np.float32)
    relevant = random.random((60, 80)) < np.linspace(0, 1, 60)[:, None]  # none in the first row, all in the last
    found = average_precision_by_scores(scores, relevant)
    np.testing.assert_allclose(found, average_precision(rank_relevance(scores, relevant)), rtol=1e-12)
    assert found[0] == 0


def test_figures_agree_with_the_functions():
    random = np.random.default_rng(0)
    sketches, photos = (random.normal(size=(n, 6)).astype(np.float32) for n in (700, 50))
    relevant = np.arange(700)[:, None] % 5 == np.arange(50)[None] % 5
    figures = retrieval_figures(sketches, photos, csr_array(relevant))
    ranked = rank_relevance(sketches @ photos.T, relevant)
    assert figures.map_all == pytest.approx(average_precision(ranked).mean())
    assert figures.precision[25] == pytest.approx(precision_at(ranked, 25).mean())
    assert [point.dimensions for point in figures.curve] == [1, 2, 4, 6]
    assert figures.curve[-1].most == figures.curve[-1].least == pytest.approx(figures.map_all)
    assert figures.curve[0].least == pytest.approx(
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
