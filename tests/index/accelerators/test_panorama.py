import numpy as np
import pytest

from index.accelerators.brute_force import compare_all
from index.accelerators.panorama import PanoramaIndex, panorama_levels, selector
from tests.index.conftest import decaying


def test_levels_cover_every_dimension():
    assert [panorama_levels(dim) for dim in (1, 64, 65, 512)] == [1, 1, 2, 8]


@pytest.mark.parametrize("dim", [1, 16, 130])
@pytest.mark.parametrize("k", [1, 10, 513, 1500])  # FAISS itself refuses more than 512
@pytest.mark.parametrize("share", [None, 0.9])
def test_the_k_best_of_those_allowed(dim, k, share):
    vectors, queries = decaying(1500, dim), decaying(3, dim, 1)
    allowed = None if share is None else np.random.default_rng(2).random(1500) < share
    scores, positions = PanoramaIndex.build(vectors).search(queries, k, dim, allowed=allowed)
    expected, places = compare_all(queries, [vectors], k, dim, allowed=allowed)
    np.testing.assert_array_equal(positions < 0, places < 0)
    found = places >= 0
    np.testing.assert_allclose(scores[found], expected[found], rtol=1e-4, atol=1e-6)
    assert allowed is None or allowed[positions[found]].all()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in positions)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_a_selector_is_its_mask(count):
    allowed = np.random.default_rng(count).random(count) < 0.5
    chosen = selector(allowed)
    assert [chosen.is_member(position) for position in range(count)] == allowed.tolist()
    assert not chosen.is_member(count + 8)
    assert selector(None) is None


def test_original_vectors_come_back_to_the_last_bit():
    vectors = decaying(300, 40)
    positions = np.array([299, 0, 0, 17])
    np.testing.assert_array_equal(PanoramaIndex.build(vectors).gather(positions), vectors[positions])


def test_no_vectors():
    scores, positions = PanoramaIndex.build(np.empty((0, 5), np.float32)).search(decaying(2, 5), 3, 5)
    assert scores.shape == (2, 3)
    assert (positions == -1).all()
