import numpy as np
import pytest

from index.accelerators import neighbours
from index.accelerators.neighbours import with_neighbours_blockwise
from tests.index.conftest import decaying
from training.model.gallery_order import SecondMoment
from training.model.neighbours import with_neighbours


def blockwise(vectors, count, strength=2.0):
    moment = SecondMoment(vectors.shape[1])
    moment.add(vectors)
    return np.concatenate(list(with_neighbours_blockwise(vectors, moment, count, strength)))


def of_kinds(count, kinds=50, noise=0.3):
    random = np.random.default_rng(0)
    own = random.normal(size=(kinds, 16))[random.integers(kinds, size=count)]
    return (own + noise * random.normal(size=(count, 16))).astype(np.float32)


@pytest.mark.parametrize("make", [decaying, of_kinds])
@pytest.mark.parametrize("number", [1, 2, 3, 7, 2100])
def test_small_galleries_are_compared_in_whole(number, make):
    vectors = make(number, 16)
    np.testing.assert_allclose(blockwise(vectors, 10), with_neighbours(vectors, 10, 2.0), atol=1e-5)


def test_large_galleries_find_nearly_the_same_in_cells(monkeypatch):
    vectors = of_kinds(3000)
    expected = with_neighbours(vectors, 10, 2.0)
    monkeypatch.setattr(neighbours, "_SMALL", 100)
    actual = blockwise(vectors, 10)
    moved, apart = np.linalg.norm(expected - vectors, axis=1).mean(), np.linalg.norm(expected - actual, axis=1).mean()
    assert apart < 0.1 * moved


def test_cells_that_hold_too_few_give_fewer_neighbours(monkeypatch):
    """Photos so far apart that the cells looked into hold nearly nothing."""
    monkeypatch.setattr(neighbours, "_SMALL", 10)
    monkeypatch.setattr(neighbours, "_PROBES", 1)
    monkeypatch.setattr(neighbours, "_CELLS", 8)
    vectors = decaying(200, 16)
    mixed = blockwise(vectors, 10)
    assert np.isfinite(mixed).all()
    moved = np.linalg.norm(mixed - vectors, axis=1)
    assert moved.any()
    assert (moved <= np.linalg.norm(vectors, axis=1) * 2).all()
