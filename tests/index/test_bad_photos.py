"""One bad photo never ends a job: it is listed with its reason, and the others are indexed."""

import json
import os
import shutil
import zipfile
from contextlib import closing
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from index.errors import GalleryDamaged
from index.gallery.catalogue import Catalogue
from index.gallery.directory import Gallery
from index.jobs import index_photos, sync_photos
from index.sources import list_photos
from tests.training.model.test_images import MEANINGLESS_EXIF
from training.model.preprocessing import Preprocessing


@pytest.fixture
def photos(shapes, tmp_path):
    return Path(shutil.copytree(shapes / "photo", tmp_path / "photos"))


def rejects(gallery):
    """The reason for each name, of a list that must be UTF-8 and hold nothing that is not."""
    rows = [json.loads(line) for line in (gallery / "rejects.jsonl").read_bytes().decode("utf-8").splitlines()]
    return {row["file"].encode("utf-8").decode().rpartition("/")[2]: row["reason"] for row in rows}


def test_an_orientation_that_means_nothing_is_no_obstacle(build, photos):
    for number, exif in enumerate(MEANINGLESS_EXIF.values()):
        Image.new("RGB", (30 + number, 20), "red").save(photos / f"{number}.jpg", exif=exif)
    path, report = build(photos)
    assert (report.encoded, report.rejected) == (24 + len(MEANINGLESS_EXIF), 0)
    assert rejects(path) == {}


@pytest.mark.parametrize(
    "error", [TypeError("'>=' not supported"), RuntimeError(), RecursionError("deep"), KeyError(1)]
)
def test_whatever_a_photo_raises_is_its_reason(build, photos, monkeypatch, error):
    def fail(self, image):
        if image.size == (77, 20):
            raise error
        return convert(self, image)

    convert = Preprocessing.__call__
    Image.new("RGB", (77, 20)).save(photos / "bad.png")
    monkeypatch.setattr(Preprocessing, "__call__", fail)
    path, report = build(photos)
    assert (report.encoded, report.rejected) == (24, 1)
    assert rejects(path) == {"bad.png": str(error) or "RuntimeError"}


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit(1), GalleryDamaged("torn")])
def test_what_is_no_fault_of_a_photo_ends_the_job(build, photos, monkeypatch, error):
    def fail(self, sha256):
        raise error

    monkeypatch.setattr(Catalogue, "same_content", fail)
    with pytest.raises(type(error)):
        build(photos)


def copies(photos, folder, name):
    source = next(photos.rglob("*.png"))
    target = os.fsencode(photos) + folder
    Path(os.fsdecode(target)).mkdir(exist_ok=True)
    shutil.copy(source, target + name)


@pytest.mark.parametrize("job", ["build", "sync"])
@pytest.mark.parametrize(("folder", "name"), [(b"/", b"caf\xe9.png"), (b"/caf\xe9/", b"a.png")], ids=["file", "folder"])
def test_names_that_are_not_utf8_are_rejects(build, photos, folder, name, job):
    path, _ = build(photos)
    copies(photos, folder, name)
    copies(photos, b"/", "café.png".encode())
    with closing(Gallery.open(path, write=True)) as gallery:
        if job == "build":
            report = index_photos(gallery, list_photos(photos), "cpu")
        else:
            report = sync_photos(gallery, photos, "cpu")
    assert (report.copied, report.unchanged, report.rejected, report.removed) == (1, 24, 1, 0)
    assert list(rejects(path).values()) == ["its path is not UTF-8"]
    assert "caf\\udce9" in (path / "rejects.jsonl").read_text().encode().decode("unicode_escape")


def damaged(archive, name):
    """Overwrites the middle of a member."""
    content = bytearray(archive.read_bytes())
    start = content.index(name.encode()) + len(name)
    content[start + 20 : start + 40] = bytes(20)
    archive.write_bytes(content)


def encrypted(archive, name):
    """Says in both headers of a member that it is encrypted."""
    content = bytearray(archive.read_bytes())
    content[content.index(name.encode()) - 30 + 6] |= 1
    content[content.rindex(name.encode()) - 46 + 8] |= 1
    archive.write_bytes(content)


@pytest.mark.parametrize(("spoil", "reason"), [(damaged, "Bad CRC-32|decompressing"), (encrypted, "encrypted")])
def test_spoilt_members_of_an_archive_are_rejects(tiny_bundle, tmp_path, photos, spoil, reason):
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for number, file in enumerate(sorted(photos.rglob("*.png"))[:4]):
            opened.write(file, f"photo-{number}.png")
    spoil(archive, "photo-1.png")
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        report = index_photos(gallery, list_photos(f"zip://::{archive.as_uri()}"), "cpu")
        assert (report.encoded, report.rejected) == (3, 1)
        [(name, why)] = rejects(gallery.path).items()
    assert "photo-1.png" in name or "all.zip" in name
    assert any(part in why for part in reason.split("|")), why


class PayloadError(Exception):
    """Of a client library whose exceptions are no OSErrors, raised when an answer is cut short."""


def test_answers_that_are_cut_short_are_rejects(tiny_bundle, tmp_path, photos, monkeypatch):
    def cut(self, path, *args, **kwargs):
        if path.endswith("cut.png"):
            raise PayloadError("response payload is not completed")
        return opened(self, path, *args, **kwargs)

    for name in ("whole.png", "cut.png"):
        with fsspec.open(f"memory://far/{name}", "wb") as file:
            file.write(next(photos.rglob("*.png")).read_bytes())
    opened = MemoryFileSystem._open
    monkeypatch.setattr(MemoryFileSystem, "_open", cut)
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        report = index_photos(gallery, list_photos("memory://far"), "cpu")
        assert (report.encoded, report.rejected) == (1, 1)
        assert rejects(gallery.path) == {"cut.png": "response payload is not completed"}
