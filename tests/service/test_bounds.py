"""Small requests that ask for much: refused at once, briefly, and with nothing large done on the event loop."""

import asyncio
import base64
import json
import shutil
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from index.gallery import filters
from service import json_fields, schemas, searches
from service.app import create_app
from service.engine import searching
from service.engine.lifecycle import Engine
from service.http import bodies
from service.http.metrics import Metrics
from service.routes import photos
from service.settings import ServiceSettings

JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}
BRIEF = 5000  # bytes of an answer that lists errors


@pytest.fixture(scope="module")
def writing(gallery_path, tmp_path_factory):
    """A client that may write, of a service with the limits that it has by itself."""
    path = shutil.copytree(gallery_path, tmp_path_factory.mktemp("bounds") / "gallery")
    settings = ServiceSettings(gallery=path, device="cpu", runtime="torch", anonymous="write", reload_seconds=0)
    with TestClient(create_app(settings, Engine(settings, Metrics()))) as client:
        yield client


@pytest.fixture
def image(sketch):
    return base64.b64encode(sketch).decode()


def on_the_loop():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def unknown(count):
    return {f"field {number}": 1 for number in range(count)}


def send(client, path, body):
    method = "PATCH" if path.startswith("/v1/photos") else "POST"
    return client.request(method, path, content=json.dumps(body, separators=(",", ":")), headers=JSON)


MANY = [
    ("/v1/embeddings", {"input": [1] * 1_000_000}, 413),
    ("/v1/embeddings", {"input": [1] * 100_000}, 413),
    ("/v1/embeddings", {"input": [1] * 32}, 422),
    ("/v1/embeddings", {"input": [""], **unknown(10_000)}, 422),
    ("/v1/embeddings", {"input": [""], "model": "m" * 100_000}, 422),
    ("/v1/search", unknown(150_000), 413),
    ("/v1/search", unknown(10_000), 422),
    ("/v1/search", unknown(90), 422),
    ("/v1/search", {"x" * 200_000: 1}, 422),
    ("/v1/search", {"photo_id": 1, "filter": unknown(10_000)}, 422),
    ("/v1/search", {"photo_id": 1, "filter": {"a": [[]] * 80_000}}, 422),
    ("/v1/search", {"photo_id": 1, "filter": {"a": unknown(10_000)}}, 422),
    ("/v1/search/batch", {"searches": [1] * 1_000_000}, 413),
    ("/v1/search/batch", {"searches": [1] * 100_000}, 413),
    ("/v1/search/batch", {"searches": [{}], **unknown(10_000)}, 422),
    ("/v1/photos/1", unknown(150_000), 413),
    ("/v1/photos/1", unknown(10_000), 422),
    ("/v1/photos/1", {"label": "l" * 200_000}, 422),
]


@pytest.mark.parametrize(("path", "body", "status"), MANY)
def test_bodies_of_many_values_are_refused_briefly(writing, path, body, status):
    response = send(writing, path, body)
    assert response.status_code == status, response.text[:1000]
    assert len(response.content) < BRIEF


def test_the_searches_of_a_batch_are_refused_briefly(writing):
    searches = [unknown(500)] * 16 + [unknown(90)] * 16
    answer = send(writing, "/v1/search/batch", {"searches": searches})
    assert {item["status"] for item in answer.json()["items"]} == {422}
    assert len(answer.content) < 32 * BRIEF


def test_images_do_not_count_as_text(writing, sketch):
    picture = base64.b64encode(sketch + bytes(bodies.MAX_TEXT_BYTES)).decode()
    for text in (picture, f"data:image/png;base64,{picture}", "\n".join([picture[:70_000], picture[70_000:]])):
        assert send(writing, "/v1/search", {"image": text}).status_code == 200
    searches = [{"image": picture, "limit": 1}] * 3
    items = send(writing, "/v1/search/batch", {"searches": searches}).json()["items"]
    assert [item["status"] for item in items] == [200] * 3
    assert len(send(writing, "/v1/embeddings", {"input": [picture] * 3}).json()["data"]) == 3


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/search"),
        ("POST", "/v1/search/batch"),
        ("GET", "/v1/photos"),
        ("GET", "/v1/photos/1/thumbnail"),
        ("DELETE", "/v1/photos/1"),
        ("GET", "/livez"),
        ("GET", "/metrics"),
        ("GET", "/"),
        ("GET", "/static/app.js"),
        ("GET", "/nothing"),
    ],
)
def test_queries_of_many_parameters_are_refused_before_they_are_parsed(writing, method, path, monkeypatch):
    monkeypatch.setattr("starlette.datastructures.parse_qsl", lambda *_, **__: pytest.fail("it was parsed"))
    answer = writing.request(method, f"{path}?{urlencode(unknown(2000))}")
    assert answer.status_code == 422
    assert "2000 query parameters are more than the limit of 100" in answer.json()["detail"]
    assert len(answer.content) < BRIEF


def test_a_query_may_have_as_many_parameters_as_the_limit(writing):
    assert writing.get(f"/livez?{urlencode(unknown(100))}").status_code == 200


