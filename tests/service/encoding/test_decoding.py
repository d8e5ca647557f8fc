"""Decoders are processes that may be killed, and are: by limits, by crashes and by others."""

import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest
from PIL import Image

from service.encoding import decoding, processes
from service.encoding.decoding import Decoder
from service.errors import RequestProblem
from service.http.metrics import Metrics
from tests.conftest import draw_shape
from tests.service.conftest import wait_until
from tests.training.model.test_vector_drawings import LINE, svg
from training.base.errors import ImageError, ImageTooCostly, ImageTooLarge
from training.model.images import open_image
from training.model.preprocessing import Preprocessing

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
SEEN = Preprocessing(size=64)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


SKETCH = encoded(draw_shape("circle", 1, filled=False))
HUGE = encoded(Image.new("L", (8000, 8000), 255), compress_level=1)  # half a second of processor time


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def decoder(metrics):
    with closing(Decoder(2, 64_000_000, metrics=metrics)) as decoder:
        yield decoder


def arranged(decoder, content=SKETCH, *, sketch=True):
    with decoder.place() as place:
        return decoder.arranged(content, SEEN, place, sketch=sketch)


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"svdraw_{name}", labels)


def waiting_process(decoder):
    """The decoder that gets the next image."""
    anyio.run(decoder.check)
    return decoder._processes._idle[-1].pid


@contextmanager
def stopped(decoder, content=SKETCH):
    """An image whose decoder does not go on; gives its process, and the result to come."""
    pid = waiting_process(decoder)
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(arranged, decoder, content)
        wait_until(lambda: not decoder._processes._idle)
        yield pid, result


def test_images_are_arranged_as_they_are_here(decoder):
    for content, sketch in [(SKETCH, True), (encoded(draw_shape("square", 2, filled=True), "JPEG"), False)]:
        expected = SEEN.arrange(open_image(content, draft=SEEN.draft))
        found = arranged(decoder, content, sketch=sketch)
        np.testing.assert_array_equal(found.pixels, expected)
        assert not found.is_blank
    assert arranged(decoder, encoded(Image.new("L", (50, 50), 255))).is_blank


def test_facts_and_thumbnails(decoder):
    content = encoded(Image.effect_noise((300, 200), 90), "JPEG")
    assert decoder.describe(content) == ("JPEG", 300, 200)
    with Image.open(io.BytesIO(decoder.thumbnail(content, 64))) as made:
        assert (made.format, made.size) == ("WEBP", (64, 43))


def test_svg_is_drawn_by_the_decoder_and_only_as_a_sketch(decoder, monkeypatch):
    found = arranged(decoder, svg(LINE))
    assert not found.is_blank
    with pytest.raises(ImageError, match="only sketches may be"):
        arranged(decoder, svg(LINE), sketch=False)


def test_one_decoder_serves_many_images(decoder, metrics):
    for _ in range(5):
        arranged(decoder)
        with pytest.raises(ImageError, match="not an image"):
            arranged(decoder, b"nothing")
    assert (value(metrics, "decoders"), value(metrics, "decoder_starts_total")) == (1, 1)


@ON_LINUX
def test_a_decoder_has_no_pytorch_and_ends_before_others_when_memory_runs_out(decoder):
    arranged(decoder)
    process = Path(f"/proc/{waiting_process(decoder)}")
    assert "torch" not in (process / "maps").read_text()
    assert int((process / "oom_score_adj").read_text()) == 1000


def test_too_much_processor_time(metrics, monkeypatch):
    monkeypatch.setattr(decoding, "_CLOCK", 600)  # however busy the machine is
    with closing(Decoder(2, 64_000_000, seconds=0.1, metrics=metrics)) as decoder:
        with pytest.raises(ImageTooCostly, match=r"decoding it takes more than 0\.1 seconds of processor time"):
            arranged(decoder, HUGE, sketch=False)
        arranged(decoder, SKETCH, sketch=False)
    assert value(metrics, "decoder_kills_total", reason="time") == 1
    assert value(metrics, "decoder_starts_total") == 2


@ON_LINUX
def test_too_much_memory(decoder, metrics, monkeypatch):
    monkeypatch.setattr(decoding, "_BYTES", 4 << 20)
    monkeypatch.setattr(decoding, "_BYTES_A_PIXEL", 0)
    with pytest.raises(ImageTooLarge, match="decoding it takes more than 4 MiB of memory"):
        arranged(decoder, encoded(Image.new("RGB", (3000, 3000))), sketch=False)
    assert value(metrics, "decoder_kills_total", reason="memory") == 1
    monkeypatch.undo()
    arranged(decoder)


