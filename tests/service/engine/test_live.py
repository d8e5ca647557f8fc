import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.accelerators.panorama import PanoramaIndex
from index.errors import DimensionsError
from index.gallery.generations import Generation, GenerationManifest
from index.gallery.searcher import Searcher
from service.engine.live import Change, LiveSearcher
from training.model.gallery_order import GalleryOrder

DIM = 6
ORDER = GalleryOrder(np.diag([1.0, -1, 1, 1, -1, 1])[[3, 0, 5, 1, 2, 4]], np.ones(DIM))


def searcher(vectors):
    ids = np.array(sorted(vectors))
    matrix = np.array([vectors[identifier] for identifier in ids], np.float32)
    count = len(ids)
    manifest = GenerationManifest(
        generation=1,
        created="",
        count=count,
        dim=DIM,
        model="",
        revision=0,
        base_revision=0,
        base_count=count,
        spectrum=(1.0,) * DIM,
        files={},
    )
    accelerator = PanoramaIndex.build(ORDER.apply(matrix))
    return Searcher(Generation(manifest, ORDER, ids, np.arange(count), np.ones(count, bool), accelerator))


def brute_force(vectors, query, dimensions):
    [prefix] = ORDER.apply(query[None], dimensions)
    scores = {number: float(ORDER.apply(vector[None])[0] @ prefix) for number, vector in vectors.items()}
    return sorted(scores, key=lambda number: (-scores[number], number))


whole = st.integers(-3, 3).map(float)  # sums of products are exact, so ties are ties
vector = st.lists(whole, min_size=DIM, max_size=DIM).map(lambda values: np.array(values, np.float32))
steps = st.lists(st.tuples(st.integers(1, 12), st.none() | vector), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(vector, min_size=1, max_size=8), steps, vector, st.integers(1, DIM), st.integers(0, 5), st.integers(1, 9)
)
def test_a_changed_generation_is_searched_like_a_new_one(base, changes, query, dimensions, offset, limit):
    expected = dict(enumerate(base, start=1))
    live = LiveSearcher(searcher(expected))
    for revision, (identifier, value) in enumerate(changes, start=1):
        known = identifier in expected
        if value is None and not known:
            continue
        live = live.with_changes([Change(revision, identifier, value, known)])
        if value is None:
            del expected[identifier]
        else:
            expected[identifier] = value
    hits = live.search(query, limit, offset=offset, dimensions=dimensions)
    assert [hit.id for hit in hits] == brute_force(expected, query, dimensions)[offset : offset + limit]
    assert live.count == len(expected)


def test_choices_and_thresholds():
    vectors = {number: np.full(DIM, 20 - number, np.float32) for number in range(1, 15)}
    live = LiveSearcher(searcher(vectors), [Change(1, 20, np.full(DIM, 100, np.float32), known=False)])
    query = np.ones(DIM, np.float32)
    assert [hit.id for hit in live.search(query, 3)] == [20, 1, 2]
    assert [hit.id for hit in live.search(query, 3, only=np.array([9, 12, 14, 20]), offset=1)] == [9, 12, 14]
    assert [hit.id for hit in live.search(query, 3, without=(20, 2))] == [1, 3, 4]
    assert [hit.id for hit in live.search(query, 9, score_threshold=6 * 17)] == [20, 1, 2, 3]
    with pytest.raises(DimensionsError):
        live.search(query, 3, dimensions=DIM + 1)


def test_more_than_faiss_gives_at_once():
    random = np.random.default_rng(0)
    vectors = {number: random.integers(-3, 4, DIM).astype(np.float32) for number in range(1, 1301)}
    live = LiveSearcher(searcher(vectors))
    query = np.arange(1, DIM + 1, dtype=np.float32)
    order = brute_force(vectors, query, DIM)
    assert [hit.id for hit in live.search(query, 200, offset=1000)] == order[1000:1200]
    assert [hit.id for hit in live.search(query, 3, only=np.array(order[-3:]))] == order[-3:]
    assert [hit.id for hit in live.search(np.zeros(DIM, np.float32), 5)] == [1, 2, 3, 4, 5]
