from contextlib import closing

import numpy as np
import pytest

from index.errors import FilterError, QueryTimeout
from index.gallery.directory import Gallery
from index.gallery.filters import MAX_FIELDS, MAX_TEXT, MAX_VALUES, conditions, parse_filter
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


METADATA = [
    {"tags": ["red", "blue"], "year": 1999, "shop": {"city": "Seoul", "floor": {"n": 3}}},
    {"tags": "red", "year": "1999", "shop.city": "Oslo", "shop": {"city": "Seoul"}},
    {"tags": ["green", 5, None, ["red"], {"red": 1}], "year": 1999.5, "taken": "2024-05-01T10:00:00+00:00"},
    {"tags": [], "year": None, "width": 3, "taken": "2023-12-31T23:59:59+00:00", "shop": "Seoul"},
    {"tags": {"red": "red"}, "year": True, "metadata": {"width": 9}, "taken": "2024-05-02"},
    {},
    {"tags": ["blue", "red", "red"], "year": 2**70, "o'clock $.x": "ä", "shop.city": None, "": 1},
]
SEMANTICS = [
    ({"tags": "red"}, [0, 1, 6]),
    ({"tags": ["green", "blue"]}, [0, 2, 6]),
    ({"tags": {"ne": "red"}}, [2]),
    ({"tags": None}, [3, 4, 5]),
    ({"tags": {}}, [0, 1, 2, 6]),
    ({"tags": 5}, [2]),
    ({"tags": {"gt": "b", "lt": "c"}}, [0, 6]),
    ({"tags": "red", "year": 1999}, [0]),
    ({"year": {"gte": 1999}}, [0, 2, 6]),
    ({"year": {"gt": "1"}}, [1]),
    ({"year": {"lt": "2"}}, [1]),
    ({"year": {"lte": 1999}}, [0, 4]),
    ({"year": {"ne": 1999}}, [1, 2, 4, 6]),
    ({"year": {"ne": "1999", "lt": 1e9}}, [0, 2, 4]),
    ({"year": True}, [4]),
    ({"year": [1999, "1999", 1999.5]}, [0, 1, 2]),
    ({"shop.city": "Seoul"}, [0]),
    ({"shop.city": "Oslo"}, [1]),
    ({"shop.floor.n": {"gt": 2}}, [0]),
    ({"shop": "Seoul"}, [3]),
    ({"shop.city": None}, [2, 3, 4, 5, 6]),
    ({"width": 3}, []),
    ({"width": 8, "metadata.width": 3}, [3]),
    ({"metadata.year": 1999}, [0]),
    ({"taken": {"gte": "2024-05-01"}}, [2, 4]),
    ({"taken": {"lt": "2024-05-01T10:00:00+00:00"}}, [3]),
    ({"o'clock $.x": "ä"}, [6]),
    ({"nobody.has.this": 1}, []),
    ({"nobody": {"ne": 1}}, []),
    ({"nobody": None, "label": ["class 1", "class 2"], "width": {"gte": 8, "lt": 9}}, [1, 2]),
    ({"label": {"ne": "class 1"}, "height": {"gt": 8}}, []),
    ({"label": {"ne": "class 1"}, "height": {"lte": 8}}, [0, 2, 3, 4, 5, 6]),
    ({"label": 1}, []),
    ({"width": "8"}, []),
    ({"width": {"gt": "1"}, "label": {"lt": 3}}, []),
    ({"width": [8, "8"], "label": ["class 0", 4]}, [0]),
]
FILTERABLE = [
    "tags",
    "year",
    "shop.city",
    "shop.floor.n",
    "shop",
    "metadata.width",
    "taken",
    "label",
    "width",
    "height",
]


@pytest.mark.parametrize("filterable", [[], FILTERABLE, ["tags", "label", "o'clock $.x", "nobody"]])
def test_what_filters_mean(fill, filterable):
    path = fill(decaying(7, 16), metadata=METADATA.__getitem__)
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.make_filterable(filterable)
        for wanted, expected in SEMANTICS:
            assert (gallery.catalogue.select(wanted) - 1).tolist() == expected, wanted


