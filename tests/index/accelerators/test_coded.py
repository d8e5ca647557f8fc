import numpy as np
import pytest

from index.accelerators.bounds import UpperBounds
from index.accelerators.brute_force import compare_all
from index.accelerators.coded import VECTORS, CodedIndex
from index.accelerators.shortlist import Shortlist
from tests.index.conftest import decaying

DIM = 300  # more coordinates than either kind of codes looks at


@pytest.fixture(scope="module")
def vectors():
    """Vectors of very different lengths, some of them far out, and some of them equal."""
    random = np.random.default_rng(0)
    vectors = decaying(3000, DIM) * random.lognormal(0, 0.5, (3000, 1)).astype(np.float32)
    vectors[random.random(vectors.shape) < 1e-3] *= 20
    vectors[100:110], vectors[7] = vectors[5], 0
    return vectors


@pytest.fixture(scope="module")
def coded(vectors):
    return CodedIndex.build(vectors)


def queries(count=8):
    found = decaying(count, DIM, 1)
    found[0, :-1] = 0  # nothing but the last coordinate
    found[1] = 0
    found[2] *= 1e-6
    return found


@pytest.mark.parametrize("dimensions", [1, 16, 64, 125, 126, 250, DIM])
@pytest.mark.parametrize("k", [1, 10, 500])
@pytest.mark.parametrize("share", [None, 0.5, 0.01, 0])
def test_exact_searches_find_what_comparing_all_finds(coded, vectors, dimensions, k, share):
    allowed = None if share is None else np.random.default_rng(2).random(len(vectors)) < share
    expected, places = compare_all(queries(), [vectors], k, dimensions, allowed=allowed)
    scores, positions = coded.search(queries(), k, dimensions, allowed=allowed)
    found = places >= 0
    np.testing.assert_array_equal(positions >= 0, found)
    largest = np.abs(np.where(found, expected, 0)).max(axis=1, keepdims=True)
    np.testing.assert_allclose((scores / (largest + 1e-30))[found], (expected / (largest + 1e-30))[found], atol=1e-5)
    assert allowed is None or allowed[positions[found]].all()


@pytest.mark.parametrize("width", [16, 128, 512])
def test_no_score_is_above_its_bound(vectors, width):
    bounds = UpperBounds.build(vectors, width)
    for query in queries():
        scores = vectors @ query
        for least in np.quantile(scores, [0, 0.5, 0.99, 1]):
            above = bounds.above(query, least, None)
            assert set(np.flatnonzero(scores >= least)) <= set(above.tolist())


def test_bounds_leave_out_nearly_all_vectors_that_score_less(vectors):
    query = decaying(1, DIM, 3)[0]
    scores = np.sort(vectors @ query)
    assert len(UpperBounds.build(vectors, 128).above(query, scores[-10], None)) < 0.1 * len(vectors)


def test_an_approximate_search_finds_more_with_more_effort(coded, vectors):
    some = decaying(50, DIM, 4)
    truth = compare_all(some, [vectors], 10, DIM)[1]
    shares = []
    for effort in (10, 40, 160, coded.largest_effort):
        positions = coded.search(some, 10, DIM, effort=effort)[1]
        rows = zip(positions.tolist(), truth.tolist(), strict=True)
        shares.append(np.mean([len(set(found) & set(best)) / 10 for found, best in rows]))
    assert shares == sorted(shares)
    assert shares[0] < 0.95 < shares[2]
    assert shares[-1] == 1


def test_an_approximate_search_among_few_looks_at_more(coded, vectors):
    allowed = np.arange(len(vectors)) % 50 == 0
    positions = coded.search(decaying(5, DIM, 4), 10, DIM, effort=20, allowed=allowed)[1]
    assert (positions >= 0).sum() > 25
    assert allowed[positions[positions >= 0]].all()


def test_several_queries_are_answered_like_one(coded):
    some = decaying(20, DIM, 6)
    for effort in (None, 50):
        together = coded.search(some, 10, DIM, effort=effort)
        for number, query in enumerate(some):
            for one, other in zip(coded.search(query[None], 10, DIM, effort=effort), together, strict=True):
                np.testing.assert_array_equal(one[0], other[number])


@pytest.mark.parametrize("count", [0, 1, 3, 20])
@pytest.mark.parametrize("dim", [1, 5, 40])
def test_few_vectors_of_few_coordinates(count, dim):
    vectors, query = decaying(count, dim), decaying(1, dim, 1)
    coded = CodedIndex.build(vectors)
    for effort in (None, max(1, count)):
        positions = coded.search(query, 5, dim, effort=effort)[1][0]
        assert positions[positions >= 0].tolist() == np.argsort(-(vectors @ query[0]))[:5].tolist()


@pytest.mark.parametrize("mapped", [False, True])
def test_vectors_are_read_into_memory_or_mapped(coded, vectors, tmp_path, mapped):
    np.save(tmp_path / VECTORS, vectors)
    coded.write(tmp_path)
    stored = CodedIndex.read(tmp_path, mapped=mapped)
    assert isinstance(stored.vectors, np.memmap) == mapped
    for effort in (None, 30):
        one, other = (index.search(queries(), 10, DIM, effort=effort) for index in (coded, stored))
        np.testing.assert_array_equal(one, other)


def test_codes_are_small(vectors):
    shortlist, bounds = Shortlist.build(vectors), UpperBounds.build(vectors, 128)
    assert shortlist.codes.code_size == 32
    assert bounds.codes.code_size == 128
