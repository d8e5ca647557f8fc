"""Malformed, oversized and slow requests: the right status each time, and the service stays ready."""

import io
import json
import re
import select
import socket
import struct
import zlib
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from index.gallery.directory import Gallery
from tests.service.conftest import serving, wait_until
from tests.training.model.test_images import png_header

PNG = {"Content-Type": "image/png"}


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


NOISE = Image.effect_noise((40, 40), 80).convert("RGB")
FILES = {kind: encoded(NOISE, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}


def text_bomb():
    """A PNG whose compressed text unpacks to 80 MB."""
    text = b"x\0\0" + zlib.compress(bytes(80_000_000), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    return FILES["PNG"][:33] + chunk + FILES["PNG"][33:]


def animation():
    frames = [Image.new("P", (30, 30), number) for number in range(60)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


CORPUS = {
    "empty": (b"", {400}),
    "text": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {400}),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", {400}),
    "pdf": (b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>", {400}),
    "a million pixels and more": (png_header(30_000, 30_000), {413}),
    "negative size": (FILES["BMP"][:18] + struct.pack("<ii", -40, 2**31 - 1) + FILES["BMP"][26:], {400, 413}),
    "no size": (png_header(0, 0), {400}),
    "text bomb": (text_bomb(), {200}),
    "an archive behind an image": (FILES["PNG"] + b"PK\x03\x04" + bytes(500), {200}),
    "a script behind an image": (FILES["GIF"] + b"<script>alert(1)</script>", {200}),
    "many frames": (animation(), {422}),
    "one pixel": (encoded(Image.new("RGB", (1, 1)), "PNG"), {422}),
    "one row": (encoded(Image.new("L", (5000, 1)), "PNG"), {422}),
    "16 bits": (encoded(Image.new("I;16", (20, 20), 40_000), "PNG"), {422}),
    "four inks": (encoded(Image.new("CMYK", (20, 20)), "JPEG"), {422}),
    "wrong sums": (FILES["PNG"][:40] + b"\xff\xff" + FILES["PNG"][42:], {400}),
}


def search(url, content=FILES["PNG"]):
    return httpx.post(f"{url}/v1/search", content=content, headers=PNG, timeout=60)


def get(url, path):
    return httpx.get(f"{url}{path}", timeout=60)


@pytest.fixture(scope="module")
def url(gallery_path):
    with serving(gallery=gallery_path, max_body_bytes=400_000, max_pixels=1_000_000) as url:
        yield url


@pytest.fixture(scope="module")
def hasty(gallery_path):
    """A service that waits for nobody: on a busy machine also a client that means well may be too slow for it."""
    with serving(gallery=gallery_path, header_seconds=0.4, body_seconds=0.8, send_seconds=0.4) as url:
        yield url


@pytest.fixture(autouse=True)
def ready_afterwards(request):
    yield
    for url in map(request.getfixturevalue, {"url", "hasty"}.intersection(request.fixturenames)):
        wait_until(lambda url=url: is_served(url))


def is_served(url):
    """Whether a search is answered in full, though the service may have thrown others out."""
    try:
        return get(url, "/readyz").status_code == 200 and len(search(url).json()["results"]) == 20
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("name", CORPUS)
def test_images(url, name):
    content, statuses = CORPUS[name]
    answer = search(url, content)
    assert answer.status_code in statuses, answer.text
    if answer.status_code != 200:
        assert answer.json()["status"] == answer.status_code


@settings(max_examples=60)
@given(kind=st.sampled_from(sorted(FILES)), data=st.data())
def test_damaged_images_are_answered(client, kind, data):
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(1, len(content)))
    answer = client.post("/v1/search", content=bytes(content[:end]), headers=PNG)
    assert answer.status_code in {200, 400, 413, 422}, answer.text


@settings(max_examples=60)
@given(content=st.binary(max_size=300), media_type=st.sampled_from(["image/png", "application/json", "x/y"]))
def test_bytes_are_answered(client, content, media_type):
    for path in ("/v1/search", "/v1/search/batch", "/v1/embeddings", "/v1/photos"):
        answer = client.post(path, content=content, headers={"Content-Type": media_type})
        assert 400 <= answer.status_code < 500, answer.text


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data; boundary=", "multipart/form-data; boundary=x; charset=nonsense", "multipart/form-data;;=x"],
)
def test_forms(client, content_type):
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff\r\n--x--\r\n'
    answer = client.post("/v1/search", content=body, headers={"Content-Type": content_type})
    assert 400 <= answer.status_code < 500, answer.text


def test_a_form_of_many_fields(client):
    answer = client.post("/v1/search", files={f"f{number}": b"x" for number in range(100)})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/v1/photos/../../etc/passwd",
        "/v1/photos/%2e%2e/%2e%2e/etc/passwd/image",
        "/v1/photos/1%2f..%2f..%2fimage",
        "/v1/photos/1/image/../../../../etc/passwd",
        "/v1/photos/1%00/image",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%5capp.py",
        "/static//etc/passwd",
        "/static/swagger/../../app.py",
        "//etc/passwd",
    ],
)
def test_paths_lead_nowhere(url, path):
    parts = urlsplit(url)
    with closing(socket.create_connection((parts.hostname, parts.port), timeout=60)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = read_all(connection)
    assert answer.split(b" ", 2)[1] in {b"404", b"422", b"307"}
    assert b"root:" not in answer
    assert b"create_app" not in answer


def read_all(connection):
    parts = []
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)


