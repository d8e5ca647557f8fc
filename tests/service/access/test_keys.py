import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from service.access.keys import KeyRing, Scope, read_keys
from service.errors import KeysError


def line(name, scope, secret, *rest):
    return " ".join([name, scope, hashlib.sha256(secret.encode()).hexdigest(), *rest]) + "\n"


def test_keys_are_found_by_their_secret(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# who may do what\n\n" + line("page", "read", "r-1") + line("ci", "write", "w-1") + "\n")
    ring = KeyRing(file)
    assert (ring.find("r-1").name, ring.find("r-1").scope) == ("page", Scope.READ)
    assert ring.find("w-1").scope > Scope.READ
    for wrong in ("", "r-2", "R-1", hashlib.sha256(b"r-1").hexdigest(), "é"):
        assert ring.find(wrong) is None
    assert "r-1" not in file.read_text()


def test_keys_end_after_their_last_day(tmp_path):
    today = datetime.now(UTC).date()
    file = tmp_path / "keys"
    file.write_text(
        line("a", "read", "old", str(today - timedelta(1)))
        + line("a", "read", "new", str(today))
        + line("b", "read", "b")
    )
    ring = KeyRing(file)
    assert ring.find("old") is None
    assert ring.find("new").name == "a"


def test_rotation_needs_no_restart_and_a_broken_file_changes_nothing(tmp_path, caplog):
    file = tmp_path / "keys"
    file.write_text(line("a", "read", "one"))
    ring = KeyRing(file)
    file.write_text(line("a", "read", "one") + line("a", "read", "two"))
    assert ring.find("one")
    assert ring.find("two")
    file.write_text("broken")
    assert ring.find("two")
    assert "the previous ones stay valid" in caplog.text
    file.write_text(line("a", "read", "two"))
    assert ring.find("one") is None
    file.unlink()
    assert ring.find("two")


@pytest.mark.parametrize(
    "content", ["a read", "a admin " + "0" * 64, "a read " + "0" * 63, "a read " + "0" * 64 + " soon", "a read SECRET"]
)
def test_bad_files_are_named_without_their_content(tmp_path, content):
    file = tmp_path / "keys"
    file.write_text("# comment\n" + content + "\n")
    with pytest.raises(KeysError, match="keys, line 2") as caught:
        read_keys(file)
    assert "SECRET" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(KeysError, match="cannot be read"):
        KeyRing(tmp_path / "nothing")
