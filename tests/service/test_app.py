import io
import json
import re

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.app import create_app
from service.settings import ServiceSettings


def test_probes(client):
    for path in ("/livez", "/readyz", "/healthz"):
        assert client.get(path).json() == {"status": "ok"}


def test_not_ready_before_the_gallery_is_loaded(gallery_path):
    idle = TestClient(create_app(ServiceSettings(gallery=gallery_path)))  # never started
    assert idle.get("/livez").status_code == 200
    for path in ("/readyz", "/v1/gallery"):
        response = idle.get(path)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert response.headers["content-type"] == "application/problem+json"


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
        assert f"/static/{path}" in page.text
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
    for path in ("index.html", "style.css", "app.js", "sketchpad.js", "spectrum.js", "icon.svg"):
        text = client.get(f"/static/{path}").text
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org/", "")  # names of XML namespaces


@pytest.mark.parametrize(
    ("field", "value"), [("port", 70_000), ("max_batch", 0), ("surprise", 1), ("max_body_bytes", -1)]
)
def test_bad_settings_die_early(gallery_path, field, value):
    with pytest.raises(ValueError, match=field):
        ServiceSettings(gallery=gallery_path, **{field: value})
