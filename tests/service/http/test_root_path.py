import re

import pytest

from service.settings import ServiceSettings
from tests.service.test_search import PNG, assert_problem


@pytest.fixture
def below(start, own_gallery):
    return start(gallery=own_gallery, root_path="/apps/svdraw/", anonymous="write")


@pytest.fixture(params=["/apps/svdraw", ""], ids=["passed on", "stripped"])
def prefix(request):
    """What a proxy leaves of the root path."""
    return request.param


def test_everything_is_found_below_it(below, prefix):
    for path in ("/", "/docs", "/openapi.json", "/static/app.js", "/static/swagger/swagger-ui.css", "/readyz"):
        assert below.get(prefix + path).status_code == 200, path
        assert below.head(prefix + path).status_code == 200, path
    assert "unsafe-inline" in below.get(f"{prefix}/docs").headers["content-security-policy"]
    assert "unsafe-inline" not in below.get(f"{prefix}/").headers["content-security-policy"]


def test_links_lead_there(below, prefix, sketch):
    results = below.post(f"{prefix}/v1/search", content=sketch, headers=PNG).json()["results"]
    batch = below.post(f"{prefix}/v1/search/batch", json={"searches": [{"photo_id": 1}]}).json()["items"][0]["results"]
    for result in (results[0], batch[0]):
        for kind in ("image", "thumbnail"):
            assert result[f"{kind}_url"] == f"/apps/svdraw/v1/photos/{result['id']}/{kind}"
            assert below.get(result[f"{kind}_url"]).status_code == 200
    added = below.post(f"{prefix}/v1/photos", content=sketch, headers=PNG)
    assert added.headers["location"] == f"/apps/svdraw/v1/photos/{added.json()['id']}"
    assert below.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/apps/svdraw"}]


def test_the_path_itself_leads_to_the_page(below):
    answer = below.get("/apps/svdraw", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "/apps/svdraw/")


def test_errors_are_those_of_the_path(below, prefix):
    assert_problem(below.get(f"{prefix}/nothing"), 404, "nothing at /apps/svdraw/nothing; /apps/svdraw/docs lists")
    assert "error" in below.post(f"{prefix}/v1/embeddings", json={}).json()
    assert below.put(f"{prefix}/v1/photos").headers["allow"] == "GET, HEAD, POST"
    assert_problem(below.get("/apps/svdrawing"), 404, "nothing at")


def test_metrics_have_the_routes_without_it(below, prefix):
    for path in ("/v1/gallery", "/static/app.js", "/nothing", "/v1/photos/1"):
        below.get(prefix + path)
        below.head(prefix + path)
    routes = set(re.findall(r'_count{.*route="([^"]*)"', below.get("/metrics").text))
    assert routes == {"/v1/gallery", "/static", "unmatched", "/v1/photos/{photo_id}"}


@pytest.mark.parametrize("value", ["svdraw", "/a b", "/a/../b", "//a", "/a?b", "/{a}"])
def test_what_is_no_root_path_dies_early(value):
    with pytest.raises(ValueError, match="root path"):
        ServiceSettings(gallery="unused", root_path=value)


@pytest.mark.parametrize("value", ["/v1", "/static/x", "/docs"])
def test_it_cannot_hide_the_services_own_paths(value):
    with pytest.raises(ValueError, match="which is a path of the service"):
        ServiceSettings(gallery="unused", root_path=value)


@pytest.mark.parametrize("value", ["", "/"])
def test_no_root_path(value):
    assert ServiceSettings(gallery="unused", root_path=value).root_path == ""
