"""Photos that browsers cannot show, and sketches in SVG, over HTTP."""

import base64
import io
from contextlib import closing

import pytest
from PIL import Image

from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import list_photos
from service.client.rest import Client
from tests.conftest import draw_shape
from tests.service.conftest import serving
from tests.training.model.test_formats import dng, exif_of, heif, jxl
from tests.training.model.test_vector_drawings import LINE, svg

SVG = {"Content-Type": "image/svg+xml"}


@pytest.fixture(scope="module")
def files():
    """Files by suffix, each with its media type; the first is turned."""
    picture = draw_shape("circle", 1, filled=True, size=80).crop((0, 0, 80, 60))
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF")
    return {
        "heic": (heif(picture, exif=exif_of(6)), "image/heic", (60, 80)),
        "jxl": (jxl(picture), "image/jxl", (80, 60)),
        "dng": (dng(picture), "image/tiff", (40, 30)),  # half of its size, without a preview
        "tif": (buffer.getvalue(), "image/tiff", (80, 60)),
    }


@pytest.fixture(scope="module")
def gallery(files, tiny_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    (folder / "photos").mkdir()
    for suffix, (content, *_) in files.items():
        (folder / "photos" / f"photo.{suffix}").write_bytes(content)
    with closing(Gallery.create(folder / "gallery", tiny_bundle)) as gallery:
        assert index_photos(gallery, list_photos(folder / "photos"), "cpu").encoded == len(files)
    return folder / "gallery"


@pytest.fixture
def client(gallery, start):
    return start(gallery=gallery, anonymous="write")


def test_what_browsers_cannot_show_comes_as_webp_or_as_it_is(client, files):
    for photo in client.get("/v1/photos").json()["photos"]:
        content, media_type, size = files[photo["uri"].rpartition(".")[2]]
        url = f"/v1/photos/{photo['id']}/image"
        shown, original = client.get(url), client.get(url, params={"original": True})
        assert (original.headers["content-type"], original.content) == (media_type, content)
        assert shown.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(shown.content)) as image:
            assert (image.format, image.size) == ("WEBP", size)
        etags = [answer.headers["etag"] for answer in (shown, original)]
        assert etags[0] != etags[1]
        for etag, params in zip(etags, ({}, {"original": True}), strict=True):
            again = client.get(url, params=params, headers={"If-None-Match": etag})
            assert (again.status_code, again.content) == (304, b"")
        assert client.head(url).headers["content-type"] == "image/webp"
        thumbnail = client.get(f"/v1/photos/{photo['id']}/thumbnail", params={"size": 32})
        with Image.open(io.BytesIO(thumbnail.content)) as image:
            assert max(image.size) == 32


def test_photos_that_were_indexed_are_shown_whatever_the_limit_of_requests(own_gallery, start, tmp_path):
    for number, size in enumerate(((300, 200), (200, 100))):
        Image.new("RGB", size, "red").save(tmp_path / f"{number}.png")
    (tmp_path / "list.txt").write_text("0.png\n1.png\n")
    with closing(Gallery.open(own_gallery, write=True)) as gallery:
        report = index_photos(gallery, list_photos(tmp_path / "list.txt"), "cpu", max_pixels=59_999)
        assert (report.encoded, report.rejected) == (1, 1)
        assert index_photos(gallery, list_photos(tmp_path / "list.txt"), "cpu", max_pixels=60_000).encoded == 1
        large = gallery.catalogue.uris()[str(tmp_path / "0.png")]
    client = start(gallery=own_gallery, max_pixels=10_000)
    assert client.get(f"/v1/photos/{large}/thumbnail").status_code == 200
    sent = client.post("/v1/search", content=(tmp_path / "0.png").read_bytes(), headers={"Content-Type": "image/png"})
    assert sent.status_code == 413
    Image.new("RGB", (301, 200), "red").save(tmp_path / "0.png")
    assert client.get(f"/v1/photos/{large}/thumbnail").status_code == 404


def test_a_file_that_changed_into_another_picture_is_converted_anew(client, gallery, files):
    [photo] = [photo for photo in client.get("/v1/photos").json()["photos"] if photo["uri"].endswith("jxl")]
    file = gallery.parent / "photos" / "photo.jxl"
    try:
        file.write_bytes(jxl(Image.new("RGB", (20, 20))))
        with Image.open(io.BytesIO(client.get(f"/v1/photos/{photo['id']}/image").content)) as image:
            assert image.size == (20, 20)
        file.write_bytes(files["jxl"][0][:20])
        assert client.get(f"/v1/photos/{photo['id']}/image").status_code == 404
    finally:
        file.write_bytes(files["jxl"][0])


def test_the_client_gets_the_files(gallery, files):
    with serving(gallery=gallery) as url, Client(url) as client:
        for photo in client.photos().photos:
            assert client.image(photo.id) == files[photo.uri.rpartition(".")[2]][0]


def test_uploads(own_gallery, files, start):
    client = start(gallery=own_gallery, anonymous="write")
    for suffix, (content, *_) in files.items():
        added = client.post("/v1/photos", content=content, headers={"Content-Type": "application/octet-stream"})
        assert added.status_code == 201, suffix
        assert client.get(f"/v1/photos/{added.json()['id']}/image?original=true").content == content
    refused = client.post("/v1/photos", content=svg(LINE), headers=SVG)
    assert refused.status_code == 400
    assert "an SVG drawing, which only sketches may be" in refused.json()["detail"]


def test_sketches_in_svg(client):
    drawing = svg(LINE)
    encoded = base64.b64encode(drawing).decode()
    answers = [
        client.post("/v1/search", content=drawing, headers=SVG),
        client.post("/v1/search", files={"file": ("sketch.svg", drawing, "image/svg+xml")}),
        client.post("/v1/search", json={"image": f"data:image/svg+xml;base64,{encoded}"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.text for answer in answers}) == 1
    assert client.post("/v1/embeddings", json={"input": [encoded]}).status_code == 200
    assert client.post("/v1/embeddings", json={"input": [encoded], "input_type": "photo"}).status_code == 400
    bomb = client.post("/v1/search", content=svg("<g>" * 1000 + "</g>" * 1000), headers=SVG)
    assert (bomb.status_code, "nested" in bomb.json()["detail"]) == (400, True)
