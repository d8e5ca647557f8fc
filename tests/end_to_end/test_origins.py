"""What a page of another origin can do, in a real browser."""

import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.end_to_end.browser import CHROMEDRIVER, CHROMIUM, MISSING, open_page
from tests.service.access.test_keys import line
from tests.service.conftest import serving

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason=MISSING)]

ASK = """
const [url, path, options, done] = arguments;
fetch(url + path, options)
  .then(async (answer) => done([answer.status, answer.headers.get('X-Request-ID'), await answer.json()]),
        (error) => done(String(error)));
"""
SHOW = """
const [url, done] = arguments, image = new Image();
image.onload = () => done(image.naturalWidth);
image.onerror = () => done(0);
image.src = url + '/v1/photos/1/thumbnail';
"""


SEND = """
const [url, done] = arguments;
fetch(url, { method: 'POST', mode: 'no-cors', body: 'x' }).then(done, done);  // no browser asks for this one first
"""


class Blank(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextmanager
def another_site():
    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def search(key):
    headers = {"Content-Type": "application/json", "api-key": key}  # which must be asked for first
    return {"method": "POST", "headers": headers, "body": '{"photo_id": 1, "limit": 3}'}


def remove(key):
    return {"method": "DELETE", "headers": {"api-key": key}}


@pytest.fixture
def site():
    with another_site() as origin:
        yield origin


@pytest.fixture
def own_gallery(deployment, tmp_path):
    return shutil.copytree(deployment.gallery, tmp_path / "gallery")


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text(line("page", "write", "k"))
    return file


def test_a_named_origin_may_do_all_that_its_key_allows(site, own_gallery, keys, tmp_path):
    options = {"gallery": own_gallery, "keys": keys, "anonymous": "read", "cors_origins": [site]}
    with serving(**options) as url, open_page(site, tmp_path / "profile") as page:
        status, request_id, answer = page.execute_async_script(ASK, url, "/v1/search", search("k"))
        assert (status, len(answer["results"])) == (200, 3)
        assert request_id
        status, request_id, answer = page.execute_async_script(ASK, url, "/v1/search", search("wrong"))
        assert (status, answer["status"]) == (401, 401)
        status, _, answer = page.execute_async_script(ASK, url, "/v1/photos/999", remove("k"))
        assert (status, answer["status"]) == (404, 404)
        assert page.execute_async_script(SHOW, url) > 0


def test_any_other_origin_may_not(site, own_gallery, tmp_path):
    with serving(gallery=own_gallery, anonymous="write") as url, open_page(site, tmp_path / "profile") as page:
        for path, options in (("/v1/search", search("k")), ("/v1/photos/1", remove("k")), ("/v1/gallery", {})):
            assert "TypeError" in page.execute_async_script(ASK, url, path, options)
        page.execute_async_script(SEND, f"{url}/v1/gallery/reload")
        assert 'svdraw_refused_requests_total{reason="site"} 1.0' in httpx.get(f"{url}/metrics", timeout=60).text
        assert page.execute_async_script(SHOW, url) == 0
        page.get(url)
        wait = "const done = arguments[0]; fetch('v1/gallery').then((a) => a.json()).then((g) => done(g.photos))"
        assert page.execute_async_script(wait) == httpx.get(f"{url}/v1/gallery", timeout=60).json()["photos"]
