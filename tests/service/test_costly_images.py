"""Images that cost much, through a running service: each gets its problem, and everybody else their answer."""

import base64
import os
import re
import signal
import threading
from contextlib import closing

import httpx
import pytest

from index.gallery.directory import Gallery
from index.gallery.photos import NewPhoto
from service.encoding import decoding
from service.encoding.decoding import Decoder
from tests.conftest import draw_shape
from tests.service.conftest import serving, wait_until
from tests.service.encoding.test_decoding import HUGE, SKETCH, encoded, is_alive
from tests.training.model.test_costs import progressive

JPEG = {"Content-Type": "image/jpeg"}
SCANS = progressive(6000, side=1000)


@pytest.fixture(scope="module", autouse=True)
def limits():
    """Limits of processor time alone, and those of photos alone, so that nothing else fails on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_CLOCK", 600)
        patch.setattr(decoding, "_SKETCH_SHARE", 10)
        yield


@pytest.fixture(scope="module")
def decoders():
    """The decoders of the services of this module, in the order in which they began."""
    begin, begun = Decoder.__init__, []

    def note(self, *args, **options):
        begin(self, *args, **options)
        begun.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "__init__", note)
        yield begun


@pytest.fixture(scope="module")
def url(gallery_path, decoders):
    sketches = {"max_sketch_bytes": 200_000, "max_sketch_pixels": 1_000_000}
    with serving(gallery=gallery_path, decode_seconds=0.1, **sketches) as url:
        yield url


def send(url, content, path="/v1/search"):
    return httpx.post(f"{url}{path}", content=content, headers=JPEG, timeout=60)


def figure(url, name):
    [value] = re.findall(rf"^svdraw_{re.escape(name)} (\S+)$", httpx.get(f"{url}/metrics", timeout=60).text, flags=re.M)
    return float(value)


def as_photo(url, content):
    return httpx.post(f"{url}/v1/search", files={"photo": content}, timeout=60)


def as_embedding(url, content):
    body = {"input": base64.b64encode(content).decode(), "input_type": "photo"}
    return httpx.post(f"{url}/v1/embeddings", json=body, timeout=60)


@pytest.mark.parametrize("ask", [send, as_photo, as_embedding])
def test_what_is_made_to_cost_much_is_refused(url, ask):
    answer = ask(url, SCANS)
    assert answer.status_code == 422
    assert "more than 100 scans" in answer.text


@pytest.mark.parametrize("ask", [as_photo, as_embedding])
def test_what_takes_too_long_is_refused_and_others_are_answered(url, ask):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(url, HUGE)))
    thread.start()
    assert send(url, SKETCH).status_code == 200
    thread.join()
    assert answers[0].status_code == 422
    assert "more than 0.1 seconds of processor time" in answers[0].text
    assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    assert figure(url, 'decoder_kills_total{reason="time"}') >= 1


def test_sketches_have_limits_of_their_own(url):
    noise = encoded(draw_shape("circle", 1, filled=False).resize((1100, 1000)), "JPEG")
    answer = send(url, noise)
    assert (answer.status_code, "limit of 1000000 pixels" in answer.text) == (200, False)  # decoded at half its size
    answer = send(url, encoded(draw_shape("circle", 1, filled=False).resize((1100, 1000))))
    assert (answer.status_code, "limit of 1000000 pixels" in answer.text) == (413, True)
    assert as_photo(url, encoded(draw_shape("circle", 1, filled=False).resize((1100, 1000)))).status_code == 200
    answer = send(url, SKETCH + bytes(200_000))
    assert (answer.status_code, "larger than the limit of 200000 bytes" in answer.text) == (413, True)


@pytest.mark.parametrize(("name", "status"), [("SIGKILL", 200), ("SIGSEGV", 422)])
def test_a_decoder_that_ends_in_the_middle_of_a_request(url, decoders, name, status):
    send(url, SKETCH)
    pid = decoders[0]._processes._idle[-1].pid
    os.kill(pid, signal.SIGSTOP)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(send(url, SKETCH)))
    thread.start()
    wait_until(lambda: pid not in {process.pid for process in decoders[0]._processes._idle})
    os.kill(pid, getattr(signal, name))
    os.kill(pid, signal.SIGCONT)
    thread.join()
    assert answers[0].status_code == status
    assert send(url, SKETCH).status_code == 200
    assert pid not in {process.pid for process in decoders[0]._processes._all}
    assert figure(url, "decoders") >= 1


def test_a_stored_file_that_costs_much(own_gallery, tmp_path):
    """It is tried once; whatever size is asked for next is refused at once."""
    (tmp_path / "photo.png").write_bytes(HUGE)
    facts = {"sha256": "0" * 64, "bytes": 1, "modified": 1, "width": 8000, "height": 8000, "label": None}
    with closing(Gallery.open(own_gallery, write=True)) as gallery:
        vector = gallery.catalogue.same_content(gallery.catalogue.page(0, 1)[0].sha256)[2]
        uri = str(tmp_path / "photo.png")
        gallery.catalogue.add([NewPhoto(uri=uri, metadata={}, vector=vector, **facts)])
        number = gallery.catalogue.ids([uri])[uri]
    with serving(gallery=own_gallery, decode_seconds=0.1, thumbnail_cache_bytes=0) as url:
        for size in (64, 64, 200):
            answer = httpx.get(f"{url}/v1/photos/{number}/thumbnail", params={"size": size}, timeout=60)
            assert answer.status_code == 404
            assert re.search(r"takes more than 0\.1 seconds of processor time", answer.text)
        assert figure(url, 'decoder_kills_total{reason="time"}') == 1


def test_a_service_that_stops_does_not_wait_for_an_image_longer_than_for_others(gallery_path, decoders):
    with serving(gallery=gallery_path, drain_seconds=1) as url:
        assert send(url, SKETCH).status_code == 200
        pids = [process.pid for process in decoders[-1]._processes._idle]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # like an image that takes forever
        thread = threading.Thread(target=send, args=(url, SKETCH))
        thread.start()
        wait_until(lambda: not decoders[-1]._processes._idle)
    thread.join()
    assert not any(map(is_alive, pids))
