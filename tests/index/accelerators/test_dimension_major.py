import numpy as np
import pytest
import torch

from index.accelerators import dimension_major
from index.accelerators.dimension_major import DimensionMajorMatrix
from tests.index.conftest import decaying


def test_fewer_vectors_than_wanted():
    vectors = decaying(3, 8)
    scores, positions = DimensionMajorMatrix(vectors, torch.device("cpu")).search(decaying(2, 8, 1), 5, 8)
    assert [sorted(row) for row in positions.tolist()] == [[-1, -1, 0, 1, 2]] * 2
    assert np.isneginf(scores[:, 3:]).all()
    allowed = np.array([True, False, True])
    positions = DimensionMajorMatrix(vectors, torch.device("cpu")).search(decaying(2, 8, 1), 3, 8, allowed=allowed)[1]
    assert [sorted(row) for row in positions.tolist()] == [[-1, 0, 2]] * 2


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("block", [1, 3, 8, 50])
def test_vectors_are_scored_some_at_a_time(monkeypatch, half, block):
    matrix = DimensionMajorMatrix(decaying(50, 8), torch.device("cpu"), half=half)
    allowed = np.arange(50) % 5 > 0
    wanted = [matrix.search(decaying(20, 8, 1), 7, 5, allowed=each) for each in (None, allowed)]
    monkeypatch.setattr(dimension_major, "_QUERIES", 6)
    monkeypatch.setattr(dimension_major, "_MAX_SCORES", 6 * block)
    for each, whole in zip((None, allowed), wanted, strict=True):
        for one, other in zip(matrix.search(decaying(20, 8, 1), 7, 5, allowed=each), whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_all_queries_read_the_matrix_once(monkeypatch):
    matrix = DimensionMajorMatrix(decaying(50, 8), torch.device("cpu"))
    monkeypatch.setattr(dimension_major, "_MAX_SCORES", 100)
    read, values = [], matrix.matrix

    class Counted(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function is torch.Tensor.matmul or function is torch.Tensor.__matmul__:
                read.append(args[1].shape[1])
            return super().__torch_function__(function, types, args, kwargs or {})

    matrix.matrix = values.as_subclass(Counted)
    matrix.search(decaying(20, 8, 1), 7, 5)
    assert read == [5] * 10


def test_no_vectors():
    scores, positions = DimensionMajorMatrix(np.empty((0, 8), np.float32), torch.device("cpu")).search(
        decaying(2, 8), 3, 8
    )
    assert np.isneginf(scores).all()
    assert positions.tolist() == [[-1] * 3] * 2


def test_the_error_bounds_what_rounding_does_to_scores():
    vectors, queries = decaying(500, 16), decaying(20, 16, 1)
    matrix = DimensionMajorMatrix(vectors, torch.device("cpu"), half=True)
    scores, positions = matrix.search(queries, 500, 16)
    true = np.take_along_axis(queries @ vectors.T, positions, 1)
    off = np.abs(scores - true) / np.linalg.norm(queries, axis=1)[:, None]
    assert 0 < off.max() <= matrix.error
    np.testing.assert_array_equal(matrix.gather(np.array([3, 499])), vectors[[3, 499]])
