import numpy as np
import pytest

from training.model import nearest
from training.model.neighbours import with_neighbours


def decaying(count, dim, seed=0):
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, dim)) / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)


def of_kinds(count, kinds=50, noise=0.3):
    random = np.random.default_rng(0)
    own = random.normal(size=(kinds, 16))[random.integers(kinds, size=count)]
    return (own + noise * random.normal(size=(count, 16))).astype(np.float32)


def test_large_galleries_find_nearly_the_same_in_cells(monkeypatch):
    vectors = of_kinds(3000)
    expected = with_neighbours(vectors, 10, 2.0)
    monkeypatch.setattr(nearest, "_SMALL", 100)
    actual = with_neighbours(vectors, 10, 2.0)
    moved, apart = np.linalg.norm(expected - vectors, axis=1).mean(), np.linalg.norm(expected - actual, axis=1).mean()
    assert apart < 0.1 * moved


def test_no_photo_of_a_large_gallery_is_compared_with_all_others(monkeypatch):
    """What a gallery of many photos needs must not grow with the square of their number."""

    def compared(*arguments: object) -> None:
        raise AssertionError("all photos were compared")

    monkeypatch.setattr(nearest, "nearest", compared)
    monkeypatch.setattr(nearest, "_SMALL", 100)
    assert len(with_neighbours(of_kinds(300), 10, 2.0)) == 300
    monkeypatch.setattr(nearest, "_SMALL", 300)
    with pytest.raises(AssertionError, match="all photos"):
        with_neighbours(of_kinds(300), 10, 2.0)


def test_cells_that_hold_too_few_give_fewer_neighbours(monkeypatch):
    """Photos so far apart that the cells looked into hold nearly nothing."""
    monkeypatch.setattr(nearest, "_SMALL", 10)
    monkeypatch.setattr(nearest, "_PROBES", 1)
    monkeypatch.setattr(nearest, "_CELLS", 8)
    vectors = decaying(200, 16)
    mixed = with_neighbours(vectors, 10, 2.0)
    assert np.isfinite(mixed).all()
    moved = np.linalg.norm(mixed - vectors, axis=1)
    assert moved.any()
    assert (moved <= np.linalg.norm(vectors, axis=1) * 2).all()
