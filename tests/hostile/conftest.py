"""A service as strangers meet it: a process of its own, with little patience so that slow requests take no time."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import list_photos
from tests.hostile.exchange import Request, exchange, written
from tests.hostile.nursery import Child, Nursery
from tests.ports import free_port
from tests.service.conftest import wait_until

MINUTES = float(os.environ.get("SVDRAW_FUZZ_MINUTES", "0"))  # how long to go on; 0 for as long as every test run does
FAILURES = Path(os.environ.get("SVDRAW_ARTIFACTS", "build/artifacts")) / "hostile"
KEY = "a key that may write"
PHOTOS = 24  # of the gallery, with ids from 1 on


class Victim(NamedTuple):
    """A running service."""

    process: Child
    port: int
    log: Path


def is_ready(port: int) -> bool:
    try:
        answer = exchange(port, written("GET", "/readyz"), 30)
    except ConnectionError:
        return False
    return answer is not None and answer.status == 200


def start(nursery: Nursery, gallery: Path, folder: Path, port: int = 0, **options: object) -> Victim:
    """Starts a service that strangers may search, and those with a key may change, and waits until it is ready."""
    keys, log, port = folder / "keys", folder / "service.log", port or free_port()
    keys.write_text(f"tests write {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    given = {"gallery": str(gallery), "port": port, "keys": str(keys), "anonymous": "read"}
    process = nursery.start("serve", log, **given, device="cpu", runtime="torch", **options)
    wait_until(lambda: is_ready(port) or not process.is_alive(), 240)
    assert process.is_alive(), log.read_text()
    return Victim(process, port, log)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="session")
def gallery(tiny_bundle: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of ``PHOTOS`` photos; not to be changed."""
    path = tmp_path_factory.mktemp("hostile") / "gallery"
    with closing(Gallery.create(path, tiny_bundle)) as gallery:
        index_photos(gallery, list_photos(shapes / "photo"), "cpu")
    return path


@pytest.fixture(scope="session")
def victim(nursery: Nursery, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Victim:
    folder = tmp_path_factory.mktemp("victim")
    own = shutil.copytree(gallery, folder / "gallery")
    slow = {"header_seconds": 3, "body_seconds": 3, "send_seconds": 3, "reload_seconds": 1, "live_changes": 5}
    bounds = {"max_body_bytes": 2_000_000, "max_pixels": 4_000_000, "thumbnail_cache_bytes": 1_000_000}
    return start(nursery, own, folder, **slow, **bounds)


@pytest.fixture(scope="session")
def known(shapes: Path) -> Request:
    """A search among the photos that stay, whatever strangers add."""
    sketch = (shapes / "sketch" / "circle" / "circle-1.png").read_bytes()
    wanted = json.dumps({"id": {"lte": PHOTOS}}).replace(" ", "").replace('"', "%22")
    return written("POST", f"/v1/search?filter={wanted}", {"Content-Type": "image/png"}, sketch)
