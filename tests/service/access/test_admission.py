import asyncio
import base64

import httpx
import pytest
from fastapi.testclient import TestClient

from service.access.admission import Gate, RateLimiter
from service.access.keys import Scope
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from tests.service.access.test_keys import line
from tests.service.conftest import serving

PNG = {"Content-Type": "image/png"}


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text(
        line("prometheus", "metrics", "watching") + line("page", "read", "reading") + line("ci", "write", "writing")
    )
    return file


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def test_scopes(start, keys, own_gallery):
    client = start(keys=keys, gallery=own_gallery)
    expected = {
        "watching": (200, 403, 403),
        "reading": (200, 200, 403),
        "writing": (200, 200, 204),
        "guessed": (401, 401, 401),
        None: (401, 401, 401),
    }
    for photo, (secret, statuses) in enumerate(expected.items(), start=1):
        for headers in [bearer(secret), {"api-key": secret}] if secret else [{}]:
            assert client.get("/metrics", headers=headers).status_code == statuses[0]
            read = client.get("/v1/gallery", headers=headers)
            assert read.status_code == statuses[1]
            if statuses[1] == 401:
                assert read.headers["www-authenticate"].startswith("Bearer")
                assert read.headers["content-type"] == "application/problem+json"
        assert client.delete(f"/v1/photos/{photo}", headers=headers).status_code == statuses[2]
    for path in ("/livez", "/readyz", "/", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("anonymous", "read", "write"), [(None, 200, 401), ("none", 401, 401), ("read", 200, 401), ("write", 200, 404)]
)
def test_without_keys(start, anonymous, read, write):
    client = start(anonymous=anonymous)
    assert client.get("/v1/gallery").status_code == read
    assert client.delete("/v1/photos/999").status_code == write


def test_every_route_but_probes_is_guarded(start):
    client = start(anonymous="none")
    paths = client.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            status = client.request(method, path.replace("{photo_id}", "1")).status_code
            guarded = path not in ("/livez", "/readyz")
            assert (status == 401) == guarded, (method, path)
            assert bool(operation.get("security")) == guarded


def test_metrics_are_read_as_prometheus_does(start, keys):
    """Its header has no key where the file of the key is empty, which stands for no key at all."""
    assert start().get("/metrics", headers={"Authorization": "Bearer "}).status_code == 200
    client = start(keys=keys)
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401
    assert client.get("/metrics", headers=bearer("watching")).status_code == 200


def test_metrics_are_read_while_all_places_are_taken(start):
    client = start(max_concurrent=1)
    with client.app.state.gate.place():
        assert client.get("/v1/gallery").status_code == 429
        assert "svdraw_requests_running 1.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("proxies", "forwarded", "statuses"),
    [
        ("127.0.0.1", ["1.1.1.1", "2.2.2.2"], [200, 200]),
        ("127.0.0.1", ["1.1.1.1, 9.9.9.9", "2.2.2.2, 9.9.9.9"], [200, 429]),
        ("127.0.0.1,9.9.9.0/24", ["1.1.1.1, 9.9.9.9", "2.2.2.2, 9.9.9.9"], [200, 200]),
        ("192.0.2.1", ["1.1.1.1", "2.2.2.2"], [200, 429]),
    ],
)
def test_only_proxies_that_are_named_say_who_the_client_is(gallery_path, proxies, forwarded, statuses):
    with serving(gallery=gallery_path, trusted_proxies=proxies, rate_limit=0.001, rate_burst=1) as url:
        answers = [
            httpx.get(f"{url}/v1/gallery", headers={"X-Forwarded-For": value}, timeout=60) for value in forwarded
        ]
    assert [answer.status_code for answer in answers] == statuses


def test_openai_clients_get_errors_they_know(start):
    client = start(anonymous="none")
    response = client.post("/v1/embeddings", json={})
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"


