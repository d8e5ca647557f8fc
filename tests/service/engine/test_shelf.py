import os

import pytest

from service.engine.shelf import Shelf


def files(folder):
    return {path.name: path for path in folder.glob("*/*")}


def test_contents_are_kept(tmp_path):
    shelf = Shelf(tmp_path / "shelf", 10**6)
    assert shelf.read("aa-64") is None
    shelf.write("aa-64", b"one")
    shelf.write("aa-128", b"")
    assert (shelf.read("aa-64"), shelf.read("aa-128")) == (b"one", b"")
    assert Shelf(tmp_path / "shelf", 10**6).read("aa-64") == b"one"


@pytest.mark.parametrize("damage", [b"", b"x", b"y" * 30])
def test_a_damaged_file_is_as_good_as_none(tmp_path, damage):
    shelf = Shelf(tmp_path, 10**6)
    shelf.write("aa", b"a picture")
    files(tmp_path)["aa"].write_bytes(damage)
    assert shelf.read("aa") is None
    shelf.write("aa", b"a picture")
    assert shelf.read("aa") == b"a picture"


def test_the_least_recently_used_go_first(tmp_path):
    shelf = Shelf(tmp_path, 1000)
    for number in range(8):
        shelf.write(f"{number}", bytes(84))  # 100 bytes with its checksum
        os.utime(files(tmp_path)[f"{number}"], ns=(number, number))
    assert shelf.read("0") is not None  # used just now
    for number in range(8, 11):
        shelf.write(f"{number}", bytes(84))
    assert set(files(tmp_path)) == {"0", *(f"{number}" for number in range(3, 11))}


def test_what_earlier_processes_kept_counts(tmp_path):
    Shelf(tmp_path, 10**6).write("old", bytes(900))
    os.utime(files(tmp_path)["old"], ns=(1, 1))
    Shelf(tmp_path, 1000).write("new", bytes(500))
    assert set(files(tmp_path)) == {"new"}


def test_a_content_beyond_the_limit_is_not_kept_long(tmp_path):
    Shelf(tmp_path, 1000).write("large", bytes(2000))
    assert files(tmp_path) == {}


def test_a_disk_that_cannot_be_written_is_told_once(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    shelf = Shelf(tmp_path / "file", 1000)  # whoever is root may write nearly anywhere, but not below a file
    for _ in range(3):
        shelf.write("aa", b"content")
    assert shelf.read("aa") is None
    assert caplog.text.count("cannot be written") == 1
