"""What cannot be seen is not taken for gone."""

import os
from contextlib import closing

import pytest

from index.__main__ import INDEX
from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.vanished import photos_below, vanished
from index.jobs import index_photos, sync_photos
from index.sources import list_photos
from tests.conftest import draw_shape
from training.base.command_line import run_command


@pytest.fixture
def photos(tmp_path):
    """Ten photos, two of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(10):
        draw_shape("circle", number, filled=True).save(folder / ("sub" if number > 7 else ".") / f"{number}.png")
    return folder


@pytest.fixture
def path(photos, tiny_bundle, tmp_path):
    path = tmp_path / "gallery"
    with closing(Gallery.create(path, tiny_bundle)) as gallery:
        assert index_photos(gallery, list_photos(photos), "cpu").encoded == 10
    return path


def ids(path):
    with closing(Gallery.open(path)) as gallery:
        assert gallery.problems() == []
        return sorted(gallery.catalogue.uris().values())


@pytest.fixture
def sync(path, photos, capsys):
    """Runs the command; returns its exit status and its errors."""

    def sync(*options):
        arguments = ["sync", f"--gallery={path}", f"--photos={photos}", "--device=cpu", *options]
        status = run_command(INDEX, arguments)
        return status, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]

    return sync


def forbid(monkeypatch, folder):
    """Makes a folder one that cannot be listed, also for root."""
    scan = os.scandir

    def forbidden(path):
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)


def test_nothing_is_removed_if_a_subfolder_cannot_be_listed(photos, path, sync, monkeypatch):
    forbid(monkeypatch, photos / "sub")
    (photos / "0.png").unlink()
    draw_shape("line", 3, filled=True).save(photos / "new.png")
    status, errors = sync("--allow-removing=100")
    assert status == 1
    assert errors == [
        f"error: {photos / 'sub'}: Permission denied; nothing was removed, for what cannot be listed may still be there"
    ]
    assert ids(path) == list(range(1, 12))


def test_other_jobs_say_what_they_could_not_list(photos, path, monkeypatch, capsys):
    forbid(monkeypatch, photos / "sub")
    assert run_command(INDEX, ["add", f"--gallery={path}", f"--photos={photos}", "--device=cpu"]) == 0
    assert f"left out, {photos / 'sub'}: Permission denied\n" in capsys.readouterr().out
    forbid(monkeypatch, photos)
    assert run_command(INDEX, ["add", f"--gallery={path}", f"--photos={photos}", "--device=cpu"]) == 1
    assert f"error: {photos}: Permission denied; no photos were found\n" in capsys.readouterr().err


def test_nothing_is_removed_if_too_much_is_gone(photos, path, sync):
    for number in (0, 1, 8):
        next(photos.rglob(f"{number}.png")).unlink()
    draw_shape("line", 3, filled=True).save(photos / "new.png")
    status, errors = sync()
    assert (status, len(errors)) == (1, 1)
    assert f"3 of the gallery's 10 photos below {photos} are gone, more than 20%; nothing was removed" in errors[0]
    assert errors[0].endswith("run this again with --allow-removing 30")
    assert ids(path) == list(range(1, 12))
    assert sync("--allow-removing=30") == (0, [])
    assert ids(path) == [3, 4, 5, 6, 7, 8, 10, 11]


def test_an_empty_mount_point_removes_nothing(photos, path, sync):
    (photos / "sub").rename(photos.parent / "unmounted")
    (photos / "sub").mkdir()
    (photos / "0.png").unlink()
    assert sync()[0] == 1
    assert ids(path) == list(range(1, 11))
    (photos / "sub").rmdir()
    (photos.parent / "unmounted").rename(photos / "sub")
    assert sync() == (0, [])
    assert ids(path) == list(range(2, 11))


def test_what_is_there_but_of_no_use_is_not_gone(photos, path, sync, fifo):
    (photos / "0.png").unlink()
    fifo.rename(photos / "0.png")
    (photos / "1.png").rename(photos / "1")
    (photos / "1.png").symlink_to("/nowhere/1.png")
    (photos / "2.png").write_text("no picture any more")
    (photos / "sub").rename(photos / ".hidden")
    (photos / "sub").symlink_to(".hidden")
    assert sync("--allow-removing=0") == (0, [])
    assert ids(path) == list(range(1, 11))
    reasons = (path / "rejects.jsonl").read_text()
    for reason in ("not a regular file but a FIFO", "No such file", "not an image"):
        assert reason in reasons


def test_only_a_name_that_is_missing_has_vanished(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    known = {"file": 1, "nothing": 2, "file/inside": 3, "s3://bucket/a.png": 4, str(tmp_path / "x" / "y"): 5}
    below = list(photos_below([tmp_path], known, tmp_path))
    assert [identifier for _, identifier in below] == [1, 2, 3, 5]
    assert vanished(below, set()) == [2, 3, 5]
    assert vanished(below, {str(tmp_path / "nothing")}) == [3, 5]

    def fail(path):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.lstat", fail)
    assert vanished(below, set()) == []


def test_a_photo_elsewhere_with_a_similar_name_stays(photos, path, tmp_path):
    other = tmp_path / "photos2"
    other.mkdir()
    draw_shape("line", 3, filled=True).save(other / "a.png")
    with closing(Gallery.open(path, write=True)) as gallery:
        index_photos(gallery, list_photos(other), "cpu")
        (other / "a.png").unlink()
        (photos / "0.png").unlink()
        with pytest.raises(GalleryError, match="1 of the gallery's 10 photos"):
            sync_photos(gallery, photos, "cpu", allow_removing=9)
        assert sync_photos(gallery, photos, "cpu").removed == 1
    assert ids(path) == list(range(2, 12))
