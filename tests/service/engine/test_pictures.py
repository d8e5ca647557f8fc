import os
import shutil
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from index.gallery.directory import Gallery
from service.engine.pictures import open_photo
from service.errors import RequestProblem


@pytest.fixture
def photos(gallery_path):
    with closing(Gallery.open(gallery_path)) as gallery:
        return gallery.catalogue.page(0, 24)


def at(photo, uri):
    return photo._replace(uri=str(uri))


@pytest.fixture
def file(photos, tmp_path):
    """A photo's file, to change."""
    return shutil.copy2(photos[0].uri, tmp_path / "photo.png")


def opening(photo):
    return open_photo(Path("gallery"), photo)


def version(photo):
    opened = opening(photo)
    opened.file.close()
    return opened.version


def rewritten(file):
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    os.utime(file, ns=(1, 1))


def replaced_by_a_twin(file):
    """Of the same size and time."""
    facts = file.stat()
    other = file.with_name("other.png")
    other.write_bytes(bytes(facts.st_size))
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [rewritten, replaced_by_a_twin])
def test_a_changed_file_has_another_version(photos, file, change):
    photo = at(photos[0], file)
    before = version(photo)
    assert version(photo) == before
    change(file)
    assert version(photo) != before


def test_what_is_opened_is_read_even_if_another_takes_its_name(photos, file):
    content = file.read_bytes()
    opened = opening(at(photos[0], file))
    replaced_by_a_twin(file)
    with opened.file:
        assert opened.file.read() == content
    assert version(at(photos[0], file)) != opened.version


@pytest.mark.parametrize("name", ["nothing.png", "", "photo.png/inside"])
def test_a_file_that_is_gone(photos, file, name):
    with pytest.raises(RequestProblem) as caught:
        opening(at(photos[0], file.parent / name))
    assert caught.value.status == 404


@pytest.mark.parametrize("error", [PermissionError("no"), OSError(24, "too many files"), TimeoutError("slow")])
def test_a_file_that_cannot_be_read_may_still_be_there(photos, error, monkeypatch, caplog):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr("service.engine.pictures.open_regular", fail)
    with pytest.raises(RequestProblem) as caught:
        opening(photos[0])
    assert caught.value.status == 503
    assert photos[0].uri in caplog.text
    assert photos[0].uri not in caught.value.detail


def test_remote_files(photos):
    storage = fsspec.filesystem("memory")
    photo = at(photos[0], "memory://bucket/photo.png")
    storage.pipe("/bucket/photo.png", b"one")
    first = opening(photo)
    assert (first.file.read(), first.size, first.is_local) == (b"one", 3, False)
    assert version(photo) == first.version
    storage.pipe("/bucket/photo.png", b"two")
    assert version(photo) != first.version
    storage.rm("/bucket/photo.png")
    for uri, status in [(photo.uri, 404), ("nosuch://bucket/photo.png", 503)]:
        with pytest.raises(RequestProblem) as caught:
            opening(at(photo, uri))
        assert caught.value.status == status


def by_link(file, target):
    file.unlink()
    file.symlink_to(target)


def by_folder(file, target):
    """The folder of the photo is a link by now."""
    other = file.parent.parent / "other"
    other.mkdir()
    shutil.copy2(target, other / file.name)
    file.parent.rename(file.parent.with_name("before"))
    file.parent.symlink_to(other)


@pytest.fixture
def in_folder(photos, tmp_path):
    """The file of a photo in a folder of its own."""
    (tmp_path / "folder").mkdir()
    return Path(shutil.copy2(photos[0].uri, tmp_path / "folder" / "photo.png"))


@pytest.mark.parametrize("replace", [by_link, by_folder])
def test_a_link_that_was_put_there_since_is_not_followed(photos, in_folder, replace):
    photo = at(photos[0], in_folder)
    replace(in_folder, photos[1].uri)
    with pytest.raises(RequestProblem, match="behind a symbolic link and not as it was indexed") as caught:
        opening(photo)
    assert caught.value.status == 404


@pytest.mark.parametrize("replace", [by_link, by_folder])
def test_a_link_to_what_was_indexed_is_followed(photos, in_folder, replace):
    replace(in_folder, photos[0].uri)
    with opening(at(photos[0], in_folder)).file as file:
        assert file.read() == Path(photos[0].uri).read_bytes()


def test_a_link_of_the_same_size_to_something_else_is_not_followed(photos, in_folder, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(photos[0].bytes))
    by_link(in_folder, tmp_path / "secret")
    with pytest.raises(RequestProblem, match="not as it was indexed"):
        opening(at(photos[0], in_folder))


def test_a_link_that_comes_while_the_file_is_opened_is_not_followed(photos, in_folder, monkeypatch):
    monkeypatch.setattr("service.engine.pictures._is_linked", lambda *_: by_link(in_folder, photos[1].uri))
    with pytest.raises(RequestProblem) as caught:
        opening(at(photos[0], in_folder))
    assert caught.value.status == 503


def test_the_gallery_itself_may_be_reached_by_a_link(photos, tmp_path):
    (tmp_path / "gallery" / "mine").mkdir(parents=True)
    changed = tmp_path / "gallery" / "mine" / "photo.png"
    shutil.copy2(photos[1].uri, changed)
    (tmp_path / "current").symlink_to("gallery")
    with open_photo(tmp_path / "current", at(photos[0], "mine/photo.png")).file as file:
        assert file.read() == changed.read_bytes()


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("kind", ["FIFO", "device"])
def test_what_is_no_file_is_not_opened(photos, fifo, tmp_path, kind, scheme):
    (tmp_path / "device.png").symlink_to("/dev/zero")
    path = fifo if kind == "FIFO" else tmp_path / "device.png"
    with pytest.raises(RequestProblem, match=f"the photo's file is not a regular file but a {kind}") as caught:
        opening(at(photos[0], f"{scheme}{path}"))
    assert caught.value.status == 404


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_that_is_too_large_is_not_opened(photos, file, remote, monkeypatch):
    fsspec.filesystem("memory").pipe("/bucket/large.png", bytes(2 << 20))
    for module in ("service.engine.pictures", "training.base.regular_files"):
        monkeypatch.setattr(f"{module}.MAX_BYTES", 1 << 20)
    os.truncate(file, 2 << 20)
    with pytest.raises(RequestProblem, match="larger than 1 MiB") as caught:
        opening(at(photos[0], "memory://bucket/large.png" if remote else file))
    assert caught.value.status == 404
