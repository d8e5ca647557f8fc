import io

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.http.files import IMAGE_START, SHOWN_TYPES, image_type, local_file
from tests.service.conftest import serving
from tests.training.model.test_formats import dng, heif, jxl


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("WEBP", "image/webp"),
        ("AVIF", "image/avif"),
    ],
)
def test_types_by_the_first_bytes(kind, media_type):
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3)).save(buffer, kind)
    assert image_type(buffer.getvalue()[:IMAGE_START]) == media_type


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (heif(Image.new("RGB", (8, 8))), "image/heic"),
        (jxl(Image.new("RGB", (8, 8))), "image/jxl"),
        (jxl(Image.new("RGB", (8, 8)), use_container=True), "image/jxl"),
        (dng(Image.new("RGB", (8, 8))), "image/tiff"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "image/heif"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "image/x-dcraw"),
        (b"FUJIFILMCCD-RAW 0201", "image/x-dcraw"),
    ],
)
def test_types_that_no_browser_shows(content, media_type):
    assert image_type(content[:IMAGE_START]) == media_type
    assert media_type not in SHOWN_TYPES


@pytest.mark.parametrize(
    "start",
    [b"", b"<svg", b"<html>", b"RIFF1234WAVE", b"1234ftypmp42", b"\x89PNG", b"BM is a text, not a bitmap", b"GIF8"],
)
def test_anything_else_is_no_image(start):
    assert image_type(start) is None


@pytest.fixture
def photo(client, shapes):
    """URL of a photo's file, and its content."""
    return "/v1/photos/2/image", (shapes / "photo" / "circle" / "circle-1.png").read_bytes()


def test_ranges(client, photo):
    path, content = photo
    whole = client.get(path)
    assert (whole.status_code, whole.content) == (200, content)
    assert (whole.headers["accept-ranges"], whole.headers["content-length"]) == ("bytes", str(len(content)))
    parts = {"0-3": content[:4], "10-": content[10:], "-5": content[-5:], "2-99999": content[2:]}
    for given, expected in parts.items():
        part = client.get(path, headers={"Range": f"bytes={given}"})
        assert (part.status_code, part.content) == (206, expected)
        assert part.headers["content-range"].endswith(f"/{len(content)}")
        assert part.headers["etag"] == whole.headers["etag"]
    several = client.get(path, headers={"Range": "bytes=0-1,5-6"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")


@pytest.mark.parametrize("given", ["bytes=99999-", "bytes=5-2", "bytes=x", "bytes"])
def test_ranges_that_make_no_sense(client, photo, given):
    path, content = photo
    answer = client.get(path, headers={"Range": given})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(content)}"
    assert answer.headers["content-type"] == "application/problem+json"


def test_other_units_are_left_aside(client, photo):
    path, content = photo
    answer = client.get(path, headers={"Range": "lines=0-3"})
    assert (answer.status_code, answer.content) == (200, content)


def test_a_range_only_of_what_the_client_has(client, photo):
    path, content = photo
    headers = client.get(path).headers
    for validator in (headers["etag"], headers["last-modified"]):
        assert client.get(path, headers={"Range": "bytes=0-3", "If-Range": validator}).status_code == 206
    for validator in ('"other"', f"W/{headers['etag']}", "Mon, 01 Jan 2001 00:00:00 GMT"):
        answer = client.get(path, headers={"Range": "bytes=0-3", "If-Range": validator})
        assert (answer.status_code, answer.content) == (200, content)


def test_head_reads_nothing(client, photo, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("the file is read")

    path, content = photo
    monkeypatch.setattr("starlette.responses.anyio.open_file", fail)
    answer = client.head(path)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", str(len(content)))
    assert client.head(path, headers={"Range": "bytes=0-3"}).headers["content-length"] == "4"


def test_the_file_that_was_opened_is_sent_and_closed(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"opened")
    file = path.open("rb")
    response = local_file(file, "image/png", {"ETag": '"opened"'})
    other = tmp_path / "other.png"
    other.write_bytes(b"longer than what was opened")
    other.replace(path)
    answer = TestClient(response).get("/")
    assert (answer.content, answer.headers["etag"], answer.headers["content-length"]) == (b"opened", '"opened"', "6")
    assert file.closed


def test_the_file_is_closed_if_nothing_of_it_is_sent(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"opened")
    file = path.open("rb")
    with pytest.raises(Exception, match="6 bytes"):
        TestClient(local_file(file, "image/png", {})).get("/", headers={"Range": "bytes=9-"})
    assert file.closed


def test_over_a_socket(gallery_path, shapes):
    content = (shapes / "photo" / "circle" / "circle-1.png").read_bytes()
    with serving(gallery=gallery_path) as url, httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(3):  # on one connection
            assert client.get("/v1/photos/2/image").content == content
            assert client.get("/v1/photos/2/image", headers={"Range": "bytes=1-2"}).content == content[1:3]
            for path in ("/", "/livez", "/v1/photos/2/image", "/v1/photos/2/thumbnail", "/static/app.js"):
                assert client.head(path).headers["content-length"] == client.get(path).headers["content-length"]
