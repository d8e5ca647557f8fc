import hashlib
import itertools
import multiprocessing
import os
import random
import subprocess
from contextlib import closing, suppress

import anyio
import numpy as np
import pytest

from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.generations import read_generation
from index.gallery.photos import NewPhoto
from service.engine import building, lifecycle
from service.engine.building import build_base, should_build_base
from service.engine.lifecycle import Engine
from service.engine.uploads import Upload
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from tests.service.conftest import wait_until

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("SVDRAW_TEST_KILLS", "0"))


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def due(own_gallery):
    """A gallery that needs a new base, because another kind of index was chosen."""
    with closing(Gallery.open(own_gallery, write=True)) as gallery:
        gallery.configure("codes", None)
    return own_gallery


def builds(metrics, result):
    return metrics.registry.get_sample_value("svdraw_gallery_base_builds_total", {"result": result})


def running(metrics):
    return metrics.registry.get_sample_value("svdraw_gallery_base_builds_running")


def instead(monkeypatch, script):
    """Lets a shell script run in place of the command."""
    monkeypatch.setattr(building, "_command", lambda gallery: ["sh", "-c", script])


def is_running(pid):
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:  # somebody else's child
        state = subprocess.run(["ps", "-o", "stat=", str(pid)], capture_output=True, text=True, check=False).stdout
        return bool(state) and not state.startswith("Z")


def test_a_failure_is_told_in_the_last_line_of_the_child(metrics, own_gallery, monkeypatch):
    instead(monkeypatch, "echo first >&2; echo 'the disk is full' >&2; echo >&2; exit 3")
    with pytest.raises(GalleryError, match=r"could not be built: the disk is full$"):
        anyio.run(build_base, own_gallery, metrics)
    instead(monkeypatch, "exit 3")
    with pytest.raises(GalleryError, match=r"could not be built: status 3$"):
        anyio.run(build_base, own_gallery, metrics)
    assert (builds(metrics, "failed"), running(metrics)) == (2, 0)


def test_a_real_failure(metrics, tmp_path):
    with pytest.raises(GalleryError, match=f"could not be built: .*{tmp_path} is not a gallery"):
        anyio.run(build_base, tmp_path, metrics)


def test_a_child_steps_back_behind_searches(metrics, own_gallery, tmp_path, monkeypatch):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    instead(monkeypatch, f"read line < {fifo}; nice > {tmp_path}/niceness")
    lower = building._lower_priority

    def lower_and_go_on(pid):
        lower(pid)
        fifo.write_text("go on\n")

    monkeypatch.setattr(building, "_lower_priority", lower_and_go_on)
    anyio.run(build_base, own_gallery, metrics)
    assert int((tmp_path / "niceness").read_text()) >= 10


def test_a_child_ends_with_the_service_and_takes_its_children_along(metrics, own_gallery, tmp_path, monkeypatch):
    instead(monkeypatch, f"sleep 600 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait")

    async def stop():
        async with anyio.create_task_group() as service:
            service.start_soon(build_base, own_gallery, metrics)
            await anyio.to_thread.run_sync(wait_until, lambda: (tmp_path / "pid").exists() and running(metrics) == 1)
            assert is_running(int((tmp_path / "pid").read_text()))
            service.cancel_scope.cancel()

    anyio.run(stop)
    wait_until(lambda: not is_running(int((tmp_path / "pid").read_text())))
    assert (builds(metrics, "killed"), running(metrics)) == (1, 0)


def test_no_base_is_built_without_need(own_gallery):
    assert not should_build_base(own_gallery)


def test_a_folder_of_the_service_takes_no_packages_place(metrics, due, tmp_path, monkeypatch):
    (tmp_path / "index.py").write_text("raise SystemExit('another index')")
    monkeypatch.chdir(tmp_path)
    anyio.run(build_base, due, metrics)
    assert read_generation(due).kind == "codes"


def photo(number, vector):
    return NewPhoto(f"/photos/{number}.png", f"{number:064x}", 1, 1, 8, 8, None, {}, vector)


@pytest.mark.parametrize("number", range(max(1, KILLS)))
def test_what_was_acknowledged_survives_a_kill_of_the_child(due, number):
    """The child is killed once it has begun to write, or at a random moment; photos come and go meanwhile."""
    command, steps = building._command(due), random.Random(number).randrange(1000) if number else 1000
    with closing(Gallery.open(due, write=True)) as gallery:
        vectors = gallery.catalogue.vectors(16)[1]
        expected = set(gallery.catalogue.uris())
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for step in range(steps):
            with gallery.writing():
                gallery.catalogue.add([photo(step, vectors[step % 24])])
            expected.add(f"/photos/{step}.png")
            if step % 5 == 4:
                gallery.catalogue.remove(list(gallery.catalogue.ids([f"/photos/{step - 1}.png"]).values()))
                expected.remove(f"/photos/{step - 1}.png")
                assert gallery.publish_layer() is not None
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.02)  # which leaves the processor to the child
            if child.poll() is not None or (not number and (due / "generations" / ".base").exists()):
                break
        child.kill()
        child.communicate()
        assert set(gallery.catalogue.uris()) == expected
        assert subprocess.run(command, check=False, capture_output=True).returncode == 0
        assert gallery.problems() == []
        assert set(gallery.catalogue.uris()) == expected
        manifest = read_generation(due)
        assert (manifest.kind, manifest.count) == ("codes", len(expected))
    assert not list((due / "generations").glob(".*"))


def serve_and_tell(path, told):
    """What a service does that gets one photo after the other, and tells of each that it has acknowledged."""
    lifecycle._BASE_SECONDS = 0.01
    settings = ServiceSettings(gallery=path, device="cpu", runtime="torch", reload_seconds=0, live_changes=3)
    engine = Engine(settings, Metrics())

    async def work():
        async with anyio.create_task_group() as loops:
            for loop in engine.loops:
                loops.start_soon(loop.run)
            for number in itertools.count():
                content = f"photo {number}".encode()
                sha256, vector = hashlib.sha256(content).hexdigest(), np.eye(16, dtype=np.float32)[number % 16]
                async with engine.lease() as serving:
                    photo, _ = await engine.add(serving, Upload(content, sha256, ".png", (1, 1), vector, None, {}))
                told.send(photo.id)

    anyio.run(work)


def test_what_was_acknowledged_survives_a_kill_of_the_service_while_its_child_builds(due):
    context = multiprocessing.get_context("forkserver")
    received, told = context.Pipe(duplex=False)
    service = context.Process(target=serve_and_tell, args=(due, told))
    service.start()
    told.close()
    acknowledged = set()
    while not (due / "generations" / ".base").exists() and read_generation(due).kind == "exact":
        acknowledged.add(received.recv())
    service.kill()
    service.join()
    with suppress(EOFError):
        while True:
            acknowledged.add(received.recv())
    command = building._command(due)  # waits for the child that the service has left behind
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    with closing(Gallery.open(due)) as gallery:
        assert gallery.problems() == []
        assert gallery.catalogue.photos(list(acknowledged)).keys() == acknowledged
        manifest = read_generation(due)
        assert (manifest.kind, manifest.count) == ("codes", gallery.catalogue.count())
    assert not list((due / "generations").glob(".*"))
