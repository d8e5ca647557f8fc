import gc
import io
import json
import re
import threading

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from index.errors import GalleryDamaged
from service.app import create_app
from service.engine import serving as engine_serving
from service.engine.lifecycle import Engine
from service.engine.serving import GalleryServing
from service.engine.tenure import Tenure
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from tests.service.conftest import wait_until


def test_probes(client):
    for path in ("/livez", "/readyz"):
        assert client.get(path).json() == {"status": "ok"}


def test_not_ready_before_the_gallery_is_loaded(gallery_path):
    idle = TestClient(create_app(ServiceSettings(gallery=gallery_path)))  # never started
    assert idle.get("/livez").status_code == 200
    for path in ("/readyz", "/v1/gallery"):
        response = idle.get(path)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert response.headers["content-type"] == "application/problem+json"


def test_the_garbage_collector_does_not_look_again_at_what_is_loaded(gallery_path):
    try:
        with TestClient(create_app(ServiceSettings(gallery=gallery_path))) as starting:
            wait_until(lambda: starting.get("/readyz").status_code == 200)
            assert gc.get_freeze_count() > 100_000
    finally:
        gc.unfreeze()


def test_gallery_and_models(client):
    gallery = client.get("/v1/gallery").json()
    assert (gallery["photos"], gallery["dim"], gallery["generation"], len(gallery["spectrum"])) == (24, 16, 1, 16)
    assert gallery["default_dimensions"] == 12
    [model] = client.get("/v1/models").json()["data"]
    assert model["id"] == gallery["model"]
    assert model["backbone"] == "test_efficientnet"


def test_photos(client, shapes):
    photo = client.get("/v1/photos/1").json()
    assert photo["label"] == "circle"
    image = client.get("/v1/photos/1/image")
    assert image.headers["content-type"] == "image/png"
    assert image.content == (shapes / "photo" / "circle" / "circle-0.png").read_bytes()
    thumbnail = client.get("/v1/photos/1/thumbnail", params={"size": 32})
    assert Image.open(io.BytesIO(thumbnail.content)).size == (32, 32)
    for response in (image, thumbnail):
        again = client.get(response.url, headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/photos/999", 404),
        ("GET", "/v1/photos/99999999999999999999999", 404),
        ("GET", "/v1/photos/-1/image", 404),
        ("GET", "/v1/photos/x", 422),
        ("GET", "/v1/photos/..%2f..%2fetc%2fpasswd/image", 404),
        ("GET", "/static/..%2f..%2fapp.py", 404),
        ("GET", "/v1/photos/1/thumbnail?size=9999", 422),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/search", 405),
    ],
)
def test_errors_are_problem_documents(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_a_photo_whose_file_is_gone(client, shapes):
    victim = shapes / "photo" / "triangle" / "triangle-5.png"
    content = victim.read_bytes()
    victim.unlink()
    try:
        assert client.get("/v1/photos/24").status_code == 200
        for path in ("image", "thumbnail?size=77"):
            assert client.get(f"/v1/photos/24/{path}").status_code == 404
    finally:
        victim.write_bytes(content)


@pytest.mark.parametrize("tags", ["*", "W/{etag}", '"other", {etag}', 'W/"other" , W/{etag}'])
def test_conditional_requests(client, tags):
    for path in ("/v1/photos/1/image", "/v1/photos/1/thumbnail"):
        etag = client.get(path).headers["etag"]
        assert client.get(path, headers={"If-None-Match": tags.format(etag=etag)}).status_code == 304
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_is_get_without_the_body(client):
    for path in ("/", "/v1/photos/1/thumbnail", "/v1/photos/1/image", "/livez", "/static/app.js"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


def test_an_oversized_body_counts_for_its_route(client):
    client.post("/v1/search", content=bytes(200_000), headers={"Content-Type": "image/png"})
    assert 'route="/v1/search",status="413"' in client.get("/metrics").text


def test_documentation_loads_nothing_from_elsewhere(client):
    page = client.get("/docs")
    assert "http" not in page.text
    for path in ("swagger/swagger-ui-bundle.js", "swagger/swagger-ui.css", "docs.js"):
        assert f'"static/{path}"' in page.text
        assert client.get(f"/static/{path}").status_code == 200
    assert client.get("/redoc").status_code == 404


def test_metrics(client, sketch):
    client.post("/v1/search", content=sketch, headers={"Content-Type": "image/png"})
    text = client.get("/metrics").text
    assert 'svdraw_search_stage_duration_seconds_count{stage="encode"}' in text
    assert 'route="/v1/search",status="200"' in text
    assert "svdraw_gallery_photos 24.0" in text


def test_invented_methods_share_one_label(client):
    for number in range(5):
        client.request(f"INVENTED{number}", "/livez")
    text = client.get("/metrics").text
    assert "INVENTED" not in text
    assert 'method="other"' in text


def test_openapi_describes_the_bodies(client):
    document = client.get("/openapi.json").json()
    search = document["paths"]["/v1/search"]["post"]
    assert {"multipart/form-data", "image/png", "application/json"} <= search["requestBody"]["content"].keys()
    assert {"400", "413", "415", "422", "503"} <= search["responses"].keys()
    names = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document))
    assert json.dumps(document).count("$ref") == len(names)
    assert {"SearchRequest", "Comparison", "Problem"} <= set(names) <= document["components"]["schemas"].keys()


