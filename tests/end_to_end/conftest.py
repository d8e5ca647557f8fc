"""The real pipeline, once: render, fit, build, serve over a socket."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.browser import LOADED, open_page, wait_for
from tests.ports import free_port
from tests.service.conftest import wait_until

THINGS = 60
KEY = "a key that may write"


@dataclass
class Deployment:
    """A running service and what it was made from."""

    url: str
    data: Path
    model: Path
    gallery: Path
    port: int
    unseen: list[str]


def run(*arguments):
    """Runs a command of the project and returns its output."""
    command = [sys.executable, "-m", *(str(argument) for argument in arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def answer(url):
    """What the service says of its state; None if it does not listen."""
    try:
        return httpx.get(f"{url}/readyz", timeout=60)
    except httpx.TransportError:
        return None


def wait_until_ready(url, process):
    try:
        wait_until(lambda: process.poll() is not None or ((got := answer(url)) and got.status_code == 200), 900)
        assert process.poll() is None, "it ended"
    except AssertionError as error:
        process.kill()
        process.wait()
        pytest.fail(f"the service did not become ready (exit status {process.poll()}): {error}")


def start_service(gallery, folder, *flags):
    """Starts the service, with a key that may write; returns the process and its URL."""
    keys = folder / "keys"
    keys.write_text(f"tests write {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    port = free_port()
    command = [sys.executable, "-m", "service", "--gallery", str(gallery), "--port", str(port), "--keys", str(keys)]
    with (folder / "service.log").open("a") as log:
        process = subprocess.Popen([*command, "--anonymous", "read", *flags], stdout=log, stderr=log, env=os.environ)
    return process, f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pipeline"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made / "cache"))
        make_once(made)
        yield from deploy(made, tmp_path_factory.mktemp("deployment"))


def make_once(made):
    """Lets the first of the processes that share the tests make everything, and the others wait for it."""
    made.mkdir(exist_ok=True)
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "complete").exists():
            make(made)
            (made / "complete").touch()


def make(made):
    """Everything from the data to the gallery."""
    data, model, gallery = made / "data", made / "model", made / "gallery"
    run("training", "demo-data", "--out", data, "--limit", THINGS)
    (made / "recipe.json").write_text(json.dumps({"tune": "none", "grayscale": True, "line_drawings": 0}))
    options = ["--recipe", made / "recipe.json", "--image-size", 96, "--cache", made / "cache"]
    run("training", "fit", "--data", data, "--split", data / "split.json", "--out", model, *options)
    header, *rows = (data / "gallery.csv").read_text().splitlines(keepends=True)
    (data / "pictures.csv").write_text(header + "".join(row for row in rows if row.startswith("photo/")))
    run("index", "build", "--model", model, "--photos", data / "pictures.csv", "--out", gallery)


def deploy(made, own):
    """Serves a copy of the gallery, which the tests may change, until they end."""
    data, gallery = made / "data", shutil.copytree(made / "gallery", own / "gallery")
    process, url = start_service(gallery, own)
    wait_until_ready(url, process)
    port = int(url.rsplit(":", 1)[1])
    unseen = json.loads((data / "split.json").read_text())["unseen"]
    yield Deployment(url, data, made / "model", gallery, port, unseen)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0, (own / "service.log").read_text()


@pytest.fixture(scope="session")
def artifacts():
    folder = Path(os.environ.get("SVDRAW_ARTIFACTS", "build/artifacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(deployment, tmp_path):
    with open_page(deployment.url, tmp_path) as browser:
        wait_for(browser, LOADED)
        yield browser
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
