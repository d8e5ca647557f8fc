"""The mutators: what they make is what they say, and what they send reaches every operation."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.settings import ServiceSettings
from tests.hostile.attempts import Api
from tests.hostile.pictures import MOST, damaged, flipped, overwritten, pictures, repeated, spliced
from tests.hostile.values import EVIL, changed, nested, places
from training.model.images import read_image

QUICK = settings(max_examples=15)


@pytest.fixture(scope="module")
def originals():
    return pictures()


@pytest.fixture(scope="module")
def api(originals):
    return Api(create_app(ServiceSettings(gallery="unused")).openapi(), originals, "the key", kept=24)


def test_the_originals_are_pictures(originals):
    for name, content in originals.items():
        assert read_image(content, drawing=True)[0].width, name


def test_mutators():
    assert flipped(b"abc", 1, 3) == b"aac"
    assert overwritten(b"abcd", 1, b"XY") == b"aXYd"
    assert overwritten(b"abcd", 3, b"XY") == b"abcX"
    assert spliced(b"abcd", 2, b"12345", 3) == b"ab45"
    assert repeated(b"abcd", 1, 3, 3) == b"abcbcbcd"
    assert len(repeated(b"abcd", 0, 4, 10**9)) <= MOST


@QUICK
@given(data=st.data())
def test_damage_is_bounded_and_damages(originals, data):
    assert len(data.draw(damaged(originals))) <= MOST


def test_damage_is_of_every_kind(originals):
    whole, seen = originals["png"], set()

    @settings(QUICK, max_examples=300)
    @given(content=damaged({"png": whole}))
    def look(content):
        if content == whole:
            seen.add("none")
        elif len(content) == len(whole):
            seen.add("changed")
        elif whole.startswith(content):
            seen.add("cut")
        elif len(content) > len(whole) + 5000:
            seen.add("repeated")

    look()
    assert seen == {"none", "changed", "cut", "repeated"}


def test_places_are_all_there_are():
    value = {"a": [1, {"b": 2}], "c": 3}
    assert [key for _, key in places(value)] == ["a", "c", 0, 1, "b"]
    assert places(7) == []


def test_nesting_is_as_deep_as_asked():
    assert nested(1, 3) == [{"a": [1]}]


@QUICK
@given(data=st.data())
def test_a_change_leaves_the_value_itself_alone(data):
    value = {"a": [1, {"b": 2}], "c": 3}
    data.draw(changed(value))
    assert value == {"a": [1, {"b": 2}], "c": 3}


def test_evil_values_can_be_sent():
    for value in EVIL:
        assert json.dumps(value)


def test_the_operations_are_those_of_the_document(api):
    paths = {(operation.method, operation.path) for operation in api.operations}
    assert {("POST", "/v1/search"), ("DELETE", "/v1/photos/{photo_id}"), ("GET", "/livez")} <= paths


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("kind", ["texts", "forms", "images"])
def test_bodies_are_framed(api, kind, data):
    request = data.draw(getattr(api, kind)())
    head, body = request.content.split(b"\r\n\r\n", 1)
    assert request.is_whole
    assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
    assert b"api-key: the key" in head


@settings(QUICK, max_examples=150)
@given(data=st.data())
def test_photos_that_must_stay_are_not_removed(api, data):
    request = data.draw(api.heads())
    if request.content.startswith(b"DELETE"):
        assert int(request.content.split(b" ")[1].rsplit(b"/", 1)[1]) > 24