def test_the_rate_is_limited_by_client(start, keys):
    client = start(keys=keys, anonymous="read", rate_limit=0.01, rate_burst=3)
    statuses = [client.get("/v1/gallery").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    refused = client.get("/v1/gallery")
    assert 1 <= int(refused.headers["retry-after"]) <= 100
    assert client.get("/v1/gallery", headers=bearer("reading")).status_code == 200
    assert client.get("/readyz").status_code == 200
    assert 'svdraw_refused_requests_total{reason="rate"} 3.0' in client.get("/metrics").text
    assert 'route="/v1/gallery",status="429"' in client.get("/metrics").text


def test_guessing_keys_is_slowed_down(start, keys):
    client = start(keys=keys, rate_limit=0.01, rate_burst=5)
    statuses = [client.get("/v1/gallery", headers=bearer(f"guess-{n}")).status_code for n in range(20)]
    assert statuses == [401] * 5 + [429] * 15
    assert client.get("/v1/gallery", headers=bearer("reading")).status_code == 200


def test_rates():
    now = [100.0]
    limiter = RateLimiter(2, 4, lambda: now[0])
    assert [limiter.wait("a") for _ in range(5)] == [0, 0, 0, 0, pytest.approx(0.5)]
    assert limiter.wait("b") == 0
    now[0] += 0.5
    assert limiter.wait("a") == 0
    assert limiter.wait("a") > 0
    now[0] += 1000
    assert [limiter.wait("a") for _ in range(5)][:4] == [0, 0, 0, 0]
    assert [RateLimiter(0, 1).wait("a") for _ in range(100)] == [0] * 100


def test_too_many_at_once_are_refused_and_the_rest_answered(start, sketch):
    app = start(max_concurrent=2).app

    async def flood():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = await asyncio.gather(*(client.post("/v1/search", content=sketch, headers=PNG) for _ in range(20)))
            after = await client.post("/v1/search", content=sketch, headers=PNG)
            return answers, after

    answers, after = asyncio.run(flood())
    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 429)
    assert after.status_code == 200


def test_only_so_many_clients_are_remembered_and_those_that_are_refused_among_them(monkeypatch):
    monkeypatch.setattr("service.access.admission._CLIENTS", 10)
    limiter = RateLimiter(1, 3, lambda: 0.0)
    while not limiter.wait("greedy"):
        pass
    for number in range(100):
        assert limiter.wait(f"fresh {number}") == 0
        assert len(limiter._full_at) <= 10
    assert limiter.wait("greedy") > 0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
    ],
)
def test_whoever_has_a_network_of_ipv6_is_one_client(first, second, same):
    gate = Gate(ServiceSettings(gallery="unused", rate_limit=0.001, rate_burst=1), Metrics())
    gate.check(first, None, Scope.READ)
    if not same:
        gate.check(second, None, Scope.READ)
        return
    with pytest.raises(RequestProblem) as caught:
        gate.check(second, None, Scope.READ)
    assert caught.value.status == 429


def test_the_rate_counts_before_the_key(keys):
    """So that keys cannot be guessed quickly, while a client with a key does not share the rate of its address."""
    settings = ServiceSettings(gallery="unused", keys=keys, rate_limit=0.001, rate_burst=1)
    gate = Gate(settings, Metrics())
    statuses = []
    for secret in (None, None, "guessed", "reading", "reading"):
        try:
            gate.check("1.2.3.4", secret, Scope.READ)
            statuses.append(200)
        except RequestProblem as problem:
            statuses.append(problem.status)
    assert statuses == [401, 429, 429, 200, 429]


def test_places_are_taken_and_given_back():
    metrics = Metrics()
    gate = Gate(ServiceSettings(gallery="unused", max_concurrent=2), metrics)
    with gate.place():
        with gate.place(), pytest.raises(RequestProblem) as caught, gate.place():
            pass
        assert caught.value.status == 429
        with gate.place():
            assert metrics.registry.get_sample_value("svdraw_requests_running") == 2
    assert metrics.registry.get_sample_value("svdraw_requests_running") == 0


def test_a_client_has_only_so_many_places_and_the_others_have_theirs():
    gate = Gate(ServiceSettings(gallery="unused", max_concurrent_per_client=2), Metrics())
    with gate.counted("a"):
        with gate.counted("a"), gate.counted("b"), pytest.raises(RequestProblem) as caught, gate.counted("a"):
            pass
        assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1", "Connection": "close"})
        with gate.counted("a"):
            pass
    assert not gate._by_client


@pytest.mark.parametrize("error", [RuntimeError("x"), RequestProblem(422, "x")])
def test_requests_that_fail_give_their_place_back(start, monkeypatch, error):
    def fail(*args):
        raise error

    app = start(max_concurrent=1).app
    monkeypatch.setattr("service.routes.search.search_by_images", fail)
    client = TestClient(app, raise_server_exceptions=False)
    statuses = [client.post("/v1/search", content=b"x", headers=PNG).status_code for _ in range(3)]
    assert statuses == [getattr(error, "status", 500)] * 3


@pytest.mark.parametrize("concurrent", [1, 2])
def test_as_many_whole_batches_as_requests_may_run_are_answered(start, sketch, concurrent):
    app = start(max_concurrent=concurrent, max_items=40).app
    image = base64.b64encode(sketch).decode()

    async def flood():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            batch = {"searches": [{"image": image, "limit": 1}] * 40}
            return await asyncio.gather(*(client.post("/v1/search/batch", json=batch) for _ in range(concurrent)))

    for answer in asyncio.run(flood()):
        assert answer.status_code == 200
        assert {item["status"] for item in answer.json()["items"]} == {200}