def connect(url):
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def trickle(connections):
    """Sends a byte on each connection again and again, until the service has dropped them all."""
    still = list(connections)

    def all_are_dropped():
        for connection in list(still):
            try:
                connection.sendall(b"a")
            except OSError:
                still.remove(connection)
        return not still

    wait_until(all_are_dropped)


def test_slow_heads_are_dropped_while_others_are_answered(hasty):
    slow = [connect(hasty) for _ in range(40)]
    for connection in slow:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    wait_until(lambda: is_served(hasty))
    trickle(slow)
    for connection in slow:
        assert read_all(connection) == b""
        connection.close()


def test_a_client_has_only_so_many_connections(gallery_path):
    """The others, and the proxies, can still come: the system lets a process have only so many."""
    with serving(gallery=gallery_path, trusted_proxies="192.0.2.1", connections=4) as url:
        kept = [connect(url) for _ in range(4)]
        for connection in kept:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        with closing(connect(url)) as refused:
            assert read_all(refused) == b""
        for connection in kept:
            connection.close()
        wait_until(lambda: answers(url))
        assert 'svdraw_refused_requests_total{reason="connections"}' in get(url, "/metrics").text
    with serving(gallery=gallery_path, connections=0) as url:  # the address of this machine is a proxy's by itself
        assert get(url, "/livez").status_code == 200


def answers(url):
    try:
        return get(url, "/livez").status_code == 200
    except httpx.TransportError:
        return False


def test_silent_connections_are_dropped(hasty):
    with closing(connect(hasty)) as connection:
        assert read_all(connection) == b""


def send_part(url, size=1000, part=b"abc"):
    """A search whose body never ends."""
    connection = connect(url)
    head = f"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {size}\r\n\r\n"
    connection.sendall(head.encode() + part)
    return connection


def status_and_problem(connection):
    head, body = read_all(connection).split(b"\r\n\r\n", 1)
    return int(head.split(b" ", 2)[1]), json.loads(body)["status"]


def test_slow_bodies_keep_nobody_waiting_and_get_408(gallery_path):
    with serving(gallery=gallery_path, body_seconds=0.8, max_concurrent=8) as url:
        slow = [send_part(url) for _ in range(20)]  # more than twice as many as may run at once
        assert search(url).status_code == 200
        assert running(url) == 0
        for connection in slow:
            assert status_and_problem(connection) == (408, 408)
            connection.close()
        assert is_served(url)


def test_a_client_has_only_so_many_bodies_on_their_way(gallery_path):
    with serving(gallery=gallery_path, max_concurrent_per_client=2) as url:
        with closing(send_part(url)), closing(send_part(url)):
            wait_until(lambda: search(url).status_code == 429)
            assert get(url, "/readyz").status_code == 200
        wait_until(lambda: search(url).status_code == 200)


