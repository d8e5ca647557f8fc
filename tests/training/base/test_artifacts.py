"""Files appear whole or not at all."""

import hashlib

import pytest

from training.base.artifacts import atomic_write, file_sha256, write_text


def test_a_file_and_its_folders_appear(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent  # so that the renaming is within one file system
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["note.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_earlier_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "note.txt"
    write_text(path, "earlier")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_the_digest_is_that_of_the_content(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "naïve")
    assert file_sha256(path) == hashlib.sha256("naïve".encode()).hexdigest()
