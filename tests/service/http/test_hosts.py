import pytest

from service.http.hosts import is_known
from service.settings import ServiceSettings
from tests.service.test_search import assert_problem


@pytest.mark.parametrize(
    ("host", "names", "known"),
    [
        ("127.0.0.1:8000", [], True),
        ("10.1.2.3", [], True),
        ("[::1]:8000", [], True),
        ("localhost", [], True),
        ("app.localhost:8000", [], True),
        ("service:8000", [], True),  # as containers call each other
        ("", [], True),  # HTTP/1.0
        ("example.org", [], False),
        ("example.org", ["example.org"], True),
        ("EXAMPLE.org.:443", ["example.org"], True),
        ("www.example.org", ["example.org"], False),
        ("www.example.org", ["*.example.org"], True),
        ("example.org", ["*.example.org"], False),
        ("evil-example.org", ["*.example.org", "example.org"], False),
        ("example.org.evil.net", ["example.org"], False),
        ("127.0.0.1.evil.net", [], False),
        ("anything.net", ["*"], True),
    ],
)
def test_names_that_are_known(host, names, known):
    assert is_known(host, names) == known


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({}, {"127.0.0.1"}),
        ({"host": "photos.example.org"}, {"photos.example.org"}),
        ({"host": "0.0.0.0"}, {"*"}),  # of a container, which cannot know its names
        ({"host": "::"}, {"*"}),
        ({"host": "0.0.0.0", "hosts": ["Example.org."]}, {"example.org", "0.0.0.0"}),
        ({"hosts": ["a.example.org,,*.b.example.org"]}, {"a.example.org", "*.b.example.org", "127.0.0.1"}),
        ({"hosts": [""]}, {"127.0.0.1"}),  # as compose files pass on what is not set
    ],
)
def test_names_of_the_settings(options, known):
    assert set(ServiceSettings(gallery="unused", **options).known_hosts) == known


@pytest.mark.parametrize("value", ["https://example.org", "example.org:80", "a b", "*.*.org", "exa*mple.org"])
def test_what_is_no_name_dies_early(value):
    with pytest.raises(ValueError, match="no name of a host"):
        ServiceSettings(gallery="unused", hosts=[value])


def test_other_names_are_refused(start):
    client = start(hosts=["photos.example.org"])
    assert client.get("/v1/gallery", headers={"Host": "photos.example.org"}).status_code == 200
    for path in ("/v1/gallery", "/", "/static/app.js", "/nothing"):
        response = client.get(path, headers={"Host": "evil.example.net"})
        assert_problem(response, 421, "does not answer to the name 'evil.example.net'")
        assert response.headers["x-request-id"]
    assert client.get("/readyz", headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert 'svdraw_refused_requests_total{reason="host"} 4.0' in client.get("/metrics").text