def test_requests_that_wait_behind_one_too_many_are_not_answered_one_by_one(gallery_path):
    with (
        serving(gallery=gallery_path, max_concurrent_per_client=2) as url,
        closing(send_part(url)),
        closing(send_part(url)),
    ):
        wait_until(lambda: search(url).status_code == 429)
        with closing(connect(url)) as connection:
            connection.sendall(500 * b"GET /v1/photos HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_all(connection).count(b"HTTP/1.1 429") == 1


def test_a_body_on_its_way_that_takes_too_much_memory_is_refused(gallery_path):
    with serving(gallery=gallery_path, max_body_bytes=100_000, max_received_bytes=100_000) as url:
        with closing(send_part(url, 90_000, bytes(80_000))):
            wait_until(lambda: search(url, bytes(30_000)).status_code == 503)
            assert search(url).status_code == 200
        wait_until(lambda: search(url, bytes(30_000)).status_code == 400)


def running(url):
    [value] = re.findall(r"^svdraw_requests_running (\S+)$", get(url, "/metrics").text, flags=re.M)
    return float(value)


@pytest.fixture
def wordy(own_gallery):
    """A gallery whose photos are listed in 1.5 MB."""
    with closing(Gallery.open(own_gallery, write=True)) as gallery:
        gallery.catalogue.describe({identifier: (None, {"text": "x" * 60_000}) for identifier in range(1, 25)})
    return own_gallery


def ask_and_do_not_read(url, times=20):
    """Asks for more than the system keeps for a connection, and takes none of it."""
    connection = connect(url)
    connection.sendall(times * b"GET /v1/photos?limit=24 HTTP/1.1\r\nHost: x\r\n\r\n")
    return connection


def test_an_answer_that_is_not_read_keeps_its_place_until_its_client_leaves(wordy):
    with serving(gallery=wordy, max_concurrent=2) as url:
        with closing(ask_and_do_not_read(url)), closing(ask_and_do_not_read(url)):
            wait_until(lambda: get(url, "/v1/gallery").status_code == 429)
            refused = search(url)
            assert (refused.status_code, refused.json()["status"]) == (429, 429)
            assert refused.headers["retry-after"]
            assert get(url, "/readyz").status_code == 200
        wait_until(lambda: running(url) == 0)
        assert search(url).status_code == 200


def test_an_answer_that_is_not_read_is_dropped_and_gives_its_place_back(wordy):
    with serving(gallery=wordy, max_concurrent=1, send_seconds=2) as url, closing(ask_and_do_not_read(url)):
        wait_until(lambda: running(url) == 1)
        wait_until(lambda: running(url) == 0)


def test_whoever_leaves_before_the_end_of_a_body_is_no_error_of_the_service(gallery_path, caplog):
    with serving(gallery=gallery_path) as url:
        for _ in range(3):
            send_part(url).close()
        text = 'route="/v1/search",status="400"'
        wait_until(lambda: text in get(url, "/metrics").text)
        assert 'status="500"' not in get(url, "/metrics").text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_going_on_after_the_answer_is_no_use(hasty):
    with closing(connect(hasty)) as connection:
        connection.sendall(b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        trickle([connection])


def test_answers_that_nobody_reads_are_dropped(hasty):
    with closing(connect(hasty)) as connection:
        connection.sendall(500 * b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        poll = select.poll()
        poll.register(connection, 0)  # reports nothing but a reset
        assert poll.poll(60_000)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ",
    ],
    ids=["head", "trailers"],
)
def test_endless_headers_are_refused(gallery_path, start):
    with serving(gallery=gallery_path, header_seconds=60) as url, closing(connect(url)) as connection:
        connection.sendall(start)
        connection.sendall(b"a" * 100_000)
        assert status_and_problem(connection) == (431, 431)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 3000 + b"\r\n", 431),
    ],
    ids=["url", "header", "number of headers"],
)
def test_long_heads_are_answered(url, head, status):
    with closing(connect(url)) as connection:
        connection.sendall(head)
        assert status_and_problem(connection) == (status, status)


def test_small_chunks_are_a_body(url):
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in FILES["PNG"])
    with closing(connect(url)) as connection:
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_a_body_of_nothing_but_small_chunks_is_refused(url):
    """Each chunk costs more than its byte."""
    with closing(connect(url)) as connection:
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\nx\r\n" * 40_000
        )
        assert status_and_problem(connection) == (431, 431)


def test_broken_requests(url):
    for request in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        with closing(connect(url)) as connection:
            connection.sendall(request)
            status, told = status_and_problem(connection)
            assert status == told
            assert 400 <= status < 500
