"""A disk without room: changes are refused with 507, searches go on, and nothing that was acknowledged is lost."""

import errno
import os
import shutil
import subprocess
from contextlib import closing, suppress

import httpx
import pytest

from index.gallery.directory import Gallery
from index.gallery.query_moments import known_queries
from service.http import bodies
from tests.conftest import draw_shape
from tests.service.conftest import serving
from tests.service.test_hostile import encoded

LONG = {"metadata": {"text": "x" * 60_000}}
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def small_disk(gallery_path, tmp_path):
    """A gallery on a disk of its own, which has room for little more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield shutil.copytree(gallery_path, folder / "gallery", ignore=shutil.ignore_patterns("queries.sqlite"))
    subprocess.run(["umount", "--lazy", folder], check=True)  # files of the index are open until they are collected


def fill(disk):
    """Takes all the room that there is; returns the file that takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


def picture(number):
    return encoded(draw_shape("circle", number, filled=True, size=200 + number), "BMP")


def test_changes_are_refused_and_come_back_while_searches_go_on(small_disk, sketch):
    with serving(gallery=small_disk, anonymous="write") as url, httpx.Client(base_url=url, timeout=60) as client:
        acknowledged = {client.post("/v1/photos", content=picture(0), headers=PNG).json()["id"]}
        filler = fill(small_disk.parent)
        described = client.patch("/v1/photos/1", json=LONG)
        refused = [
            client.post("/v1/photos", content=picture(1), headers=PNG),
            *(client.patch(f"/v1/photos/{number}", json=LONG) for number in range(2, 9)),
        ]
        removed = client.delete("/v1/photos/9")
        assert {answer.status_code for answer in refused} == {507}, [answer.text for answer in refused]
        assert {described.status_code, removed.status_code} <= {200, 204, 507}
        assert "full" in refused[0].json()["detail"]
        for _ in range(3):
            found = client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 100})
            assert found.status_code == 200
        assert client.get("/v1/photos/1/thumbnail").status_code == 200
        assert client.get("/v1/photos/2").json()["metadata"] == {}
        assert client.get("/readyz").status_code == 200

        filler.unlink()
        acknowledged.add(client.post("/v1/photos", content=picture(1), headers=PNG).json()["id"])
        assert client.patch("/v1/photos/2", json={"label": "again"}).status_code == 200
        assert client.delete("/v1/photos/3").status_code == 204
        found = client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 100}).json()["results"]
        ids = {result["id"] for result in found}
        assert acknowledged <= ids
        assert 3 not in ids
    with closing(Gallery.open(small_disk)) as gallery:
        assert gallery.catalogue.problems() == []
        assert acknowledged <= gallery.catalogue.photos(list(acknowledged)).keys()


def test_sums_over_sketches_are_kept_until_there_is_room(small_disk, sketch, gallery_path):
    with serving(gallery=small_disk) as url, httpx.Client(base_url=url, timeout=60) as client:
        filler = fill(small_disk.parent)
        assert client.post("/v1/search", content=sketch, headers=PNG).status_code == 200
        filler.unlink()
    with closing(Gallery.open(small_disk)) as gallery:
        model = gallery.catalogue.fact("model")
        assert known_queries(small_disk, model, int(gallery.catalogue.fact("dim"))).count == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_form_for_which_the_temporary_folder_has_no_room(client, sketch, monkeypatch, number):
    def full(*args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(bodies.Request, "form", full)
    answer = client.post("/v1/search", files={"file": sketch})
    assert (answer.status_code, answer.json()["status"]) == (507, 507)
