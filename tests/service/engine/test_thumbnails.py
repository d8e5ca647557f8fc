import io
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from PIL import Image

from index.gallery.directory import Gallery
from service.encoding.decoding import Decoder
from service.engine.pictures import PhotoFile, open_photo
from service.engine.thumbnails import SIZES, Thumbnails, ladder_size
from service.errors import RequestProblem
from tests.conftest import draw_shape
from tests.training.model.test_colours import DISPLAY_P3
from training.base.errors import ImageTooCostly
from training.model.images import open_image


@pytest.fixture(scope="module")
def photo(gallery_path):
    with closing(Gallery.open(gallery_path)) as gallery:
        return gallery.catalogue.page(0, 1)[0]


@pytest.fixture(scope="module")
def decoder():
    with closing(Decoder(2, 10**6)) as decoder:
        yield decoder


class Counting:
    """A decoder that only counts; ``begun`` and ``go_on`` let a test hold it up."""

    max_at_once = 4

    def __init__(self, error=None):
        self.made, self.error = [], error
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def thumbnail(self, content, size, known_pixels):
        self.made.append(size)
        self.begun.set()
        assert self.go_on.wait(60)
        if self.error:
            raise self.error
        return f"{size} of {hash(content)}".encode()


@pytest.fixture
def file(photo, tmp_path):
    """A photo's file, to change."""
    return shutil.copy2(photo.uri, tmp_path / "photo.png")


def opening(photo):
    return open_photo(Path("gallery"), photo)


async def get(thumbnails, photo, size):
    opened = opening(photo)
    with opened.file:
        return await thumbnails.get(opened, size)


def thumbnail(thumbnails, photo, size=64):
    return anyio.run(get, thumbnails, photo, size)


def at(photo, uri):
    return photo._replace(uri=str(uri))


@pytest.mark.parametrize(("size", "side"), [(32, 32), (33, 64), (64, 64), (317, 384), (1024, 1024), (5000, 2048)])
def test_sizes_are_few(size, side):
    assert ladder_size(size) == side
    assert side in SIZES


def test_what_was_made_is_kept_by_content(photo, file, tmp_path):
    decoder = Counting()
    first = Thumbnails(10**6, decoder, tmp_path / "cache")
    content = thumbnail(first, photo)
    assert thumbnail(first, at(photo, file)) == content  # the same content elsewhere
    assert thumbnail(Thumbnails(10**6, decoder, tmp_path / "cache"), photo) == content  # after a restart
    assert decoder.made == [64]
    thumbnail(first, photo, 128)
    assert decoder.made == [64, 128]


def test_nothing_is_kept_without_space(photo, tmp_path):
    decoder = Counting()
    thumbnails = Thumbnails(0, decoder, tmp_path / "cache")
    assert thumbnail(thumbnails, photo) == thumbnail(thumbnails, photo)
    assert (decoder.made, (tmp_path / "cache").exists()) == ([64, 64], False)


def test_a_changed_file_has_another_thumbnail(photo, file, decoder, tmp_path):
    thumbnails, photo = Thumbnails(10**6, decoder, tmp_path / "cache"), at(photo, file)
    before = thumbnail(thumbnails, photo)
    draw_shape("line", 3, filled=True, size=80).save(file)
    assert thumbnail(thumbnails, photo) != before
    file.write_bytes(b"no image")
    with pytest.raises(RequestProblem, match="no longer an image") as caught:
        thumbnail(thumbnails, photo)
    assert caught.value.status == 404


def test_one_request_makes_what_several_want(photo, tmp_path):
    decoder = Counting()
    decoder.go_on.clear()
    thumbnails, found = Thumbnails(10**6, decoder, tmp_path / "cache"), []

    async def one():
        found.append(await get(thumbnails, photo, 64))

    async def several():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            assert await anyio.to_thread.run_sync(decoder.begun.wait, 60)
            for _ in range(5):
                tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            decoder.go_on.set()

    anyio.run(several)
    assert (decoder.made, len(found), len(set(found))) == ([64], 6, 1)


def test_what_cannot_be_made_is_not_tried_again(photo, file, tmp_path):
    decoder = Counting(ImageTooCostly("decoding it takes more than 10 seconds of processor time"))
    thumbnails = Thumbnails(10**6, decoder, tmp_path / "cache")
    for size in (64, 64, 128):
        with pytest.raises(RequestProblem, match="there is no thumbnail: decoding it takes more than 10") as caught:
            thumbnail(thumbnails, at(photo, file), size)
        assert caught.value.status == 404
    assert decoder.made == [64]
    draw_shape("line", 3, filled=True, size=80).save(file)  # another file may be better
    decoder.error = None
    assert thumbnail(thumbnails, at(photo, file))


def test_a_file_that_breaks_off_may_still_be_there(tmp_path):
    class Cut(io.BytesIO):
        def read(self, *args):
            raise RuntimeError("payload is not completed")

    opened = PhotoFile("far://photo.png", Cut(), None, "1", is_local=False)
    with pytest.raises(RequestProblem, match="cannot be read at the moment") as caught:
        anyio.run(Thumbnails(10**6, Counting(), tmp_path / "cache").get, opened, 64)
    assert caught.value.status == 503


def test_a_thumbnail_has_the_colours_that_are_meant(tmp_path, photo, decoder):
    file = tmp_path / "wide.png"
    Image.new("RGB", (64, 64), (200, 120, 60)).save(file, icc_profile=DISPLAY_P3)
    content = thumbnail(Thumbnails(10**6, decoder, tmp_path / "cache"), at(photo, file))
    with Image.open(io.BytesIO(content)) as made:
        assert "icc_profile" not in made.info
        expected = open_image(file).getpixel((32, 32))
        assert made.getpixel((32, 32)) == pytest.approx(expected, abs=4)


def test_no_thumbnail_is_made_of_a_photo_with_too_many_pixels(photo, tmp_path):
    with closing(Decoder(1, 64 * 64 - 1)) as decoder:
        thumbnails = Thumbnails(10**6, decoder, tmp_path / "cache")
        with pytest.raises(RequestProblem, match="64 x 64 px is more than the limit of 4095 pixels"):
            thumbnail(thumbnails, photo._replace(width=63))


def test_thumbnails_searches_and_uploads_share_the_limit_of_images_decoded_at_once(
    start, own_gallery, sketch, monkeypatch
):
    monkeypatch.setattr("training.inference.plan.processors", lambda: 2)
    client = start(gallery=own_gallery, anonymous="write", thumbnail_cache_bytes=0)
    now, most, lock = 0, [], threading.Lock()
    wait = Decoder._wait

    def counted(*args):
        nonlocal now
        with lock:
            now += 1
            most.append(now)
        try:
            return wait(*args)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(Decoder, "_wait", counted)
    buffer, png = io.BytesIO(), {"Content-Type": "image/png"}
    Image.effect_noise((50, 70), 90).save(buffer, "PNG")
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(client.get, f"/v1/photos/{number}/thumbnail") for number in range(1, 9)]
        answers += [pool.submit(client.post, "/v1/search", content=sketch, headers=png) for _ in range(3)]
        answers.append(pool.submit(client.post, "/v1/photos", content=buffer.getvalue(), headers=png))
    assert sorted(answer.result().status_code for answer in answers) == [200] * 11 + [201]
    assert max(most) <= 2
