import os
import threading

import pytest

from index.errors import GalleryError
from index.gallery.staging import BASE, NEXT, alone, link, staging


def test_what_a_killed_process_left_is_cleared_by_the_next_one(tmp_path):
    left = tmp_path / "generations" / ".base"
    left.mkdir(parents=True)
    (left / "vectors.npy").write_text("half")
    with staging(tmp_path, NEXT) as folder:
        assert left.exists()  # that of another writer
        assert list(folder.iterdir()) == []
    with staging(tmp_path, BASE) as folder:
        assert (folder, list(folder.iterdir())) == (left, [])


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError("No space left"), GalleryError),
        (RuntimeError("cannot write\nat line 5"), GalleryError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_nothing_is_left_of_a_generation_that_cannot_be_written(tmp_path, error, raised):
    def write():
        with staging(tmp_path, BASE) as folder:
            (folder / "ids.npy").write_text("half")
            raise error

    with pytest.raises(raised) as caught:
        write()
    assert list((tmp_path / "generations").iterdir()) == []
    if raised is GalleryError:
        assert str(error).splitlines()[0] in str(caught.value)
        assert "free some space" in str(caught.value)


def test_locks_of_one_name_exclude_each_other(tmp_path):
    order = []
    waiting = threading.Event()

    def wait():
        waiting.set()
        with alone(tmp_path, NEXT):
            order.append("second")

    thread = threading.Thread(target=wait)
    with alone(tmp_path, NEXT), alone(tmp_path, BASE):
        thread.start()
        assert waiting.wait(60)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_that_cannot_be_written(tmp_path):
    with pytest.raises(GalleryError, match=r"base\.lock cannot be written"), alone(tmp_path / "nowhere", BASE):
        pytest.fail("it was held")


def test_a_link_is_the_file_itself_and_a_copy_where_there_are_no_links(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("content")
    link(tmp_path / "file", tmp_path / "linked")
    assert (tmp_path / "linked").samefile(tmp_path / "file")
    monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError("no links")))
    link(tmp_path / "file", tmp_path / "copied")
    assert not (tmp_path / "copied").samefile(tmp_path / "file")
    assert (tmp_path / "copied").read_text() == "content"
