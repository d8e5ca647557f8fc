import numpy as np
import pytest
import torch

from index.accelerators.brute_force import compare_all
from index.accelerators.dimension_major import DimensionMajorMatrix
from index.accelerators.kinds import build_kind
from index.accelerators.layers import LayeredIndex
from tests.index.conftest import decaying

DIM = 20
KINDS = ["exact", "codes", "dimension-major"]


def build(kind, vectors):
    if kind == "dimension-major":
        return DimensionMajorMatrix(vectors, torch.device("cpu"))
    return build_kind(kind, vectors)


@pytest.fixture(params=KINDS)
def layers(request):
    """An index in three layers, the vectors of all its positions, and which of them count."""
    parts = [decaying(400, DIM), decaying(30, DIM, 1), decaying(5, DIM, 2)]
    alive = np.ones(435, np.bool_)
    alive[[0, 7, 399]] = False
    inner = LayeredIndex(build(request.param, parts[0]), alive[:400].copy(), parts[1])
    alive[[1, 8, 410]] = False
    return LayeredIndex(inner, alive[:430].copy(), parts[2]), np.concatenate(parts), alive


@pytest.mark.parametrize("dimensions", [1, 7, DIM])
@pytest.mark.parametrize("share", [None, 0.5, 0.02, 0])
@pytest.mark.parametrize("k", [1, 10, 429])
def test_layers_are_searched_as_one(layers, dimensions, share, k):
    layered, vectors, alive = layers
    queries = decaying(4, DIM, 9)
    chosen = None if share is None else np.random.default_rng(3).random(435) < share
    counts = alive if chosen is None else alive & chosen
    expected, places = compare_all(queries, [vectors], k, dimensions, allowed=counts)
    scores, positions = layered.search(queries, k, dimensions, allowed=chosen)
    assert positions.shape == (4, k)
    np.testing.assert_array_equal(positions < 0, places < 0)
    found = places >= 0
    np.testing.assert_allclose(scores[found], expected[found], rtol=1e-4, atol=1e-5)
    assert counts[positions[found]].all()


def test_vectors_are_gathered_from_their_layers(layers):
    layered, vectors, _ = layers
    positions = np.array([434, 2, 405, 0, 430, 399, 400])
    np.testing.assert_array_equal(layered.gather(positions), vectors[positions])
    np.testing.assert_array_equal(layered.gather(positions[:0]), vectors[:0])


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_the_base_holds(kind):
    """The base has 3 vectors, 1 of them removed; what was added makes up for it."""
    layered = LayeredIndex(build(kind, decaying(3, DIM)), np.array([True, False, True]), decaying(9, DIM, 1))
    positions = layered.search(decaying(2, DIM, 5), 11, DIM)[1]
    assert [sorted(row) for row in positions.tolist()] == [[0, 2, *range(3, 12)]] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_added_and_nothing_left(kind):
    vectors = decaying(4, DIM)
    removed = LayeredIndex(build(kind, vectors), np.array([False, True, True, False]), vectors[:0])
    assert sorted(removed.search(vectors[:1], 2, DIM)[1][0].tolist()) == [1, 2]
    empty = LayeredIndex(removed, np.zeros(4, np.bool_), vectors[:2])
    assert sorted(empty.search(vectors[:1], 2, DIM)[1][0].tolist()) == [4, 5]


def test_effort_and_error_are_the_bases():
    vectors, query = decaying(3000, DIM), decaying(1, DIM, 4)
    half = DimensionMajorMatrix(vectors, torch.device("cpu"), half=True)
    for base in (build("codes", vectors), half):
        layered = LayeredIndex(base, np.ones(3000, np.bool_), decaying(3, DIM, 1))
        assert (layered.error, layered.largest_effort) == (base.error, base.largest_effort)
    assert layered.error > 0
    layered = LayeredIndex(build("codes", vectors), np.ones(3000, np.bool_), vectors[:3])
    little, much = (layered.search(query, 10, DIM, effort=effort)[0][0] for effort in (10, 3000))
    assert little.sum() < much.sum()
