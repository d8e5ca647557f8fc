import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from index.accelerators.dimension_major import DimensionMajorMatrix
from index.accelerators.hnsw import GraphIndex
from index.accelerators.ivf import ClusteredIndex
from index.accelerators.panorama import PanoramaIndex, panorama_levels
from index.errors import DimensionsError
from index.gallery.generations import Generation, GenerationManifest
from index.gallery.searcher import Searcher
from tests.index.conftest import decaying, turned

KINDS = {
    "exact": PanoramaIndex.build,
    "ivf": lambda vectors: ClusteredIndex.build("ivf", vectors),
    "fp16": lambda vectors: ClusteredIndex.build("fp16", vectors),
    "sq8": lambda vectors: ClusteredIndex.build("sq8", vectors),
    "hnsw": GraphIndex.build,
    "dimension-major": lambda vectors: DimensionMajorMatrix(vectors, torch.device("cpu")),
    "dimension-major fp16": lambda vectors: DimensionMajorMatrix(vectors, torch.device("cpu"), half=True),
}


def searcher(vectors, kind="exact", ids=None, contents=None):
    count, dim = vectors.shape
    ids = np.arange(10, 10 + count) if ids is None else ids
    contents = np.arange(count) if contents is None else contents
    facts = {"count": count, "base_count": count, "revision": 1, "base_revision": 1, "files": {}}
    manifest = GenerationManifest(generation=1, created="", dim=dim, model="", spectrum=(1.0,) * dim, **facts)
    order = turned(dim)
    ordered = order.apply(vectors)
    return Searcher(Generation(manifest, order, ids, contents, np.ones(count, bool), KINDS[kind](ordered)))


def brute_force(queries, vectors, dimensions):
    """Scores and positions, best first, ties by position."""
    queries, vectors = (turned(vectors.shape[1]).apply(values) for values in (queries, vectors))
    scores = queries[:, :dimensions] @ vectors[:, :dimensions].T
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, 1), order


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 7, 16, 99, 256])
def test_truncated_search_is_brute_force_on_the_prefix(kind, dim):
    vectors, queries = decaying(600, dim), decaying(5, dim, 1)
    found = searcher(vectors, kind)
    for dimensions in sorted({1, 2, 3, 5, dim // 3 or 1, dim // 2 or 1, dim - 1 or 1, dim}):
        if dimensions > dim:
            continue
        scores, order = brute_force(queries, vectors, dimensions)
        for row, hits in enumerate(found.search(queries, 20, dimensions=dimensions)):
            np.testing.assert_allclose([hit.score for hit in hits], scores[row, :20], rtol=1e-4, atol=1e-5)
            expected = set(order[row, :20] + 10)
            clear = scores[row, 19] - scores[row, 20] > 1e-4
            assert not clear or {hit.id for hit in hits} == expected


@pytest.mark.parametrize("kind", KINDS)
@given(count=st.integers(1, 80), dim=st.integers(1, 40), seed=st.integers(0, 2**16), data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_shape_any_prefix(kind, count, dim, seed, data):
    vectors, queries = decaying(count, dim, seed), decaying(2, dim, seed + 1)
    dimensions = data.draw(st.integers(1, dim))
    limit = data.draw(st.integers(1, count + 5))
    scores, _ = brute_force(queries, vectors, dimensions)
    for row, hits in enumerate(searcher(vectors, kind).search(queries, limit, dimensions=dimensions)):
        assert len(hits) == min(limit, count)
        np.testing.assert_allclose([hit.score for hit in hits], scores[row, :limit], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_complete_and_disjoint_even_with_equal_scores(kind):
    vectors = np.repeat(decaying(7, 24), 30, axis=0)
    found = searcher(vectors, kind)
    query = decaying(1, 24, 5)
    whole = found.search(query, 1000)[0]
    assert [hit.id for hit in whole] == sorted((hit.id for hit in whole), key=lambda i: (-scores_of(whole)[i], i))
    pages = [found.search(query, 13, offset=offset)[0] for offset in range(0, 221, 13)]
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in whole]


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_as_there_are(kind):
    vectors, query = decaying(3000, 12), decaying(1, 12, 5)
    hits = searcher(vectors, kind).search(query, 5000)[0]
    assert [hit.id - 10 for hit in hits] == brute_force(query, vectors, 12)[1][0].tolist()


def scores_of(hits):
    return {hit.id: hit.score for hit in hits}


def test_threshold_offset_and_limits():
    vectors = decaying(50, 8)
    found, query = searcher(vectors), decaying(1, 8, 3)
    whole = found.search(query, 50)[0]
    threshold = whole[9].score
    assert found.search(query, 50, score_threshold=threshold)[0] == whole[:10]
    assert found.search(query, 5, offset=48)[0] == whole[48:]
    assert found.search(query, 5, offset=500)[0] == []
    assert found.search(np.empty((0, 8), np.float32), 5) == []


@pytest.mark.parametrize("dimensions", [0, -1, 9])
def test_impossible_dimensions(dimensions):
    with pytest.raises(DimensionsError, match=f"1 to 8, not {dimensions}") as caught:
        searcher(decaying(5, 8)).search(decaying(1, 8), 1, dimensions=dimensions)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (-1, 0), (1, -1)])
def test_impossible_pages(limit, offset):
    with pytest.raises(ValueError, match="limit must be positive"):
        searcher(decaying(5, 8)).search(decaying(1, 8), limit, offset=offset)


def test_queries_of_another_shape():
    with pytest.raises(ValueError, match=r"must be \(n, 8\)"):
        searcher(decaying(5, 8)).search(decaying(1, 7), 1)


def test_levels_cover_every_dimension():
    assert [panorama_levels(dim) for dim in (1, 16, 17, 256)] == [1, 1, 2, 16]


def test_many_threads_get_the_same_answers():
    vectors, queries = decaying(2000, 64), decaying(8, 64, 9)
    found = searcher(vectors)
    expected = found.search(queries, 10)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(found.search(queries, 10))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_agrees_with_cpu():
    vectors, queries = decaying(5000, 96), decaying(9, 96, 2)
    matrix = DimensionMajorMatrix(vectors, torch.device("cuda"))
    for dimensions in (1, 17, 96):
        scores, _ = matrix.search(queries, 10, dimensions)
        np.testing.assert_allclose(scores, brute_force(queries, vectors, dimensions)[0][:, :10], rtol=1e-3, atol=1e-4)
