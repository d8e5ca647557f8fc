import numpy as np
import pytest
import torch

from index.accelerators.candidates import candidates
from index.accelerators.coded import CodedIndex
from index.accelerators.dimension_major import DimensionMajorMatrix
from index.accelerators.panorama import PanoramaIndex
from tests.index.conftest import decaying

DIM = 16


def positions_of(row):
    return set(row[row >= 0].tolist())


@pytest.mark.parametrize("copies", [2, 30])
def test_all_that_score_like_the_last_are_among_the_candidates(copies):
    vectors, query = np.repeat(decaying(40, DIM), copies, axis=0), decaying(1, DIM, 1)
    order = np.argsort(-(vectors @ query[0]), kind="stable")
    for k in (1, copies - 1, copies, copies + 1, 5 * copies):
        found = candidates(PanoramaIndex.build(vectors), query, k, DIM, reachable=len(vectors))
        needed = -(-k // copies) * copies
        assert positions_of(found[0]) >= set(order[:needed].tolist())


def test_compressed_vectors_hide_none_of_the_best():
    """Photos that are nearly equal, so that compressed scores put them in another order."""
    random = np.random.default_rng(0)
    centres = decaying(20, DIM)
    vectors = (centres[random.integers(20, size=2000)] + 1e-3 * random.normal(size=(2000, DIM))).astype(np.float32)
    accelerator = DimensionMajorMatrix(vectors, torch.device("cpu"), half=True)
    queries = decaying(10, DIM, 1)
    scores = queries @ vectors.T
    assert any(
        set(np.argsort(-row)[:10]) - positions_of(found[:10])
        for row, found in zip(scores, accelerator.search(queries, 10, DIM)[1], strict=True)
    )
    found = candidates(accelerator, queries, 10, DIM, reachable=2000)
    for row, positions in zip(scores, found, strict=True):
        assert positions_of(positions) >= set(np.argsort(-row)[:10].tolist())


def test_the_most_there_are():
    vectors = decaying(30, DIM)
    allowed = np.arange(30) % 3 == 0
    found = candidates(PanoramaIndex.build(vectors), decaying(4, DIM, 1), 10, DIM, reachable=10, allowed=allowed)
    assert [positions_of(row) for row in found] == [set(range(0, 30, 3))] * 4


def test_a_search_that_finds_too_few_looks_at_more():
    vectors = decaying(3000, DIM)
    accelerator = CodedIndex.build(vectors)
    query = decaying(1, DIM, 1)
    allowed = np.zeros(3000, np.bool_)
    allowed[np.argsort(vectors @ query[0])[:40]] = True  # the farthest, in clusters that come last
    assert (accelerator.search(query, 20, DIM, effort=1, allowed=allowed)[1] < 0).any()
    found = candidates(accelerator, query, 20, DIM, reachable=40, effort=1, allowed=allowed)
    assert len(positions_of(found[0])) >= 20
    assert allowed[list(positions_of(found[0]))].all()
