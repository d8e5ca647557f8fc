"""Every line that is logged on behalf of a request carries its id."""

import json
import logging

import httpx
import pytest
from fastapi.testclient import TestClient

from service.http.observability import JsonFormatter
from tests.service.conftest import serving, wait_until

PNG = {"Content-Type": "image/png", "X-Request-ID": "mine"}


@pytest.fixture
def lines():
    """What the service logs, as it would be written."""
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(json.loads(JsonFormatter().format(record)))
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


def test_tracebacks_carry_the_id_of_the_request(gallery_path, monkeypatch, sketch, lines):
    def fail(*args):
        logging.getLogger("a thread").error("about to fail")
        raise RuntimeError("unexpected")

    monkeypatch.setattr("service.routes.search.search_by_images", fail)
    with serving(gallery=gallery_path) as url:
        assert httpx.post(f"{url}/v1/search", content=sketch, headers=PNG, timeout=60).status_code == 500
        wait_until(lambda: any("exception" in line for line in lines))
        assert httpx.get(f"{url}/livez", timeout=60).status_code == 200
    [traceback] = [line for line in lines if "exception" in line]
    [warning] = [line for line in lines if line["message"] == "about to fail"]
    assert (traceback["request_id"], warning["request_id"]) == ("mine", "mine")
    assert "RuntimeError: unexpected" in traceback["exception"]
    assert "mine" not in [line["request_id"] for line in lines if line.get("path") == "/livez"]


def test_head_works_wherever_get_does(start):
    client: TestClient = start()
    paths = [
        path.replace("{photo_id}", "1")
        for path, item in client.get("/openapi.json").json()["paths"].items()
        if "get" in item
    ]
    assert len(paths) > 7
    for path in [*paths, "/", "/docs", "/openapi.json", "/static/app.js", "/static/swagger/swagger-ui.css"]:
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        assert head.headers.get("content-type") == whole.headers.get("content-type"), path
