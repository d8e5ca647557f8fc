"""``svdraw serve --processes``: several processes answer at one port as one service."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from index.gallery.generations import read_generation
from index.gallery.query_moments import known_queries
from service import processes
from service.errors import ServiceError
from service.settings import ServiceSettings
from tests.conftest import draw_shape
from tests.service.conftest import wait_until
from tests.service.test_hostile import encoded
from tests.service.test_two_services import PNG, start, url_of

pytestmark = pytest.mark.long

PATIENCE = 240  # seconds for a process that loads everything on a busy machine


class Service:
    """A running service of two processes."""

    def __init__(self, process, url):
        self.process = process
        self.url = url

    @property
    def members(self):
        below = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in below if b"spawn_main" in command_line(pid)]

    @contextmanager
    def client(self, pid):
        """A client whose connection one process has accepted, because the others were stopped meanwhile."""
        others = [member for member in self.members if member != pid]
        with httpx.Client(base_url=self.url, timeout=PATIENCE) as client:
            try:
                for other in others:
                    os.kill(other, signal.SIGSTOP)
                assert client.get("/livez").status_code == 200
            finally:
                for other in others:
                    os.kill(other, signal.SIGCONT)
            yield client


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
        return b""


@pytest.fixture(scope="module")
def service(gallery_path, tmp_path_factory):
    gallery = tmp_path_factory.mktemp("processes") / "gallery"
    shutil.copytree(gallery_path, gallery, ignore=shutil.ignore_patterns("queries.sqlite"))
    options = {"gallery": gallery, "anonymous": "write", "reload_seconds": 600, "processes": 2}
    process = start(**options)
    try:
        running = Service(process, url_of(process))
        wait_until(lambda: httpx.get(f"{running.url}/readyz", timeout=PATIENCE).status_code == 200, PATIENCE)
        running.gallery = gallery
        yield running
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def search(client, sketch):
    answer = client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return {result["id"] for result in answer.json()["results"]}


def add(client, photo):
    answer = client.post("/v1/photos", content=photo, headers=PNG)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def metric(client, name):
    [value] = [line.rsplit(" ", 1)[1] for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
    return float(value)


def test_what_one_process_changes_the_other_finds_at_once(service, sketch):
    one, other = service.members
    with service.client(one) as here, service.client(other) as there:
        before = search(there, sketch)
        photo = encoded(draw_shape("square", 7, filled=True, size=110), "PNG")
        added = add(here, photo)
        assert search(there, sketch) == before | {added}
        assert there.delete(f"/v1/photos/{added}").status_code == 204
        assert search(here, sketch) == before


def test_each_process_tells_the_metrics_of_both(service, sketch):
    one, other = service.members
    name = 'svdraw_request_duration_seconds_count{method="POST",route="/v1/search",status="200"}'
    with service.client(one) as here, service.client(other) as there:
        search(here, sketch)
        before = metric(there, name)
        for client in (here, there, here):
            search(client, sketch)
        assert metric(here, name) == metric(there, name) == before + 3
        assert metric(here, "svdraw_gallery_photos") == len(search(here, sketch))


def test_a_process_that_dies_is_replaced_while_the_other_answers(service, sketch):
    one, other = service.members
    with service.client(other) as there:
        restarts = metric(there, "svdraw_process_restarts_total")
        os.kill(one, signal.SIGKILL)
        wait_until(lambda: len(set(service.members) - {one}) == 2, PATIENCE)
        assert search(there, sketch)
        assert metric(there, "svdraw_process_restarts_total") == restarts + 1
    [new] = set(service.members) - {other}
    with service.client(new) as here:
        assert here.get("/readyz").status_code == 200  # it accepts none before it can answer
        assert search(here, sketch)


def test_all_end_when_the_service_is_stopped_and_what_they_learned_adds_up(service, sketch):
    generation, searches = read_generation(service.gallery), 0
    known = known_queries(service.gallery, generation.model, generation.dim).count
    members = service.members
    name = 'svdraw_request_duration_seconds_count{method="POST",route="/v1/search",status="200"}'
    for pid in members:
        with service.client(pid) as client:
            search(client, sketch)
            searches = metric(client, name)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(PATIENCE) == 0
    assert not [pid for pid in members if Path(f"/proc/{pid}").exists()]
    count = known_queries(service.gallery, generation.model, generation.dim).count
    assert known + len(members) <= count <= searches  # but for what the killed process had not stored


@pytest.fixture
def family(monkeypatch):
    """The parent of two processes that only seem to run."""
    settings = ServiceSettings(gallery="missing", processes=2)
    monkeypatch.setattr("service.http.metrics.mark_process_dead", lambda pid: None)  # there are no files of metrics
    return processes._Family(settings, None)


class Ended:
    """A process that has ended."""

    pid, exitcode = 1, 1

    def join(self):
        pass


def end(family, member, message=None, lived=0.0):
    member.messages, theirs = multiprocessing.Pipe(duplex=False)
    if message:
        theirs.send(message)
    theirs.close()
    member.process, member.born = Ended(), time.monotonic() - lived
    family._lay_out(member)


def test_what_keeps_a_process_from_serving_at_the_start_ends_the_service(family):
    with pytest.raises(ServiceError, match="no such gallery"):
        end(family, family._members[0], "no such gallery")


def test_pauses_grow_while_processes_end_soon(family):
    member, pauses = family._members[1], []
    for lived in (5, 5, 5, 500, 5):
        before = time.monotonic()
        end(family, member, lived=lived)
        pauses.append(member.pause)
        assert member.due >= before + member.pause
    assert pauses == [0.5, 1, 2, 0.5, 1]
    for _ in range(20):
        end(family, member, "the gallery is damaged")  # later, the others go on
    assert member.pause == 60


PARENT = """
import multiprocessing, sys, time
from service import processes

def child():
    import threading
    threading.Thread(target=processes._end_with_parent, daemon=True).start()
    print("begun", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    started = multiprocessing.get_context("spawn").Process(target=child)
    started.start()
    print(started.pid, flush=True)
    started.join()
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "begun\n"
        parent.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text())
