import pytest

from service.http.origins import is_foreign
from service.settings import ServiceSettings
from tests.service.test_search import assert_problem

PAGE = "https://page.example.org"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "api-key,content-type,x-request-id",
}


@pytest.fixture
def shared(start):
    return start(cors_origins=[PAGE])


def test_pages_of_named_origins_may_ask(shared):
    answer = shared.options("/v1/search", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["x-request-id"]
    other = shared.options("/v1/search", headers=PREFLIGHT | {"Origin": "https://other.example.org"})
    assert_problem(other, 403, "https://other.example.org")
    assert "access-control-allow-origin" not in other.headers
    assert shared.options("/v1/search").status_code == 405  # no preflight


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/gallery", 200),
        ("GET", "/v1/photos/1/thumbnail", 200),
        ("GET", "/nothing", 404),
        ("POST", "/v1/search", 415),
        ("DELETE", "/v1/photos/1", 401),
        ("PUT", "/v1/photos", 405),
    ],
)
def test_they_may_read_every_answer(shared, method, path, status):
    answer = shared.request(method, path, headers={"Origin": PAGE})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert {"Retry-After", "Server-Timing", "X-Request-ID"} <= set(
        answer.headers["access-control-expose-headers"].split(", ")
    )
    assert "Origin" in answer.headers["vary"]
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "access-control-allow-credentials" not in answer.headers
    assert (
        "access-control-allow-origin" not in shared.request(method, path, headers={"Origin": "https://a.net"}).headers
    )


def test_they_may_read_that_they_are_too_many(start):
    client = start(cors_origins=[PAGE], rate_limit=0.001, rate_burst=1)
    answers = [client.get("/v1/gallery", headers={"Origin": PAGE}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["access-control-allow-origin"] == PAGE
    assert answers[1].headers["retry-after"]


def test_they_may_read_that_something_unexpected_happened(start, monkeypatch):
    client = start(cors_origins=["*"])
    client._transport.raise_server_exceptions = False
    monkeypatch.setattr("service.routes.gallery._info", lambda serving: 1 / 0)
    answer = client.get("/v1/gallery", headers={"Origin": PAGE})
    assert_problem(answer, 500, "unexpected")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_origin_is_named_by_default(client):
    answer = client.get("/v1/gallery", headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert client.options("/v1/search", headers=PREFLIGHT).status_code == 405


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),  # no browser
        ({"sec-fetch-site": "same-origin", "origin": "https://photos.example.org"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://evil.net"}, True),
        ({"sec-fetch-site": "same-site", "origin": "https://blog.example.org"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "null"}, True),
        ({"sec-fetch-site": "cross-site", "origin": PAGE}, False),
        ({"origin": "http://photos.example.org", "host": "photos.example.org"}, False),
        ({"origin": "http://photos.example.org", "host": "photos.example.org:8000"}, True),
        ({"origin": "null", "host": "photos.example.org"}, True),
        ({"origin": PAGE, "host": "photos.example.org"}, False),
    ],
)
def test_requests_of_other_pages(headers, foreign):
    assert is_foreign(headers, [PAGE]) == foreign
    assert not is_foreign(headers, ["*"])


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/photos"), ("PATCH", "/v1/photos/1"), ("DELETE", "/v1/photos/1"), ("POST", "/v1/gallery/reload")],
)
def test_other_pages_cannot_write(start, own_gallery, method, path):
    client = start(gallery=own_gallery, anonymous="write")
    other = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.net"}
    assert_problem(client.request(method, path, headers=other), 403, "--cors-origins")
    assert client.get("/v1/gallery").json()["live_changes"] == 0
    assert client.post("/v1/search", json={"photo_id": 1}, headers=other).status_code == 200  # reads only
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}
    assert client.request(method, path, headers=own).status_code != 403


@pytest.mark.parametrize("value", ["example.org", "https://example.org/", "https://", "https://a@b.org", "null"])
def test_what_is_no_origin_dies_early(value):
    with pytest.raises(ValueError, match="no origin"):
        ServiceSettings(gallery="unused", cors_origins=[value])
