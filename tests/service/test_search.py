import base64
import io
import json
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from index.gallery.database import Database
from index.gallery.directory import Gallery
from index.gallery.expansion import expanded
from index.gallery.generations import load_generation
from index.gallery.searcher import MAX_HITS, Searcher
from service import searches
from training.model.bundle import load_bundle
from training.model.images import open_image

PNG = {"Content-Type": "image/png"}


def ids(response):
    assert response.status_code == 200, response.text
    return [result["id"] for result in response.json()["results"]]


def assert_problem(response, status, detail):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert detail in problem["detail"]


def vectors_of(generation):
    return np.concatenate([vectors for _, vectors in generation.blocks()])


@pytest.mark.parametrize("dimensions", [1, 3, 16, None])
def test_results_are_those_of_brute_force(client, gallery_path, sketch, dimensions):
    bundle, generation = load_bundle(gallery_path / "model", "cpu"), load_generation(gallery_path)
    prefix = slice(0, dimensions or 12)
    query = bundle.encode_sketches([open_image(sketch)])
    baseline = generation.order.baseline(query)[0]
    scores = vectors_of(generation)[:, prefix] @ generation.order.sketches(query)[0, prefix] + baseline
    options = {} if dimensions is None else {"dimensions": dimensions}
    response = client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 7} | options)
    np.testing.assert_allclose(
        [result["score"] for result in response.json()["results"]], np.sort(scores)[::-1][:7], rtol=1e-3, atol=1e-5
    )
    assert response.json()["dimensions"] == (dimensions or 12)
    assert response.json()["total"] == 24
    assert response.json()["baseline"] == pytest.approx(baseline)


def test_every_way_to_send_a_sketch_gives_the_same(client, sketch):
    encoded = base64.b64encode(sketch).decode()
    raw = client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 5, "dimensions": 8})
    for response in (
        client.post("/v1/search", files={"file": ("a.png", sketch)}, data={"limit": 5, "dimensions": 8}),
        client.post("/v1/search", files={"file": ("a.png", sketch)}, params={"limit": 5, "dimensions": 8}),
        client.post("/v1/search", json={"image": encoded, "limit": 5, "dimensions": 8}),
        client.post(
            "/v1/search", json={"image": f"data:image/png;base64,{encoded}", "limit": 5}, params={"dimensions": 8}
        ),
        client.post(
            "/v1/search",
            content=sketch,
            headers={"Content-Type": "application/octet-stream"},
            params={"limit": 5, "dimensions": 8},
        ),
    ):
        assert ids(response) == ids(raw)
    assert len(ids(raw)) == 5


def test_pages_thresholds_and_payload(client, sketch):
    def search(**options):
        return client.post("/v1/search", content=sketch, headers=PNG, params=options)

    whole = search(limit=24)
    assert sorted(ids(whole)) == list(range(1, 25))
    assert ids(search(limit=5, offset=5)) == ids(whole)[5:10]
    threshold = whole.json()["results"][3]["score"]
    assert ids(search(limit=24, score_threshold=threshold - 1e-6)) == ids(whole)[:4]
    assert whole.json()["results"][0].keys() >= {"id", "score", "uri", "label", "image_url", "thumbnail_url"}
    assert search(limit=1, with_payload=False).json()["results"][0]["uri"] is None


def test_the_deepest_page(client, sketch):
    assert searches.MAX_HITS == MAX_HITS
    options = {"limit": 10, "offset": MAX_HITS - 10}
    assert ids(client.post("/v1/search", content=sketch, headers=PNG, params=options)) == []


