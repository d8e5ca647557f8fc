"""Two services on one gallery, a process of its own and this one; nobody reads the log of the first."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import httpx
import pytest

from tests.conftest import draw_shape
from tests.service.conftest import serving, wait_until
from tests.service.test_hostile import encoded

PNG = {"Content-Type": "image/png"}


def picture(number):
    return encoded(draw_shape("square", number, filled=True, size=100 + number), "PNG")


def start(**options):
    """Starts a service on a port that the system chooses; returns the process."""
    flags = {"port": 0, "device": "cpu", "runtime": "torch"} | options
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return subprocess.Popen([sys.executable, "-m", "service", *words], stderr=subprocess.PIPE, text=True)


def url_of(process):
    """Reads the log until it says where the service listens."""
    for line in process.stderr:
        if " at http://" in line:
            return json.loads(line)["message"].rsplit(" ", 1)[1]
    raise AssertionError("it ended")


@pytest.fixture(scope="module")
def clients(gallery_path, tmp_path_factory):
    """A client of each of the two, and the gallery."""
    gallery = tmp_path_factory.mktemp("two") / "gallery"
    shutil.copytree(gallery_path, gallery, ignore=shutil.ignore_patterns("queries.sqlite"))
    options = {"gallery": gallery, "anonymous": "write", "reload_seconds": 0.2}
    with start(**options) as process, serving(**options) as url:
        try:
            with (
                httpx.Client(base_url=url_of(process), timeout=60) as one,
                httpx.Client(base_url=url, timeout=60) as other,
            ):
                wait_until(lambda: one.get("/readyz").status_code == 200, 120)
                yield one, other, gallery
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
        finally:
            process.kill()


def found(client, sketch):
    answer = client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return {result["id"]: result["label"] for result in answer.json()["results"]}


def test_each_sees_what_the_other_changes(clients, sketch):
    one, other, _ = clients
    photo = one.post("/v1/photos", content=picture(1), headers=PNG).json()["id"]
    wait_until(lambda: photo in found(other, sketch))
    assert other.patch(f"/v1/photos/{photo}", json={"label": "new"}).status_code == 200
    assert found(one, sketch)[photo] == "new"
    assert other.delete(f"/v1/photos/{photo}").status_code == 204
    wait_until(lambda: photo not in found(one, sketch))


def test_changes_of_both_at_once_are_seen_by_both(clients, sketch):
    one, other, _ = clients
    photos = set()
    for number in range(10, 16):
        answer = clients[number % 2].post("/v1/photos", content=picture(number), headers=PNG)
        assert answer.status_code == 201, answer.text
        photos.add(answer.json()["id"])
    assert clients[0].delete("/v1/photos/5").status_code == 204
    for client in (one, other):
        wait_until(lambda client=client: photos <= found(client, sketch).keys() and 5 not in found(client, sketch))


def test_a_writer_that_is_stuck_does_not_hold_up_the_service(own_gallery, sketch):
    with (
        serving(gallery=own_gallery, anonymous="write", write_seconds=0.3) as url,
        httpx.Client(base_url=url, timeout=60) as client,
        closing(sqlite3.connect(own_gallery / "catalogue.sqlite", isolation_level=None)) as stuck,
    ):
        stuck.execute("BEGIN IMMEDIATE")
        answers = [
            client.post("/v1/photos", content=picture(20), headers=PNG),
            client.patch("/v1/photos/1", json={"label": "x"}),
            client.delete("/v1/photos/2"),
        ]
        assert {answer.status_code for answer in answers} == {503}, [answer.text for answer in answers]
        assert all(answer.headers["retry-after"] for answer in answers)
        assert all(answer.elapsed.total_seconds() < 25 for answer in answers)  # SQLite's own limit is 30 s
        assert len(found(client, sketch)) >= 24
        assert client.get("/v1/photos/1").status_code == 200
        assert client.get("/readyz").status_code == 200
        stuck.execute("ROLLBACK")
        wait_until(lambda: client.patch("/v1/photos/1", json={"label": "x"}).status_code == 200)


def test_a_log_that_nobody_reads_does_not_stop_the_service(clients):
    """Ten times as much as a pipe holds; the process of the fixture must also end in order."""
    client = clients[0]
    for _ in range(120):
        assert client.get("/" + "x" * 5000).status_code == 404
    lines = client.get("/metrics").text
    assert "svdraw_log_lines_dropped_total 0.0" in lines  # they wait for the reader


def test_a_gallery_that_is_gone_is_not_ready(clients, sketch):
    client, _, gallery = clients
    (gallery / "catalogue.sqlite").rename(gallery / "away")
    wait_until(lambda: client.get("/readyz").status_code == 503)
    assert "search" in client.get("/readyz").json()["detail"]
    assert 'svdraw_loop_failures_total{loop="search"}' in client.get("/metrics").text
    (gallery / "away").rename(gallery / "catalogue.sqlite")
    wait_until(lambda: client.get("/readyz").status_code == 200)
    with closing(sqlite3.connect(gallery / "catalogue.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = (gallery / "catalogue.sqlite").read_bytes()
    with (gallery / "catalogue.sqlite").open("r+b") as file:
        file.write(b"x" * len(content))
    wait_until(lambda: client.get("/readyz").status_code == 503)
    with (gallery / "catalogue.sqlite").open("r+b") as file:
        file.write(content)
    wait_until(lambda: client.get("/readyz").status_code == 200)
    assert len(found(client, sketch)) >= 24


def test_a_generation_that_is_gone_is_a_failed_reload(clients):
    client, _, gallery = clients
    current = gallery / "CURRENT"
    before = current.read_text()
    current.write_text("999999\n")
    failed = 'svdraw_gallery_reloads_total{result="failed"}'
    wait_until(lambda: failed in client.get("/metrics").text)
    assert client.get("/readyz").status_code == 200  # the generation before is served
    current.write_text(before)