def test_forms_of_much_text_are_refused(writing, sketch):
    fields = {"filter": "x" * (bodies.MAX_TEXT_BYTES // 2 + 1), "limit": "1" * (bodies.MAX_TEXT_BYTES // 2)}
    answer = writing.post("/v1/search", files={"file": sketch}, data=fields)
    assert (answer.status_code, len(answer.content) < BRIEF) == (413, True)


@pytest.fixture
def recorded(monkeypatch):
    """Whether each call of what reads, checks and writes bodies came from the event loop, by name."""
    calls = {}

    def record(owner, name):
        function = getattr(owner, name)

        def recording(*args, **kwargs):
            calls.setdefault(name, set()).add(on_the_loop())
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, recording)

    record(bodies, "from_json")
    for model in (searches.SearchRequest, searches.SearchForm, schemas.EmbeddingRequest, schemas.PhotoDescription):
        record(model, "model_validate")
    for model in (schemas.SearchResponse, schemas.BatchResponse, schemas.PhotoPage, schemas.EmbeddingResponse):
        record(model, "model_dump_json")
    return calls


def test_bodies_are_read_and_answers_written_in_other_threads(writing, image, sketch, recorded):
    def calls_of(response):
        assert response.status_code in (200, 201), response.text
        seen = dict(recorded)
        recorded.clear()
        return seen

    read, checked, written = {"from_json": {False}}, {"model_validate": {False}}, {"model_dump_json": {False}}
    assert calls_of(send(writing, "/v1/search", {"image": image})) == read | checked | written
    assert calls_of(send(writing, "/v1/search/batch", {"searches": [{"photo_id": 1}]})) == read | checked | written
    assert calls_of(writing.post("/v1/search", content=sketch, headers=PNG)) == checked | written
    assert calls_of(writing.post("/v1/search", files={"file": sketch}, data={"limit": 3})) == checked | written
    assert calls_of(send(writing, "/v1/embeddings", {"input": [image]})) == read | checked | written
    assert calls_of(send(writing, "/v1/photos/1", {"metadata": {"a": 1}})) == read | checked
    assert calls_of(writing.post("/v1/photos", files={"file": sketch}, data={"metadata": "{}"})) == checked
    assert calls_of(writing.get("/v1/photos")) == written


def nested(depth):
    value = {"a": 1}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (unknown(100_000), "bytes"),
        (unknown(json_fields.MAX_METADATA_KEYS + 1), "keys, not 257"),
        (nested(json_fields.MAX_METADATA_DEPTH), "deep"),
        ({"a": nested(100)}, "deep"),
        ({"k" * (json_fields.MAX_METADATA_KEY + 1): 1}, "200 characters"),
        ({"a": "x" * json_fields.MAX_METADATA_BYTES}, "bytes"),
        ({"a": ["xyz"] * 20_000}, "bytes"),
    ],
)
def test_metadata_of_many_values(writing, sketch, metadata, message):
    text = json.dumps(metadata)
    answers = [writing.post("/v1/photos", files={"file": sketch}, data={"metadata": text})]
    if len(text) < 50_000:
        answers.append(writing.post("/v1/photos", content=sketch, headers=PNG, params={"metadata": text}))
    if len(text) < bodies.MAX_TEXT_BYTES:
        answers.append(send(writing, "/v1/photos/1", {"metadata": metadata}))
    for answer in answers:
        if answer.status_code in (400, 413):  # a form's field, or a form, that is too large in itself
            assert len(text) > bodies.MAX_TEXT_BYTES
            continue
        assert answer.status_code == 422
        assert message in answer.json()["detail"]
        assert len(answer.content) < BRIEF


def test_metadata_at_its_limits(writing):
    for metadata in (
        unknown(json_fields.MAX_METADATA_KEYS),
        nested(json_fields.MAX_METADATA_DEPTH - 1),
        {"a": "x" * 60_000},
        {"k" * json_fields.MAX_METADATA_KEY: 1},
    ):
        answer = send(writing, "/v1/photos/1", {"metadata": metadata})
        assert answer.json()["metadata"] == metadata


def test_contributions_are_limited_for_a_whole_answer(writing, image, monkeypatch):
    monkeypatch.setattr(searching, "MAX_CONTRIBUTIONS", 100)
    searched = []
    monkeypatch.setattr(searching, "_find", lambda *args, **options: searched.append(args))
    much = {"photo_id": 1, "limit": 10, "dimensions": 11, "with_contributions": True}
    for body in (much, {"image": image, "limit": 10, "with_contributions": True}):
        answer = send(writing, "/v1/search", body)
        assert answer.status_code == 422
        assert "'limit' times 'dimensions'" in answer.json()["detail"]
    half = much | {"dimensions": 6}
    answer = send(writing, "/v1/search/batch", {"searches": [half, half]})
    assert answer.status_code == 422
    assert "asks for 120 numbers" in answer.json()["detail"]
    assert not searched


