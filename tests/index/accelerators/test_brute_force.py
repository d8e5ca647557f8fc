import numpy as np
import pytest

from index.accelerators.brute_force import compare_all
from tests.index.conftest import decaying


@pytest.mark.parametrize("dimensions", [1, 5, 12])
@pytest.mark.parametrize("share", [None, 0.3])
def test_blocks_give_what_one_product_gives(dimensions, share):
    vectors, queries = decaying(500, 12), decaying(4, 12, 1)
    allowed = None if share is None else np.random.default_rng(2).random(500) < share
    blocks = [vectors[:7], vectors[7:300], vectors[300:]]
    expected = queries[:, :dimensions] @ vectors[:, :dimensions].T
    if allowed is not None:
        expected[:, ~allowed] = -np.inf
    scores, positions = compare_all(queries, blocks, 20, dimensions, allowed=allowed)
    order = np.argsort(-expected, axis=1)[:, :20]
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1), rtol=1e-5)


def test_fewer_than_wanted():
    vectors = decaying(3, 4)
    allowed = np.array([True, False, True])
    scores, positions = compare_all(decaying(1, 4, 1), [vectors], 5, 4, allowed=allowed)
    assert sorted(positions[0].tolist()) == [-1, -1, -1, 0, 2]
    assert positions[0, 2:].tolist() == [-1, -1, -1]
    assert np.isneginf(scores[0, 2:]).all()