def test_the_methods_of_a_path(client):
    for method, path, allowed in [
        ("OPTIONS", "/v1/photos/1", "DELETE, GET, HEAD, PATCH"),
        ("PUT", "/v1/photos", "GET, HEAD, POST"),
        ("GET", "/v1/search", "POST"),
        ("POST", "/", "GET"),
    ]:
        response = client.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("/")
    assert "<canvas" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in (
        "index.html",
        "style.css",
        "app.js",
        "results.js",
        "marks.js",
        "colors.js",
        "picture.js",
        "sketchpad.js",
        "spectrum.js",
        "icon.svg",
    ):
        text = client.get(f"/static/{path}").text
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org/", "")  # names of XML namespaces


@pytest.mark.parametrize(
    ("field", "value"),
    [("port", 70_000), ("max_concurrent", 0), ("surprise", 1), ("max_body_bytes", -1)],
)
def test_bad_settings_die_early(gallery_path, field, value):
    with pytest.raises(ValueError, match=field):
        ServiceSettings(gallery=gallery_path, **{field: value})


def broken(error):
    def fail(*args, **options):
        raise error

    return fail


@pytest.mark.parametrize("error", [OSError("disk"), RuntimeError("CUDA out of memory"), MemoryError()])
def test_looking_for_generations_goes_on_after_any_error(start, monkeypatch, error):
    monkeypatch.setattr("service.engine.loops._LONGEST", 0.01)
    client = start(reload_seconds=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_is_outdated", broken(error))
        wait_until(lambda: client.get("/readyz").status_code == 503)
        problem = client.get("/readyz").json()
        assert "reload has failed" in problem["detail"]
        assert type(error).__name__ in problem["detail"]
        assert client.get("/v1/gallery").status_code == 200
        assert client.get("/livez").status_code == 200
        [failures] = re.findall(r'svdraw_loop_failures_total\{loop="reload"\} (\S+)', client.get("/metrics").text)
        assert float(failures) >= 3
    wait_until(lambda: client.get("/readyz").status_code == 200)


def test_a_generation_that_cannot_be_served_leaves_the_service_ready(start, monkeypatch):
    """Another process could not serve it either, and this one still serves the one before."""
    monkeypatch.setattr("service.engine.loops._LONGEST", 0.01)
    monkeypatch.setattr(Engine, "_is_outdated", broken(GalleryDamaged("half-written")))
    client = start(reload_seconds=0.01)
    failures = client.app.state.metrics.loop_failures.labels("reload")
    wait_until(lambda: failures._value.get() > 4)
    assert client.get("/readyz").status_code == 200


def test_a_gallery_that_cannot_be_loaded_is_said_to_be_so_and_ends_in_order(gallery_path, monkeypatch, caplog):
    monkeypatch.setattr("service.app.Engine", broken(OSError("disk")))
    with TestClient(create_app(ServiceSettings(gallery=gallery_path))) as client:
        wait_until(lambda: "could not be loaded" in client.get("/readyz").text)
        assert client.get("/v1/gallery").status_code == 503
        assert client.get("/livez").status_code == 200
    assert "disk" in caplog.text


def test_who_starts_the_service_hears_why_it_cannot_load(gallery_path, monkeypatch):
    failures = []
    monkeypatch.setattr("service.app.Engine", broken(OSError("disk")))
    with TestClient(create_app(ServiceSettings(gallery=gallery_path), on_failure=failures.append)):
        wait_until(lambda: failures)
    assert str(failures[0]) == "disk"


class LoadedLate:
    """An engine that takes as long to load as the test wants."""

    metrics, loops = Metrics(), ()

    def __init__(self):
        self.begun, self.go_on, self.closed = threading.Event(), threading.Event(), False

    def __call__(self, settings, metrics, *, leads):
        self.begun.set()
        assert self.go_on.wait(60)
        return self

    def close(self):
        self.closed = True


def test_ending_while_the_gallery_is_loaded_closes_it(gallery_path, monkeypatch):
    engine = LoadedLate()
    monkeypatch.setattr("service.app.Engine", engine)
    with TestClient(create_app(ServiceSettings(gallery=gallery_path))) as client:
        assert engine.begun.wait(60)
        assert "starting" in client.get("/readyz").json()["detail"]
        threading.Timer(0.1, engine.go_on.set).start()
    assert engine.closed


def test_ending_while_a_generation_is_loaded_closes_both(own_gallery, monkeypatch):
    settings = ServiceSettings(gallery=own_gallery, device="cpu", runtime="torch", reload_seconds=0.01)
    begun, go_on, closed = threading.Event(), threading.Event(), []
    load, close = engine_serving.open_serving, GalleryServing.close

    def slow(*args):
        begun.set()
        assert go_on.wait(60)
        return load(*args)

    engine = Engine(settings, Metrics())
    monkeypatch.setattr(engine_serving, "open_serving", slow)
    monkeypatch.setattr(Engine, "_is_outdated", lambda self: True)
    monkeypatch.setattr(GalleryServing, "close", lambda self: (closed.append(self), close(self)))
    with TestClient(create_app(settings, engine)):
        assert begun.wait(60)
        threading.Timer(0.1, go_on.set).start()
    assert len(closed) == 2


def test_ending_is_in_order_even_if_the_engine_cannot_be_closed(gallery_path, monkeypatch, caplog):
    engine = LoadedLate()
    monkeypatch.setattr(engine, "close", broken(OSError("disk")))
    with TestClient(create_app(ServiceSettings(gallery=gallery_path), engine)) as client:
        assert client.get("/livez").status_code == 200
    assert "did not shut down cleanly" in caplog.text


def test_no_search_of_a_batch_goes_on_behind_its_answer(start, monkeypatch):
    """The first fails by an error that nobody expects, while the others have not begun."""
    monkeypatch.setattr("training.inference.plan.processors", lambda: 1)
    client = TestClient(start().app, raise_server_exceptions=False)
    running, order = [], []

    def search(*args):
        running.append(1)
        if len(running) == 1:
            raise OSError("disk")
        order.append("searched")
        raise RequestProblem(400, "no image")

    release = Tenure.release
    monkeypatch.setattr("service.routes.search.search_by_request", search)
    monkeypatch.setattr(Tenure, "release", lambda self: (order.append("released"), release(self)))
    body = {"searches": [{"photo_id": number} for number in (1, 2, 3)]}
    assert client.post("/v1/search/batch", json=body).status_code == 500
    assert order == ["searched", "searched", "released"]
