"""Embedding on a Ray cluster: what is missing is said at once, and two nodes make the parts of one machine."""

import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from index.__main__ import INDEX
from index.errors import PartsError
from index.parts.cluster import Pool, choose_pool, embed_on_cluster
from index.sources import list_photos
from training.base.command_line import run_command

ROOT = Path(__file__).parents[3]
NEEDS_RAY = pytest.mark.skipif(find_spec("ray") is None, reason='needs Ray: pip install "svdraw[cluster]"')
HOSTS = ("127.0.0.2", "127.0.0.3")


@pytest.mark.parametrize(
    ("resources", "tasks", "processors", "gpus", "pool"),
    [
        ({"CPU": 8}, 100, 1, None, Pool(7, 1, 0)),
        ({"CPU": 8}, 3, 1, None, Pool(3, 1, 0)),
        ({"CPU": 8}, 100, 3, None, Pool(2, 3, 0)),
        ({"CPU": 8, "GPU": 2}, 100, 1, None, Pool(2, 1, 1)),
        ({"CPU": 8, "GPU": 2}, 100, 1, False, Pool(7, 1, 0)),
        ({"CPU": 2}, 100, 1, None, Pool(1, 1, 0)),
    ],
)
def test_one_processor_is_left_for_the_tasks_that_feed_the_actors(resources, tasks, processors, gpus, pool):
    assert choose_pool(resources, tasks, processors, gpus) == pool


@pytest.mark.parametrize(
    ("resources", "processors", "gpus", "message"),
    [
        ({"CPU": 1}, 1, None, "has 1 free processors, and 2 are needed"),
        ({}, 1, None, "has 0 free processors, and 2 are needed"),
        ({"CPU": 4}, 4, None, "has 4 free processors, and 5 are needed: 4 to embed"),
        ({"CPU": 4}, 1, True, "no free GPU; use --device cpu"),
    ],
)
def test_a_cluster_with_too_little_is_told_what_is_missing(resources, processors, gpus, message):
    with pytest.raises(PartsError, match=message):
        choose_pool(resources, 10, processors, gpus)


@pytest.fixture(scope="module")
def photos(shapes, tmp_path_factory):
    """24 photos and two files that are none."""
    folder = Path(shutil.copytree(shapes / "photo", tmp_path_factory.mktemp("pictures") / "photos"))
    (folder / "circle" / "broken.png").write_bytes(b"no picture")
    (folder / "square" / "empty.png").touch()
    return folder


def embed(photos, model, out, address):
    return embed_on_cluster(list_photos(photos), model, str(out), address, max_pixels=10**6, part_size=4)


def test_without_the_package_the_extra_is_named(photos, tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PartsError, match=r'--ray needs ray: pip install "svdraw\[cluster\]"'):
        embed(photos, tiny_bundle, tmp_path, "127.0.0.2:1")


@pytest.mark.cluster
@NEEDS_RAY
def test_where_no_cluster_is_the_job_ends_at_once(photos, tiny_bundle, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PartsError, match=f"no Ray cluster answers at 127.0.0.1:{port}: .*refused"):
        embed(photos, tiny_bundle, tmp_path, f"127.0.0.1:{port}")
    for address in ("nowhere", "", "127.0.0.1:x"):
        with pytest.raises(PartsError, match="is no address of a Ray cluster"):
            embed(photos, tiny_bundle, tmp_path, address)


def test_the_device_of_a_cluster_is_no_number(capsys):
    words = ["embed", "--photos", "x", "--out", "y", "--ray", "127.0.0.2:1", "--device", "cuda:1"]
    assert run_command(INDEX, words) == 2
    assert "Ray chooses which GPU" in capsys.readouterr().err
