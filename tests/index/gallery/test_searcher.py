import threading
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from index.accelerators.coded import CodedIndex
from index.accelerators.dimension_major import DimensionMajorMatrix
from index.accelerators.panorama import PanoramaIndex
from index.accelerators.recall import RecallPoint
from index.errors import DimensionsError, PageError
from index.gallery.expansion import expanded
from index.gallery.generations import Generation, GenerationManifest
from index.gallery.positions import Positions
from index.gallery.searcher import MAX_HITS, Change, Searcher
from tests.index.conftest import decaying, turned
from training.model.gallery_order import GalleryOrder

KINDS = {
    "exact": PanoramaIndex.build,
    "codes": CodedIndex.build,
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
    ordered = order.photos(vectors)
    return Searcher(Generation(manifest, order, Positions(ids, contents), KINDS[kind](ordered)))


def brute_force(queries, vectors, dimensions):
    """Scores and positions, best first, ties by position."""
    order = turned(vectors.shape[1])
    scores = order.sketches(queries)[:, :dimensions] @ order.photos(vectors)[:, :dimensions].T
    scores += order.baseline(queries)[:, None].astype(np.float32)
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
@settings(max_examples=25)
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


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (-1, 0), (1, -1), (1, MAX_HITS), (MAX_HITS, 1), (9, 10**9)])
def test_impossible_pages(limit, offset):
    with pytest.raises(PageError, match=rf"at most 10000, not limit {limit} and offset {offset}") as caught:
        searcher(decaying(5, 8)).search(decaying(1, 8), limit, offset=offset)
    assert isinstance(caught.value, ValueError)


def test_the_deepest_page():
    assert len(searcher(decaying(50, 8)).search(decaying(1, 8), MAX_HITS)[0]) == 50
    assert searcher(decaying(50, 8)).search(decaying(1, 8), 1, offset=MAX_HITS - 1) == [[]]


def test_queries_of_another_shape():
    with pytest.raises(ValueError, match=r"must be \(n, 8\)"):
        searcher(decaying(5, 8)).search(decaying(1, 7), 1)


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


DIM = 6
EXACT_MAP = np.diag([1.0, -2, 0.5, 1, -1, 4])[[3, 0, 5, 1, 2, 4]]
EXACT_ORDER = GalleryOrder(EXACT_MAP, np.linalg.inv(EXACT_MAP).T, np.array([1.0, 0, -2, 3, 0, 0.5]), np.ones(DIM))
whole = st.lists(st.integers(-3, 3).map(float), min_size=DIM, max_size=DIM)  # sums are exact, so ties are ties
photo = st.tuples(whole, st.integers(0, 3))  # vector and content
change = st.tuples(st.integers(1, 12), st.none() | photo)


def arrays(photos):
    """Ids, contents and vectors."""
    vectors = np.array([vector for vector, _ in photos.values()], np.float32).reshape(-1, DIM)
    return np.array(list(photos), np.int64), np.array([c for _, c in photos.values()], np.int64), vectors


def publish(base, changes, kind):
    """A searcher over a generation: a base, and changes that were published beside it."""
    ids, contents, vectors = arrays(base)
    facts = {"count": 0, "base_count": 0, "revision": 1, "base_revision": 1, "files": {}}
    manifest = GenerationManifest(generation=1, created="", dim=DIM, model="", spectrum=(1.0,) * DIM, **facts)
    accelerator = KINDS[kind](EXACT_ORDER.photos(vectors))
    generation = Generation(manifest, EXACT_ORDER, Positions(ids, contents), accelerator)
    if changes:
        there = {identifier: value for identifier, value in changes.items() if value is not None}
        ids, contents, vectors = arrays(there)
        generation = generation.with_changes(np.array(list(changes)), ids, contents, EXACT_ORDER.photos(vectors))
    return Searcher(generation)


