"""A Ray cluster of two nodes on this machine: embedding that survives the loss of a node and of the command."""

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from index.parts.embedding import embed_photos
from index.sources import list_photos
from tests.end_to_end.nodes import UMASKS, Cluster, command, kill_node, started_cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(find_spec("ray") is None, reason='needs Ray: pip install "svdraw[cluster]"'),
]

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
    with started_cluster(2) as started:
        yield started


def parts_by_node(parts: Path) -> list[int]:
    modes = [path.stat().st_mode & 0o777 for path in parts.glob("part-*")]
    return [modes.count(0o666 & ~umask) for umask in UMASKS]


def await_progress(job: subprocess.Popen, is_there: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_there():
        assert job.poll() is None, job.stderr.read()
        assert time.monotonic() < end, "the job does not go on"
        time.sleep(0.02)


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
    with subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True, env=cluster.environment) as job:
        try:
            await_progress(job, lambda: server.asked >= ACTORS)  # each waits for its first photo
            server.allow(2 * ACTORS)
            await_progress(job, lambda: min(parts_by_node(parts)) > 0)
            kill_node(cluster.nodes[1])
            server.allow(ACTORS)
            written = parts_by_node(parts)[0]
            await_progress(job, lambda: parts_by_node(parts)[0] > written)
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