def test_results_are_limited_for_a_whole_answer(writing, monkeypatch):
    searched = []
    monkeypatch.setattr(searching, "_find", lambda *args, **options: searched.append(args))
    answer = send(writing, "/v1/search/batch", {"searches": [{"photo_id": 1, "limit": 1000}] * 11})
    assert answer.status_code == 422
    assert "ask for 11000 photos, the sum of every 'limit', more than the limit of 10000" in answer.json()["detail"]
    assert not searched


@pytest.fixture
def wordy(writing):
    """The client, with photos that have 1.4 MB of metadata together."""
    for number in range(1, 25):
        assert send(writing, f"/v1/photos/{number}", {"metadata": {"a": "x" * 60_000}}).status_code == 200
    yield writing
    for number in range(1, 25):
        assert send(writing, f"/v1/photos/{number}", {"metadata": {}}).status_code == 200


def test_metadata_is_limited_for_a_whole_answer(wordy, monkeypatch):
    monkeypatch.setattr(searching, "MAX_METADATA", 1_000_000)
    search = {"photo_id": 1, "limit": 24}
    refused = send(wordy, "/v1/search", search)
    assert refused.status_code == 422
    assert "more than 1000000 bytes, the limit of this answer; lower 'limit'" in refused.json()["detail"]
    assert len(send(wordy, "/v1/search", search | {"with_payload": False}).json()["results"]) == 24
    assert len(send(wordy, "/v1/search", search | {"limit": 10}).json()["results"]) == 10
    batch = {"searches": [search | {"limit": 10}] * 4 + [search | {"limit": 4}] * 4}
    answer = send(wordy, "/v1/search/batch", batch)
    assert [item["status"] for item in answer.json()["items"]] == [422] * 4 + [422] * 4
    batch = {"searches": [search | {"limit": 10}, search | {"limit": 4}]}
    answer = send(wordy, "/v1/search/batch", batch)
    assert [item["status"] for item in answer.json()["items"]] == [422, 200]
    assert len(answer.content) < 1_000_000


def test_pages_of_photos_end_early_where_there_is_much_metadata(wordy, monkeypatch):
    monkeypatch.setattr(photos, "_MAX_LISTED", 200_000)
    found, after = [], 0
    while after is not None:
        answer = wordy.get("/v1/photos", params={"limit": 10, "after": after})
        assert len(answer.content) < 400_000
        found += [photo["id"] for photo in answer.json()["photos"]]
        after = answer.json()["next_after"]
    assert found[:24] == list(range(1, 25))


def test_a_long_path_takes_little_room_in_the_log(writing, caplog):
    with caplog.at_level("INFO"):
        assert writing.get("/" + "é" * 8000).status_code == 404
    assert max(len(str(vars(record))) for record in caplog.records if record.name == "svdraw.access") < 5000


def test_contributions_within_the_limit(writing, monkeypatch):
    monkeypatch.setattr(searching, "MAX_CONTRIBUTIONS", 100)
    half = {"photo_id": 1, "limit": 10, "dimensions": 5, "with_contributions": True}
    whole = {"photo_id": 1, "limit": 1000}
    items = send(writing, "/v1/search/batch", {"searches": [half, half, whole, "nonsense"]}).json()["items"]
    assert [item["status"] for item in items] == [200, 200, 200, 422]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"a": 10**30}),
        json.dumps({"a": {"gt": -(2**63) - 1}}),
        '{"a": 1e999}',
        '{"a": NaN}',
        json.dumps({"a": "x\0y"}),
        json.dumps({"a\0": 1}),
        '{"a": "\\ud800"}',
        '{"\\ud800": 1}',
        json.dumps({"label": "x" * (filters.MAX_TEXT + 1)}),
        json.dumps({"x" * 201: 1}),
        json.dumps({"a": list(range(filters.MAX_VALUES + 1))}),
        json.dumps(unknown(filters.MAX_FIELDS + 1)),
        '{"a": ' + "[" * 300 + "]" * 300 + "}",
    ],
)
def test_filters_that_no_database_can_take(writing, sketch, text, caplog):
    answers = [
        writing.post("/v1/search", files={"file": sketch}, data={"filter": text}),
        writing.post("/v1/search", content=sketch, headers=PNG, params={"filter": text}),
    ]
    by_json = writing.post("/v1/search", content=f'{{"photo_id": 1, "filter": {text}}}', headers=JSON)
    assert by_json.status_code in (400, 422)  # what is no JSON at all is the body's fault
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert "filter" in answer.json()["detail"]
        assert "\n" not in answer.json()["detail"]
        assert len(answer.content) < BRIEF
    assert "damaged" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_the_largest_filter(writing):
    wanted = {f"f{number}": list(range(200)) for number in range(filters.MAX_FIELDS)}
    wanted["f0"] = ["x" * filters.MAX_TEXT, *range(filters.MAX_VALUES - 1)]
    answer = send(writing, "/v1/search", {"photo_id": 1, "filter": wanted})
    assert (answer.status_code, answer.json()["results"]) == (200, [])