def test_too_much_time_by_the_clock(decoder, metrics, monkeypatch):
    monkeypatch.setattr(decoding, "_CLOCK", 0.01)
    monkeypatch.setattr(decoding, "_QUICK", 0.01)
    with stopped(decoder) as (_, result), pytest.raises(ImageTooCostly, match=r"more than 0\.03 seconds$"):
        result.result(60)
    assert value(metrics, "decoder_kills_total", reason="clock") == 1


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS"])
def test_a_crash(decoder, metrics, name):
    with stopped(decoder) as (pid, result):
        os.kill(pid, getattr(signal, name))
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(ImageTooCostly, match="its decoder crashed"):
            result.result(60)
    assert value(metrics, "decoder_kills_total", reason="crash") == 1
    arranged(decoder)


def test_an_image_whose_decoder_somebody_kills_gets_another(decoder, metrics):
    with stopped(decoder) as (pid, result):
        os.kill(pid, signal.SIGKILL)
        assert not result.result(60).is_blank
    os.kill(waiting_process(decoder), signal.SIGKILL)  # between two images
    arranged(decoder)
    assert value(metrics, "decoder_kills_total", reason="killed") == 2
    assert value(metrics, "decoders") == 1


def test_an_image_whose_decoders_are_killed_again_and_again_is_given_up(decoder, monkeypatch):
    take = decoder._processes.take

    def take_killed(*, new):
        process = take(new=new)
        os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(decoder._processes, "take", take_killed)
    with pytest.raises(RequestProblem, match="killed by somebody") as caught:
        arranged(decoder)
    assert caught.value.status == 503


def test_the_program_that_forks_decoders_is_started_again(decoder):
    before = waiting_process(decoder)
    processes._nursery()._program.kill()
    processes._nursery()._program.wait()
    arranged(decoder)
    assert waiting_process(decoder) != before


def test_an_image_that_takes_long_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr(decoding, "_QUICK", 0.01)
    with closing(Decoder(1, 64_000_000)) as decoder, stopped(decoder) as (pid, result):
        arranged(decoder)  # in the only place there is
        assert not result.done()
        wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pid) >= 10)
        os.kill(pid, signal.SIGCONT)
        assert not result.result(60).is_blank
        wait_until(lambda: len(decoder._processes._all) == 1)  # one of low priority serves no other image


def test_large_images_are_decoded_one_at_a_time(decoder, monkeypatch):
    assert decoder._large.acquire()
    monkeypatch.setattr(decoding, "_PATIENCE", 0.01)
    with pytest.raises(RequestProblem, match="many large images wait") as caught:
        arranged(decoder, HUGE, sketch=False)
    assert caught.value.status == 503
    arranged(decoder, SKETCH)
    decoder._large.release()
    assert arranged(decoder, HUGE, sketch=False).is_blank


def test_sketches_have_limits_of_their_own():
    with closing(Decoder(1, 1000, sketch_pixels=100)) as decoder:
        content = encoded(Image.new("L", (20, 20)))
        arranged(decoder, content, sketch=False)
        with pytest.raises(ImageTooLarge, match="20 x 20 px is more than the limit of 100 pixels"):
            arranged(decoder, content)


def test_closing_ends_what_is_being_decoded(decoder, metrics):
    with stopped(decoder) as (_, result):
        decoder.close()
        with pytest.raises(RequestProblem, match="stopping") as caught:
            result.result(60)
    assert caught.value.status == 503
    with pytest.raises(RequestProblem, match="stopping"):
        arranged(decoder)
    assert value(metrics, "decoders") == 0


def test_where_no_process_can_be_started_images_get_503(decoder, monkeypatch):
    nursery = processes._Nursery()
    monkeypatch.setattr(processes, "_nursery", lambda: nursery)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RequestProblem, match="no image can be decoded at the moment") as caught:
        arranged(decoder)
    assert caught.value.status == 503
    with pytest.raises(OSError, match="nowhere"):  # which the loop that checks this makes an alarm of
        anyio.run(decoder.check)
    monkeypatch.undo()
    arranged(decoder)


def test_many_threads(decoder):
    contents = [SKETCH, encoded(draw_shape("line", 2, filled=False)), b"nothing"] * 10
    expected = {content: arranged(decoder, content).pixels.tobytes() for content in contents[:2]}
    with ThreadPoolExecutor(8) as pool:
        results = [(content, pool.submit(arranged, decoder, content)) for content in contents]
        for content, result in results:
            if content == b"nothing":
                assert isinstance(result.exception(), ImageError)
            else:
                assert result.result().pixels.tobytes() == expected[content]
    assert len(decoder._processes._all) <= 2


@ON_LINUX
def test_decoders_end_with_the_service_even_if_it_is_killed():
    code = (
        "import sys; from service.encoding.decoding import Decoder; from service.encoding import processes;"
        "d = Decoder(1, 10_000); d.describe(bytes.fromhex(sys.argv[1]));"
        "print(processes._nursery()._program.pid, d._processes._idle[0].pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, SKETCH.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert all(is_alive(pid) for pid in pids)
        os.kill(pids[1], signal.SIGTERM)  # as a supervisor sends to all processes at once
        os.kill(pids[1], signal.SIGINT)
        os.kill(pids[1], signal.SIGSTOP)  # in the middle of an image
        assert all(is_alive(pid) for pid in pids)
        program.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