def expected_hits(photos, query, dimensions, ids, unique, without):
    """Ids and scores, best first, of a search among ``{id: (vector, content)}`` by the definition."""
    chosen = sorted(i for i in photos if ids is None or i in ids)
    if unique:
        chosen = [i for i in chosen if i == min(j for j in chosen if photos[j][1] == photos[i][1])]
        chosen = [i for i in chosen if without not in photos or photos[i][1] != photos[without][1]]
    [prefix] = EXACT_ORDER.sketches(np.array([query], np.float32), dimensions)
    [baseline] = EXACT_ORDER.baseline(np.array([query], np.float32))
    found = {i: EXACT_ORDER.photos(np.array([photos[i][0]], np.float32))[0] @ prefix for i in chosen}
    scores = {i: float(score + baseline) for i, score in found.items()}
    return sorted(((i, scores[i]) for i in chosen if i != without), key=lambda hit: (-hit[1], hit[0]))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(
    base=st.dictionaries(st.integers(1, 8), photo, min_size=1).map(lambda base: dict(sorted(base.items()))),
    published=st.dictionaries(st.integers(1, 10), st.none() | photo, max_size=4),
    live=st.lists(st.lists(change, max_size=4), max_size=4),
    data=st.data(),
)
def test_changes_take_part_in_everything(kind, base, published, live, data):
    searched, photos = publish(base, published, kind), base | published
    for revision, changes in enumerate(live, start=2):
        before = searched, searched.count, searched.changes
        searched = searched.with_changes(
            Change(revision, i, 0 if value is None else value[1], value and np.array(value[0], np.float32))
            for i, value in changes
        )
        assert before == (before[0], before[0].count, before[0].changes)
        photos |= dict(changes)
    photos = {i: value for i, value in photos.items() if value is not None}
    assert searched.count == len(photos)
    assert len(searched.changes) == sum(map(len, live))
    query, dimensions = data.draw(whole), data.draw(st.integers(1, DIM))
    ids = data.draw(st.none() | st.lists(st.integers(0, 13)))
    choice = {"unique": data.draw(st.booleans()), "without": data.draw(st.none() | st.integers(1, 13))}
    offset, limit = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 9))
    threshold = data.draw(st.none() | st.integers(-9, 9))
    expected = expected_hits(photos, query, dimensions, ids, **choice)[offset : offset + limit]
    with patch("index.gallery.searcher._FEW", data.draw(st.sampled_from([0, 4096]))):
        [hits] = searched.search(
            np.array([query], np.float32),
            limit,
            offset=offset,
            dimensions=dimensions,
            score_threshold=threshold,
            ids=None if ids is None else np.array(ids, np.int64),
            **choice,
        )
    assert [tuple(hit) for hit in hits] == [hit for hit in expected if threshold is None or hit[1] >= threshold]


def test_an_approximate_gallery_keeps_one_of_each_set_of_identical_files():
    """However little the search looks at, and although most of the nearest photos are copies."""
    vectors, contents = decaying(3000, 12), np.arange(3000)
    vectors[:600], contents[:600] = vectors[0], 0
    found = searcher(vectors, "codes", contents=contents)
    points = (RecallPoint(dimensions=12, effort=1, recall=0.6),)
    manifest = found.manifest.model_copy(update={"recall": points, "target": 0.5})
    approximate = Searcher(found._published._replace(manifest=manifest))
    order = (brute_force(vectors[:1], vectors, 12)[1][0] + 10).tolist()
    once = [identifier for identifier in order if identifier == 10 or identifier >= 610]
    others = [identifier for identifier in once if identifier != 10]

    def search(searched, **options):
        return [hit.id for hit in searched.search(vectors[:1], 50, unique=True, **options)[0]]

    assert search(approximate) == once[:50]
    assert search(approximate, without=[87]) == others[:50]
    assert (
        search(approximate, without=[87, 10, 88, once[3], once[3]]) == [each for each in others if each != once[3]][:50]
    )
    live = approximate.with_changes([Change(2, 10, 0, None), Change(3, 9999, 0, vectors[0])])
    assert search(live) == [11 if identifier == 10 else identifier for identifier in once][:50]
    assert search(live, without=[9999]) == others[:50]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_agrees_with_cpu():
    vectors, queries = decaying(5000, 96), decaying(9, 96, 2)
    matrix = DimensionMajorMatrix(turned(96).photos(vectors), torch.device("cuda"))
    for dimensions in (1, 17, 96):
        scores, _ = matrix.search(turned(96).sketches(queries), 10, dimensions)
        scores = scores + turned(96).baseline(queries)[:, None]
        np.testing.assert_allclose(scores, brute_force(queries, vectors, dimensions)[0][:, :10], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_photos_in_the_order_asked_for(kind):
    vectors = decaying(50, 16)
    new = decaying(2, 16, 1)
    found = searcher(vectors, kind).with_changes([Change(2, 12, 900, new[0]), Change(3, 99, 901, new[1])])
    expected = turned(16).photos(np.stack([new[1], vectors[30], new[0], vectors[0]]))
    np.testing.assert_allclose(found.vectors([99, 40, 12, 10]), expected, rtol=1e-5, atol=1e-6)
    assert found.vectors([]).shape == (0, 16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [5, None])
def test_an_expanded_query_has_the_mean_of_the_first_ten_photos_added(kind, dimensions):
    vectors, [query] = decaying(50, 16), decaying(1, 16, 1)
    found = searcher(vectors, kind)
    [first] = found.search(query[None], 10, dimensions=dimensions)
    mean = (vectors[[hit.id - 10 for hit in first]] - found.order.mean).mean(axis=0)
    expected = query + 0.5 * np.linalg.norm(query) / np.linalg.norm(mean) * mean
    np.testing.assert_allclose(expanded(found, query, 0.5, dimensions=dimensions), expected, rtol=1e-4, atol=1e-5)


def test_a_query_is_expanded_by_the_photos_that_it_may_find():
    vectors, [query] = decaying(50, 16), decaying(1, 16, 1)
    found = searcher(vectors)
    mean = vectors[3] - found.order.mean
    expected = query + np.linalg.norm(query) / np.linalg.norm(mean) * mean
    np.testing.assert_allclose(expanded(found, query, 1, ids=np.array([13])), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(expanded(found, query, 1, ids=np.array([], np.int64)), query)
    assert np.isfinite(expanded(found, query * 0, 1)).all()