def test_timings_and_request_ids(client, sketch):
    response = client.post("/v1/search", content=sketch, headers=PNG | {"X-Request-ID": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"
    assert [part.split(";")[0].strip() for part in response.headers["server-timing"].split(",")] == [
        "read",
        "queue",
        "decode",
        "encode",
        "search",
        "total",
    ]
    hostile = client.get("/livez", headers={"X-Request-ID": "x" * 500})
    assert len(hostile.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 10_000}, "offset"),
        ({"offset": 1_000_000_000}, "offset"),
        ({"offset": 9_990, "limit": 11}, "offset + limit at most 10000"),
        ({"dimensions": 17}, "dimensions must be 1 to 16, not 17"),
        ({"dimensions": 0}, "dimensions"),
        ({"score_threshold": "nan"}, "score_threshold"),
        ({"recall": 0}, "recall"),
        ({"recall": 1.01}, "recall"),
        ({"recall": "nan"}, "recall"),
        ({"unique": "maybe"}, "unique"),
        ({"expand": -0.1}, "expand"),
        ({"expand": 5}, "expand"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_options(client, sketch, options, detail):
    encoded = base64.b64encode(sketch).decode()
    assert_problem(client.post("/v1/search", content=sketch, headers=PNG, params=options), 422, detail)
    assert_problem(client.post("/v1/search", files={"file": sketch}, data=options), 422, detail)
    assert_problem(client.post("/v1/search", json={"image": encoded} | options), 422, detail)


@pytest.mark.parametrize(
    ("content", "media_type", "status", "detail"),
    [
        (b"", "image/png", 400, "no image"),
        (b"just text", "image/png", 400, "not an image"),
        (b"{}", "text/plain", 415, "send the image as"),
        (b"", "", 415, "send the image as"),
        (b"{", "application/json", 400, "not JSON"),
        (b"[]", "application/json", 422, "must be an object"),
        (b"{}", "application/json", 422, "'image', in base64, or 'photo_id'"),
        (b'{"image": "", "photo_id": 1}', "application/json", 422, "one of them"),
        (b'{"image": 3}', "application/json", 422, "image: Input should be a valid string"),
        (b'{"image": "", "score_threshold": NaN}', "application/json", 400, "not JSON"),
        (b'{"photo_id": 999}', "application/json", 404, "no photo 999"),
        (b'{"image": "%%%"}', "application/json", 400, "not base64"),
        (b'{"image": ""}', "application/json", 400, "no image"),
        (b"[" * 50_000, "application/json", 400, "not JSON"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 422, "no file field"),
        (b"x", "multipart/form-data", 400, "Missing boundary"),
        (b"x" * 100_001, "image/png", 413, "larger than the limit of 100000 bytes"),
    ],
)
def test_bad_bodies(client, content, media_type, status, detail):
    response = client.post("/v1/search", content=content, headers={"Content-Type": media_type} if media_type else {})
    assert_problem(response, status, detail)


def test_bodies_without_a_length_are_limited_too(client):
    chunks = (b"x" * 10_000 for _ in range(1000))
    assert_problem(client.post("/v1/search", content=chunks, headers=PNG), 413, "larger than the limit")


def test_a_form_without_a_file(client):
    assert_problem(client.post("/v1/search", files={"image": b"x"}), 422, "no file field named 'file'")


def test_truncated_and_oversized_images(client, sketch, tmp_path):
    assert_problem(client.post("/v1/search", content=sketch[:-40], headers=PNG), 400, "truncated or damaged")
    Image.new("1", (2000, 2000)).save(tmp_path / "large.png")
    response = client.post("/v1/search", content=(tmp_path / "large.png").read_bytes(), headers=PNG)
    assert_problem(response, 413, "limit of 1000000 pixels")


def blank(ground="white", kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGBA" if ground == (0, 0, 0, 0) else "RGB", (80, 60), ground).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [blank(), blank("black"), blank((0, 0, 0, 0)), blank((250, 240, 220), "JPEG")],
    ids=["white", "black", "clear", "cream"],
)
def test_a_blank_sketch(client, content):
    answer = client.post("/v1/search", content=content, headers=PNG)
    assert_problem(answer, 422, "the sketch is blank: draw something")


def test_a_blank_sketch_in_a_batch_fails_alone(client, sketch):
    searches = [{"image": base64.b64encode(content).decode()} for content in (sketch, blank())]
    good, bad = client.post("/v1/search/batch", json={"searches": searches}).json()["items"]
    assert (good["status"], bad["status"]) == (200, 422)
    assert bad["problem"]["detail"].startswith("the sketch is blank")


def test_photos_like_a_photo(client, gallery_path):
    generation = load_generation(gallery_path)
    with closing(Gallery.open(gallery_path)) as gallery:
        query = gallery.catalogue.vectors(16)[1][4:5]
    scores = vectors_of(generation)[:, :8] @ generation.order.sketches(query)[0, :8] + generation.order.baseline(query)
    response = client.post("/v1/search", json={"photo_id": 5, "limit": 24, "dimensions": 8})
    assert 5 not in ids(response)
    assert len(ids(response)) == 23
    found = {result["id"]: result["score"] for result in response.json()["results"]}
    assert found == pytest.approx({number + 1: score for number, score in enumerate(scores) if number != 4}, rel=1e-4)


def test_how_much_of_the_best_to_aim_at(client, sketch, monkeypatch):
    asked, search = [], Searcher.search

    def record(self, *args, recall=None, **options):
        asked.append(recall)
        return search(self, *args, recall=recall, **options)

    monkeypatch.setattr(Searcher, "search", record)
    for options in ({}, {"recall": 0.9}, {"recall": 1}):
        assert len(ids(client.post("/v1/search", content=sketch, headers=PNG, params=options))) == 20
    assert asked == [None, 0.9, 1]
    assert client.get("/v1/gallery").json()["recall"] == 1


def test_an_expanded_search_is_a_second_search_by_what_the_first_found(client, gallery_path, sketch):
    options = {"limit": 24, "dimensions": 12}
    first, plain, broader = (
        client.post("/v1/search", content=sketch, headers=PNG, params=options | {"expand": expand}).json()
        for expand in (0, 0, 0.5)
    )
    assert first == plain
    searcher = Searcher.open(gallery_path, "cpu")
    [query] = load_bundle(gallery_path / "model", "cpu").encode_sketches([open_image(sketch)])
    [hits] = searcher.search(expanded(searcher, query, 0.5, dimensions=12)[None], 24, dimensions=12)
    scores = {result["id"]: result["score"] for result in broader["results"]}
    assert scores == pytest.approx(dict(hits), rel=1e-3)
    assert scores != pytest.approx({result["id"]: result["score"] for result in plain["results"]}, rel=1e-3)
    options |= {"expand": 0.5, "with_contributions": True}
    whole = client.post("/v1/search", content=sketch, headers=PNG, params=options).json()
    for result in whole["results"]:
        assert result["score"] == pytest.approx(whole["baseline"] + sum(result["contributions"]), rel=1e-4)


def test_contributions_add_up_to_the_score(client, sketch):
    options = {"limit": 3, "dimensions": 8, "with_contributions": True}
    response = client.post("/v1/search", content=sketch, headers=PNG, params=options)
    baseline = response.json()["baseline"]
    for result in response.json()["results"]:
        assert len(result["contributions"]) == 8
        assert sum(result["contributions"]) + baseline == pytest.approx(result["score"], rel=1e-4)


def test_contributions_take_no_query_a_result(client, sketch, monkeypatch):
    asked, query = [], Database.query
    monkeypatch.setattr(Database, "query", lambda self, *rest: (asked.append(rest[0]), query(self, *rest))[1])
    for limit in (1, 20):
        options = {"limit": limit, "with_contributions": True}
        assert len(ids(client.post("/v1/search", content=sketch, headers=PNG, params=options))) == limit
    assert len(asked) == 2


def test_no_results_have_no_contributions(client, sketch):
    options = {"filter": json.dumps({"label": "nothing"}), "with_contributions": True}
    assert ids(client.post("/v1/search", content=sketch, headers=PNG, params=options)) == []


def test_batches_fail_item_by_item(client, sketch):
    image = base64.b64encode(sketch).decode()
    searches = [
        {"image": image, "limit": 2},
        {"image": "%%%"},
        {"photo_id": 3, "limit": 1},
        {"photo_id": 999},
        {"image": image, "dimensions": 17},
        {"image": image, "limit": 0},
        "nonsense",
    ]
    response = client.post("/v1/search/batch", json={"searches": searches})
    items = response.json()["items"]
    assert [item["status"] for item in items] == [200, 400, 200, 404, 422, 422, 422]
    alone = client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 2})
    assert [result["id"] for result in items[0]["results"]] == ids(alone)
    assert all(item["problem"]["status"] == item["status"] for item in items if item["status"] != 200)


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 422), ({"searches": []}, 422), ({"searches": {}}, 422), ({"searches": [{}] * 33}, 413), ([], 422)],
)
def test_bad_batches(client, body, status):
    assert_problem(client.post("/v1/search/batch", json=body), status, "")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"label": "circle"}, range(1, 7)),
        ({"label": ["circle", "line"], "id": {"gt": 3, "lte": 8}}, [4, 5, 6, 7, 8]),
        ({"id": {"eq": 3}}, [3]),
        ({"label": {"ne": "circle"}}, range(7, 25)),
        ({"colour": "red"}, []),
        ({"colour": None}, range(1, 25)),
        ({}, range(1, 25)),
    ],
)
def test_filters(client, sketch, wanted, expected):
    by_query = client.post(
        "/v1/search", content=sketch, headers=PNG, params={"limit": 100, "filter": json.dumps(wanted)}
    )
    encoded = base64.b64encode(sketch).decode()
    by_json = client.post("/v1/search", json={"image": encoded, "limit": 100, "filter": wanted})
    assert sorted(ids(by_query)) == list(expected)
    assert ids(by_json) == ids(by_query)


@pytest.mark.parametrize(
    "wanted", ["x", [], {'a"b': 1}, {"": 1}, {"a": {"near": 1}}, {"a": {}, "b": [[1]]}, {"a": [None]}]
)
def test_bad_filters(client, sketch, wanted):
    encoded = base64.b64encode(sketch).decode()
    assert_problem(client.post("/v1/search", json={"image": encoded, "filter": wanted}), 422, "filter")
