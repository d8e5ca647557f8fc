"""A Ray cluster of two nodes on this machine: what it serves and embeds survives the loss of parts of it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pyarrow import parquet

from bench.measurements.nodes import Cluster, command, kill_node, parts_by_node, started_cluster
from bench.measurements.shard_drills import replicas_of
from index.parts.embedding import embed_photos
from index.shards.building import build_shards
from index.shards.layout import shard_folder
from index.sources import list_photos
from service.app import create_app
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from service.shards.engine import ShardsEngine
from tests.conftest import draw_shape

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(find_spec("ray") is None, reason='needs Ray: pip install "svdraw[cluster]"'),
]

SHARDS = 2
PNG = {"Content-Type": "image/png"}
BROKEN = 3
ACTORS = 3  # with two processors a node, of which one is left free: some on each node
PATIENCE = 300.0  # seconds; they only keep a test that would hang from hanging


class PhotoServer(ThreadingHTTPServer):
    """Serves a folder, as many files as it may, in the order in which they were asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(PhotoHandler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked = 0
        self._allowed = 0
        self._changed = threading.Condition()

    def allow(self, more: int) -> None:
        with self._changed:
            self._allowed += more
            self._changed.notify_all()

    def await_turn(self) -> None:
        with self._changed:
            self.asked += 1
            turn = self.asked
            self._changed.wait_for(lambda: turn <= self._allowed)

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error."""


class PhotoHandler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.await_turn()
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(shapes, tmp_path):
    """24 photos and some files that are none."""
    folder = shutil.copytree(shapes / "photo", tmp_path / "photos")
    for number in range(BROKEN):
        (folder / "circle" / f"broken-{number}.png").write_bytes(b"no picture" * number)
    with PhotoServer(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
        (tmp_path / "photos.txt").write_text("".join(f"{server.url}/{name}\n" for name in names))
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def cluster():
    with started_cluster(2, 2) as started:
        yield started


@pytest.fixture(scope="module")
def shards(shapes, tiny_bundle, tmp_path_factory):
    root = tmp_path_factory.mktemp("collection")
    embed_photos(list_photos(shapes / "photo"), tiny_bundle, str(root / "parts"), "cpu")
    build_shards(root / "shards", tiny_bundle, str(root / "parts"), SHARDS)
    return root / "shards"


@contextmanager
def service(cluster: Cluster, shards: Path, log: Path) -> Iterator[httpx.Client]:
    """A service of the shards on the cluster, with two replicas of each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", "--gallery", shards, "--ray", cluster.address, "--port", port, "--anonymous", "write"]
    words += ["--replicas", 2, "--replica-processors", 0, "--shard-seconds", 15]
    with (
        log.open("w") as file,  # a pipe that nobody reads would stop it
        subprocess.Popen(command(*words), stderr=file, env=cluster.environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client,
    ):
        try:
            await_progress(process, log, lambda: is_ready(client))
            yield client
        finally:
            process.terminate()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def send(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def search(client: httpx.Client, sketch: bytes) -> dict:
    response = client.post("/v1/search", content=sketch, params={"limit": 50}, headers=PNG)
    assert response.status_code == 200, response.text
    return response.json()


def test_shards_are_served_though_replicas_are_lost(
    cluster: Cluster, shards: Path, shapes: Path, tmp_path: Path
) -> None:
    sketch = (shapes / "sketch" / "circle" / "circle-1.png").read_bytes()
    settings = ServiceSettings(gallery=shards, device="cpu", reload_seconds=0)
    with TestClient(create_app(settings, ShardsEngine(settings, Metrics()))) as here:
        expected = search(here, sketch)
    with service(cluster, shards, tmp_path / "log") as client:
        assert search(client, sketch) == expected
        draw_shape("triangle", 60, filled=True, size=80).save(tmp_path / "new.png")
        added = client.post("/v1/photos", content=(tmp_path / "new.png").read_bytes(), headers=PNG).json()["id"]
        for _ in range(10):  # from either replica
            assert added in [result["id"] for result in search(client, sketch)["results"]]
        whole = search(client, sketch)

        lost, *_ = replicas_of(shard_folder(shards, 0))
        os.kill(lost, signal.SIGKILL)
        await_replica(
            lambda: search(client, sketch) == whole,
            lambda: len(set(replicas_of(shard_folder(shards, 0))) - {lost}) == 2,
        )

        silent = replicas_of(shard_folder(shards, 1))
        send(silent, signal.SIGSTOP)
        incomplete = search(client, sketch)
        assert (incomplete["complete"], incomplete["missing_shards"]) == (False, [1])
        assert incomplete["results"] == [result for result in whole["results"] if result["id"] % SHARDS == 0]
        send(silent, signal.SIGKILL)
        await_replica(lambda: True, lambda: search(client, sketch) == whole)


DRILLS = """
import json, sys
from pathlib import Path
from bench.measurements.shard_drills import run_drills
from service.settings import ServiceSettings

address, *folders = sys.argv[1:]
settings = ServiceSettings(gallery=Path(folders[0]).parent, ray=address, replica_processors=0, shard_seconds=15)
print(json.dumps(run_drills([Path(folder) for folder in folders], settings)))
"""


def test_searches_go_on_while_replicas_are_replaced(cluster: Cluster, shards: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(shards, tmp_path / "shards"))
    folders = [shard_folder(own, shard) for shard in range(SHARDS)]
    drills = subprocess.run(  # in a process of its own: Ray reads the token once, when it is imported
        [sys.executable, "-c", DRILLS, cluster.address, *folders],
        capture_output=True,
        text=True,
        check=False,
        env=cluster.environment,
        timeout=2 * PATIENCE,
    )
    assert drills.returncode == 0, drills.stderr
    found = json.loads(drills.stdout.splitlines()[-1])
    for counts in found.values():
        assert counts["complete"] > 0
        assert not [name for name in counts if name.startswith("failed")], found
    found.pop("all replicas of a shard are killed")  # how many are partial then depends on how fast the next one starts
    assert [counts["partial"] for counts in found.values()] == [0, 0, 0]


def await_replica(holds: Callable[[], bool], is_there: Callable[[], bool]) -> None:
    """Waits for a replica, while something else holds."""
    end = time.monotonic() + PATIENCE
    while not is_there():
        assert holds()
        assert time.monotonic() < end, "no replica takes the place of the one that was lost"


def await_progress(process: subprocess.Popen, log: Path, is_there: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_there():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def rows_of(parts: Path) -> list[dict]:
    rows = [row for file in parts.glob("part-*") for row in parquet.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: row["uri"])


def assert_same_rows(found: list[dict], expected: list[dict]) -> None:
    assert [row["uri"] for row in found] == [row["uri"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        vector, same = row.pop("vector"), other.pop("vector")
        assert row == other
        assert (vector is None) == (same is None) == (row["reason"] is not None)
        if vector is not None:
            np.testing.assert_allclose(vector, same, rtol=0, atol=1e-6)


def test_parts_are_those_of_one_machine_though_a_node_and_the_command_are_lost(
    cluster: Cluster, server: PhotoServer, tiny_bundle: Path, tmp_path: Path
) -> None:
    photos, parts = str(tmp_path / "photos.txt"), tmp_path / "parts"
    words = ["index", "embed", "--photos", photos, "--model", tiny_bundle, "--out", parts]
    words += ["--ray", cluster.address, "--part-size", 1]
    log = tmp_path / "log"
    with log.open("w") as file, subprocess.Popen(command(*words), stderr=file, env=cluster.environment) as job:
        try:
            await_progress(job, log, lambda: server.asked >= ACTORS)  # each waits for its first photo
            server.allow(2 * ACTORS)
            await_progress(job, log, lambda: min(parts_by_node(parts)) > 0)
            kill_node(cluster.nodes[1])
            server.allow(ACTORS)
            written = parts_by_node(parts)[0]
            await_progress(job, log, lambda: parts_by_node(parts)[0] > written)
        finally:
            job.kill()
    before = len(rows_of(parts))
    server.allow(10**9)
    again = cluster.run(*words)
    assert again.returncode == 0, again.stderr
    said = re.search(r"(\d+) embedded .*, (\d+) rejected, (\d+) in parts of an earlier run", again.stdout)
    assert said, again.stdout
    assert sum(map(int, said.groups())) == 24 + BROKEN
    assert before <= int(said[3]) < 24 + BROKEN  # an actor may have gone on for a moment
    embed_photos(list_photos(photos), tiny_bundle, str(tmp_path / "alone"), "cpu")
    assert_same_rows(rows_of(parts), rows_of(tmp_path / "alone"))