def test_filters_on_what_changed_since_fields_were_made_filterable(fill):
    path = fill(decaying(7, 16), metadata=METADATA.__getitem__)
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.make_filterable(FILTERABLE)
        catalogue = gallery.catalogue

        def found(wanted):
            return (catalogue.select(wanted) - 1).tolist()

        catalogue.describe(
            {1: ("other", {"tags": ["blue"]}), 6: ("class 5", {"tags": "red", "year": 7}), 99: (None, {})}
        )
        assert found({"tags": "red"}) == [1, 5, 6]
        assert found({"tags": "blue"}) == [0, 6]
        assert found({"label": "other"}) == [0]
        assert found({"shop.city": "Seoul"}) == []
        catalogue.remove([2, 7, 99])
        assert found({"tags": "red"}) == [5]
        assert found({"tags": None}) == [3, 4]
        fill(decaying(2, 16, 1), start=5, metadata=lambda number: {"tags": ["red"], "year": number})  # replaces a photo
        assert found({"tags": "red"}) == [5, 8]
        assert found({"year": 7}) == []
        assert found({"year": [5, 6]}) == [5, 8]
        gallery.make_filterable(None)
        assert found({"tags": "red"}) == [5, 8]
        gallery.make_filterable([])
        assert found({"tags": "red"}) == [5, 8]


def test_photos_by_the_thousand_have_postings(fill):
    path = fill(decaying(9000, 16), metadata=lambda number: {"year": 1900 + number % 3, "n": number, "odd": number % 2})
    wanted = [{"year": 1901}, {"year": {"gte": 1901}}, {"n": {"gte": 4000, "lt": 4500}, "year": 1902}, {"n": 8999}]
    wanted += [{"odd": {"ne": 1}, "label": "class 3"}, {"odd": None}, {"year": 1900, "odd": 0, "id": {"gt": 8000}}]
    with closing(Gallery.open(path, write=True)) as gallery:
        expected = [gallery.catalogue.select(one).tolist() for one in wanted]
        assert [len(one) for one in expected] == [3000, 6000, 167, 1, 643, 0, 166]
        gallery.make_filterable(["year", "n", "odd"])
        assert [gallery.catalogue.select(one).tolist() for one in wanted] == expected
        gallery.make_filterable(["odd"])
        assert [gallery.catalogue.select(one).tolist() for one in wanted] == expected
        gallery.catalogue.remove(list(range(1, 9000)))
        assert [gallery.catalogue.select(one).tolist() for one in wanted] == [[], [9000], [], [9000], [], [], []]


def test_filters_on_filterable_fields_read_no_photos(fill, plans):
    path = fill(decaying(50, 16), metadata=lambda number: {"year": number})
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.make_filterable(["year", "label"])
    with closing(Gallery.open(path)) as gallery:
        plans.clear()
        assert len(gallery.catalogue.select({"year": {"gt": 10}, "label": ["class 1", "class 2"]})) == 10
        assert [plan for plan in plans if plan.startswith("SCAN photos")] == []
        gallery.catalogue.select({"month": 1})
        assert [plan for plan in plans if plan.startswith("SCAN photos")] != []


@pytest.mark.parametrize(("name", "message"), [("uri", "differs from photo to photo"), ('a"b', "cannot be named")])
def test_fields_that_cannot_be_filterable(path, name, message):
    with closing(Gallery.open(path, write=True)) as gallery:
        with pytest.raises(FilterError, match=message):
            gallery.make_filterable(["year", name])
        assert len(gallery.catalogue.select({"year": 1901})) == 1


def test_a_filter_that_takes_too_long_says_how_to_make_it_quick(path, monkeypatch):
    monkeypatch.setattr("index.gallery.database._STEPS", 1)  # between two looks at the clock
    with closing(Gallery.open(path)) as gallery:
        with pytest.raises(QueryTimeout, match=r"longer than 0 seconds.*--filterable .*: year, month"):
            gallery.catalogue.select({"year": 3, "month": {"gte": 7}}, seconds=0)
        assert len(gallery.catalogue.select({"year": 1901}, seconds=60)) == 1


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
        ({"color": "reddish"}, "a colour is #rrggbb or one of black, white"),
        ({"color": ["red", 3]}, "a colour is #rrggbb or one of"),
        ({"color": {"ne": None}}, "a colour is #rrggbb or one of"),
        ({"color": {"eq": {}}}, "a colour is #rrggbb or one of"),
        ({"color": {"gte": "red"}}, "compare by eq and ne alone, not by gte"),
        ({"color": ["red"] * (MAX_VALUES + 1)}, "at most 1000 values"),
        ({"label": list(range(MAX_VALUES + 1))}, "at most 1000 values, not 1001"),
        ({str(number): 1 for number in range(MAX_FIELDS + 1)}, "at most 32 fields, not 33"),
    ],
)
def test_senseless_filters(wanted, message):
    with pytest.raises(FilterError, match=message) as caught:
        conditions(wanted)
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
