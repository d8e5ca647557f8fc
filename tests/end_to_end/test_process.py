"""The service as a process: it says so while it starts, survives SIGKILL, and logs JSON."""

import json
import shutil
import signal

import pytest

from service.client.rest import Client
from tests.end_to_end.conftest import KEY, answer, start_service, wait_until_ready
from tests.service.conftest import wait_until

pytestmark = pytest.mark.long


def first_answer(url, process):
    answers = []
    wait_until(lambda: process.poll() is not None or answers.append(answer(url)) or answers[-1] is not None)
    assert process.poll() is None, "the service did not start"
    return answers[-1]


def test_starting_killed_and_started_again(deployment, tmp_path):
    gallery = shutil.copytree(deployment.gallery, tmp_path / "gallery")
    process, url = start_service(gallery, tmp_path)
    try:
        early = first_answer(url, process)
        assert (early.status_code, early.json()["status"]) == (503, 503)
        assert early.headers["retry-after"]
        wait_until_ready(url, process)
        drawing = next((deployment.data / "sketch" / deployment.unseen[0]).iterdir())
        with Client(url, key=KEY) as client:
            added = client.add_photo(drawing, label="kept")
            client.remove_photo(1)
            assert client.search_like(added.id, limit=1).results
        process.send_signal(signal.SIGKILL)
        process.wait()
        process, url = start_service(gallery, tmp_path)
        wait_until_ready(url, process)
        with Client(url) as client:
            found = {result.id for result in client.search(drawing, limit=1000).results}
            assert added.id in found
            assert 1 not in found
            assert client.image(added.id) == drawing.read_bytes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    lines = [json.loads(line) for line in (tmp_path / "service.log").read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in lines))
    assert any(line.get("path") == "/v1/photos" and line["status"] == 201 for line in lines)
