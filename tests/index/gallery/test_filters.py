from contextlib import closing

import numpy as np
import pytest

from index.errors import FilterError
from index.gallery.directory import Gallery
from index.gallery.filters import MAX_FIELDS, MAX_TEXT, MAX_VALUES, filter_condition, parse_filter
from index.gallery.searcher import Searcher
from tests.index.conftest import decaying


@pytest.fixture
def path(fill):
    return fill(decaying(60, 16), metadata=lambda number: {"year": 1900 + number, "open": number % 2 == 0, "a b": "x"})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, range(60)),
        ({"label": "class 3"}, range(3, 60, 7)),
        ({"label": ["class 3", "class 4"]}, sorted([*range(3, 60, 7), *range(4, 60, 7)])),
        ({"label": []}, []),
        ({"year": {"gte": 1910, "lt": 1912}}, [10, 11]),
        ({"year": {"ne": 1900}, "open": True, "label": "class 0"}, [14, 28, 42, 56]),
        ({"uri": "/photos/5.png"}, [5]),
        ({"a b": "x", "id": {"lte": 2}}, [0, 1]),
        ({"missing": None, "year": 1901}, [1]),
        ({"missing": 3}, []),
        ({"year": "1901"}, []),
        ({"label": "x' OR 1=1 --"}, []),
    ],
)
def test_filters_select(path, wanted, expected):
    with closing(Gallery.open(path)) as gallery:
        assert (gallery.catalogue.select(wanted) - 1).tolist() == list(expected)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"year": {"near": 3}}, "no comparison is called 'near'"),
        ({"year": {"gt": [3]}}, "compare with text"),
        ({"year": [{}]}, "compare with text"),
        ({"year": {"gt": None}}, "compare with text"),
        ({'a"b': 3}, "cannot be named"),
        ({"": 3}, "cannot be named"),
        ({"a\0": 3}, "cannot be named"),
        ({"\ud800": 3}, "cannot be named"),
        ({"x" * 201: 3}, "cannot be named"),
        ({"year": 2**63}, "whole numbers must lie between"),
        ({"year": {"gt": -(2**63) - 1}}, "whole numbers must lie between"),
        ({"year": [float("nan")]}, "numbers must be finite"),
        ({"year": float("inf")}, "numbers must be finite"),
        ({"label": "a\0b"}, "null characters"),
        ({"label": ["\udfff"]}, "surrogate"),
        ({"label": {"ne": "x" * (MAX_TEXT + 1)}}, "at most 10000 characters, not 10001"),
        ({"label": list(range(MAX_VALUES + 1))}, "at most 1000 values, not 1001"),
        ({str(number): 1 for number in range(MAX_FIELDS + 1)}, "at most 32 fields, not 33"),
    ],
)
def test_senseless_filters(wanted, message):
    with pytest.raises(FilterError, match=message) as caught:
        filter_condition(wanted)
    assert "filter" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_is_just_allowed(path):
    wanted = {str(number): 1 for number in range(MAX_FIELDS - 2)}
    wanted |= {"x" * 200: {"ne": -(2**63)}, "label": ["x" * MAX_TEXT, 2**63 - 1, *range(MAX_VALUES - 2)]}
    with closing(Gallery.open(path)) as gallery:
        assert gallery.catalogue.select(wanted).tolist() == []


@pytest.mark.parametrize("text", ["{", "[1]", "3", "[" * 100_000, '{"a": ' + "1" * 5000 + "}"])
def test_filters_must_be_json_objects(text):
    with pytest.raises(FilterError, match="filter"):
        parse_filter(text)


@pytest.mark.parametrize("kind", ["exact", "codes", "disk"])
def test_a_filtered_search_is_complete(fill, kind):
    vectors = decaying(9000, 16)
    path = fill(vectors, name=kind, kind=kind, target=0.9, metadata=lambda number: {"half": number % 2})
    fill(decaying(20, 16, 7), start=9000, name=kind, metadata=lambda number: {"half": number % 2})
    vectors = np.concatenate([vectors, decaying(20, 16, 7)])
    searcher, query = Searcher.open(path, "cpu"), decaying(1, 16, 4)
    ordered, [prefix] = searcher.order.photos(vectors)[:, :4], searcher.order.sketches(query)[:, :4]
    for wanted, chosen in (({"half": 1}, np.arange(1, 9020, 2)), ({"label": "class 2"}, np.arange(2, 9020, 7))):
        with closing(Gallery.open(path)) as gallery:
            ids = gallery.catalogue.select(wanted)
        best = chosen[np.argsort(-(ordered[chosen] @ prefix), kind="stable")]
        pages = [searcher.search(query, 9, dimensions=4, offset=o, ids=ids)[0] for o in range(0, 36, 9)]
        assert [hit.id - 1 for page in pages for hit in page] == best[:36].tolist()
        assert len(searcher.search(query, 10_000, dimensions=4, ids=ids)[0]) == len(chosen)
    assert searcher.search(query, 5, ids=np.empty(0, np.int64)) == [[]]


def test_photos_with_the_same_content_are_found_once(fill):
    contents = [number // 3 for number in range(90)]
    path = fill(np.repeat(decaying(30, 16), 3, axis=0), contents=contents)
    searcher, query = Searcher.open(path, "cpu"), decaying(1, 16, 2)
    everything = [hit.id for hit in searcher.search(query, 90)[0]]
    once = [hit.id for hit in searcher.search(query, 90, unique=True)[0]]
    assert once == [i for i in everything if i % 3 == 1]
    pages = [searcher.search(query, 7, offset=offset, unique=True)[0] for offset in range(0, 35, 7)]
    assert [hit.id for page in pages for hit in page] == once
    among = np.array([2, 3, 4, 6])
    assert sorted(hit.id for hit in searcher.search(query, 9, ids=among, unique=True)[0]) == [2, 4]
