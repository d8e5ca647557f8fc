"""Files are opened only if reading them must end."""

import os
import socket
from pathlib import Path

import pytest

from training.base import regular_files
from training.base.regular_files import UnusableFile, open_regular, read_regular


def test_a_file_is_read_also_behind_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file") == read_regular(tmp_path / "link") == b"content"
    with open_regular(tmp_path / "file", follow_link=False) as file:
        assert file.read() == b"content"
        assert not os.get_inheritable(file.fileno())
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "link", follow_link=False)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a FIFO"),
        (os.mkdir, "a folder"),
        (make_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
)
def test_anything_else_is_refused_at_once(tmp_path, monkeypatch, make, kind, linked):
    monkeypatch.chdir(tmp_path)  # the names of sockets must be short
    make(Path("file"))
    if linked:
        Path("link").symlink_to("file")
    with pytest.raises(UnusableFile, match=f"not a regular file but {kind}"):
        read_regular(Path("link" if linked else "file"))


def test_what_took_the_name_meanwhile_is_refused(tmp_path, fifo, monkeypatch):
    (tmp_path / "file").write_bytes(b"content")
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: opened(fifo, flags))
    with pytest.raises(UnusableFile, match="a FIFO"):
        open_regular(tmp_path / "file")


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(regular_files, "MAX_BYTES", 2 << 20)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2 << 20)
        assert len(read_regular(tmp_path / "large")) == 2 << 20
        file.truncate((2 << 20) + 1)
        with pytest.raises(UnusableFile, match="larger than 2 MiB"):
            read_regular(tmp_path / "large")


def test_no_more_is_read_than_the_file_had_when_it_was_looked_at(tmp_path, monkeypatch):
    path, look = tmp_path / "growing", os.fstat
    path.write_bytes(b"before")
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)

    def look_and_write(looked_at):
        facts = look(looked_at)
        os.write(handle, b", and after")
        return facts

    monkeypatch.setattr(os, "fstat", look_and_write)
    content = read_regular(path)
    monkeypatch.undo()
    os.close(handle)
    assert path.read_bytes().startswith(content)
    assert len(content) < path.stat().st_size
