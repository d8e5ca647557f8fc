"""The service below a path of another host, behind a real proxy."""

import shutil
import subprocess
from contextlib import contextmanager

import httpx
import pytest

from service.client.rest import Client
from tests.end_to_end.browser import (
    CASTLE,
    CHROMEDRIVER,
    CHROMIUM,
    MISSING,
    draw,
    open_page,
    wait_for,
)
from tests.end_to_end.conftest import answer
from tests.ports import free_port
from tests.service.conftest import serving, wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="needs a proxy: on Debian, apt-get install nginx-light")

CONFIGURATION = """
daemon off; pid {folder}/pid; error_log {folder}/log; worker_processes 1;
events {{}}
http {{
    access_log off; client_max_body_size 20m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /svdraw/ {{ proxy_pass {upstream}; proxy_set_header Host $http_host; }}
        location / {{ return 404 "another application"; }}
    }}
}}
"""


@contextmanager
def proxy(folder, upstream):
    """Runs nginx in front of an upstream; a path at the upstream's end replaces the prefix, as nginx has it."""
    port = free_port()
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=port, upstream=upstream))
    process = subprocess.Popen([NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "log"])
    try:
        url = f"http://127.0.0.1:{port}/svdraw"
        wait_until(lambda: process.poll() is not None or answer(url) is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["stripped", "passed on"])
def url(request, deployment, tmp_path):
    with serving(gallery=deployment.gallery, root_path="/svdraw") as inner:
        end = "/" if request.param == "stripped" else ""
        with proxy(tmp_path, inner + end) as url:
            yield url


def test_the_api(url, deployment):
    drawing = next((deployment.data / "sketch" / deployment.unseen[0]).iterdir())
    with Client(url) as client:
        [found] = client.search(drawing, limit=1).results
        assert found.thumbnail_url.startswith("/svdraw/v1/photos/")
        assert client.image(found.id, size=64)
    assert httpx.get(httpx.URL(url).join(found.image_url), timeout=60).status_code == 200
    assert httpx.get(httpx.URL(url).join("/v1/gallery"), timeout=60).text == "another application"


@pytest.mark.browser
@pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason=MISSING)
def test_the_page(url, tmp_path):
    with open_page(url, tmp_path / "profile") as page:  # without a slash at its end
        wait_for(page, "document.getElementById('facts').textContent.includes('photos')")
        draw(page, CASTLE[:1])
        wait_for(page, "document.querySelectorAll('#grid li').length === 24")
        wait_for(page, "[...document.querySelectorAll('#grid img')].every(i => i.complete && i.naturalWidth)")
        page.get(f"{url}/docs")
        wait_for(page, "document.querySelectorAll('.opblock').length > 10")
        assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
