import hashlib
import hmac
import logging
import os
from datetime import date, datetime
from pathlib import Path

import pytest

from service.access.admission import Gate
from service.access.keys import KeyRing, Scope, _file_state, read_keys
from service.errors import KeysError, RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings


def line(name, scope, secret, *rest):
    return " ".join([name, scope, hashlib.sha256(secret.encode()).hexdigest(), *rest]) + "\n"


class Clock:
    """A clock that stands still until it is set."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(line("a", "read", "one"))
    return file


def ring_of(file, grace=600.0, metrics=None, clock=None):
    return KeyRing(Path(file), grace, metrics or Metrics(), clock or Clock())


def test_keys_are_found_by_their_secret(file):
    file.write_text("# who may do what\n\n" + line("page", "read", "r-1") + line("ci", "write", "w-1") + "\n")
    ring = ring_of(file)
    assert (ring.find("r-1").name, ring.find("r-1").scope) == ("page", Scope.READ)
    assert ring.find("w-1").scope > Scope.READ
    for wrong in ("", "r-2", "R-1", hashlib.sha256(b"r-1").hexdigest(), "é"):
        assert ring.find(wrong) is None
    assert "r-1" not in file.read_text()


def test_every_key_is_compared_whichever_is_right(file, monkeypatch):
    file.write_text("".join(line(name, "read", name) for name in "abcd"))
    ring = ring_of(file)
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: compared.append(pair) or compare(*pair))
    for secret in ("a", "d", "unknown"):
        compared.clear()
        ring.find(secret)
        assert len(compared) == 4


@pytest.mark.parametrize("time", [datetime.min.time(), datetime.max.time()])
def test_keys_end_after_their_last_day(file, monkeypatch, time):
    class Today(datetime):
        @classmethod
        def now(cls, zone):
            return datetime.combine(date(2024, 2, 29), time, zone)

    monkeypatch.setattr("service.access.keys.datetime", Today)
    file.write_text(
        line("a", "read", "old", "2024-02-28") + line("a", "read", "new", "2024-02-29") + line("b", "read", "b")
    )
    ring = ring_of(file)
    assert ring.find("old") is None
    assert ring.find("new").name == "a"


def test_rotation_needs_no_restart(file):
    ring = ring_of(file)
    file.write_text(line("a", "read", "one") + line("a", "read", "two"))
    assert ring.find("one")
    assert ring.find("two")
    file.write_text(line("a", "read", "two"))
    assert ring.find("one") is None


def same_size_and_time(file):
    """Overwrites the file, keeping what a hasty look would compare."""
    before = file.stat()
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # which the kernel counts in milliseconds
        file.write_text(line("a", "read", "two"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_file_of_the_same_time(file):
    before = file.stat()
    new = file.with_name("new")
    new.write_text(line("a", "read", "two"))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(file)


@pytest.mark.parametrize("change", [same_size_and_time, another_file_of_the_same_time])
def test_changes_that_keep_size_and_time_are_seen(file, change):
    ring = ring_of(file)
    change(file)
    assert ring.find("two")
    assert ring.find("one") is None


def test_a_file_that_was_replaced_behind_a_mount_proves_nothing(file, caplog):
    """As in a container, which goes on with the file that it was started with."""
    clock = Clock()
    with file.open() as mounted:
        ring = ring_of(f"/proc/self/fd/{mounted.fileno()}", clock=clock)
        clock.now += 10
        assert ring.find("one")
        another_file_of_the_same_time(file)
        assert ring.find("one")
        assert "was replaced behind its mount" in caplog.text
        clock.now += 600
        assert ring.find("one") is None


def test_where_links_are_not_counted_their_number_says_nothing(file, monkeypatch):
    state = _file_state(file)
    monkeypatch.setattr("service.access.keys._file_state", lambda path: state._replace(links=0))
    clock = Clock()
    ring = ring_of(file, 0, clock=clock)
    clock.now += 10
    assert ring.find("one")


def test_a_change_that_leaves_no_trace_is_seen_a_second_later(file, monkeypatch):
    clock, state = Clock(), _file_state(file)
    monkeypatch.setattr("service.access.keys._file_state", lambda path: state)
    ring = ring_of(file, clock=clock)
    file.write_text(line("a", "read", "two"))
    assert ring.find("one")
    clock.now += 1
    assert ring.find("one") is None
    assert ring.find("two")


def test_a_secret_of_kubernetes_is_replaced_by_a_link_that_changes(tmp_path):
    """The file is a link into ``..data``, which is itself a link that is swapped for another."""
    for version, secret in (("..v1", "one"), ("..v2", "two")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(line("a", "read", secret))
        os.utime(tmp_path / version / "keys", ns=(0, 0))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "keys").symlink_to("..data/keys")
    ring = ring_of(tmp_path / "keys")
    assert ring.find("one")
    (tmp_path / "..new").symlink_to("..v2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert ring.find("two")
    assert ring.find("one") is None


def bad_line(file):
    file.write_text(line("a", "read", "one") + "broken\n")


def unreadable(file):
    file.unlink()
    file.mkdir()


def not_text(file):
    file.write_bytes(b"\xff\xfe")


def missing(file):
    file.unlink()


def dangling(file):
    file.unlink()
    file.symlink_to("nowhere")


@pytest.mark.parametrize("fault", [bad_line, unreadable, not_text, missing, dangling])
def test_the_last_good_list_is_used_for_a_limited_time(file, caplog, fault):
    clock, metrics = Clock(), Metrics()
    ring = ring_of(file, 600, metrics, clock)
    fault(file)
    for waited in (0, 300, 599):
        clock.now = 1000 + waited
        assert ring.find("one")
        assert metrics.registry.get_sample_value("svdraw_keys_age_seconds") == waited
    clock.now = 1600
    assert ring.find("one") is None
    assert not ring.trusted
    assert metrics.registry.get_sample_value("svdraw_keys_failed_reads_total") >= 4
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1  # not one for each request
    file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
    file.write_text(line("a", "read", "two"))
    assert ring.find("one") is None
    assert ring.find("two")
    assert metrics.registry.get_sample_value("svdraw_keys_age_seconds") == 0


def test_a_grace_of_nothing_trusts_only_a_file_in_order(file):
    clock = Clock()
    ring = ring_of(file, 0, clock=clock)
    clock.now += 0.5
    assert ring.find("one")
    missing(file)
    assert ring.find("one") is None


def test_a_scrape_notices_a_bad_file_though_nobody_sends_a_key(file):
    clock, metrics = Clock(), Metrics()
    ring = ring_of(file, metrics=metrics, clock=clock)
    clock.now += 50
    assert metrics.registry.get_sample_value("svdraw_keys_age_seconds") == 0
    bad_line(file)
    clock.now += 50
    assert metrics.registry.get_sample_value("svdraw_keys_age_seconds") == 50
    assert ring.trusted


def test_a_key_that_cannot_be_checked_is_not_called_wrong(file):
    metrics = Metrics()
    gate = Gate(ServiceSettings(gallery="unused", keys=file, keys_grace_seconds=0, anonymous="read"), metrics)
    missing(file)
    for secret in ("one", "guessed"):
        with pytest.raises(RequestProblem) as caught:
            gate.check("1.2.3.4", secret, Scope.READ)
        assert caught.value.status == 503
        assert caught.value.headers["Retry-After"]
    gate.check("1.2.3.4", None, Scope.READ)  # what needs no key needs no list of keys
    assert metrics.registry.get_sample_value("svdraw_refused_requests_total", {"reason": "keys"}) == 2


def test_keys_that_cannot_be_checked_cannot_be_tried_quickly(file):
    gate = Gate(
        ServiceSettings(gallery="unused", keys=file, keys_grace_seconds=0, rate_limit=0.001, rate_burst=1), Metrics()
    )
    missing(file)
    statuses = []
    for _ in range(2):
        with pytest.raises(RequestProblem) as caught:
            gate.check("1.2.3.4", "one", Scope.READ)
        statuses.append(caught.value.status)
    assert statuses == [503, 429]


HASH = "0" * 64


@pytest.mark.parametrize(
    "content",
    [
        "a read",
        f"a admin {HASH}",
        f"a read {HASH[1:]}",
        f"a read {HASH} soon",
        f"a read {HASH} SECRET",
        f"a read {HASH} 2027-12-31 SECRET",
        f"SECRET read {HASH} 2027-13-31",
        "a read SECRET",
        "SECRET",
        line("a", "read", "").strip(),
    ],
)
def test_bad_files_are_named_without_their_content(file, content):
    file.write_text("# comment\n" + content + "\n")
    with pytest.raises(KeysError, match="keys, line 2") as caught:
        read_keys(file)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(KeysError, match="keys, line 2"):
        ring_of(file)


def test_a_key_on_two_lines_is_refused(file):
    """One of them may have been meant to withdraw it."""
    file.write_text(line("a", "write", "one") + line("a", "write", "two") + line("a", "write", "one", "2020-01-01"))
    with pytest.raises(KeysError, match="line 3: line 1 has the same key"):
        read_keys(file)


def test_a_missing_file(tmp_path):
    with pytest.raises(KeysError, match=r"cannot be read.*No such file"):
        ring_of(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("mode", "warning"), [(0o640, None), (0o644, "read the hashes"), (0o646, "add keys"), (0o602, "add keys")]
)
def test_files_that_everyone_may_read_or_write_are_reported(file, caplog, mode, warning):
    file.chmod(mode)
    ring_of(file)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == (1 if warning else 0)
    assert all(warning in text for text in told)


def test_nothing_in_a_file_without_keys_is_secret(file, caplog):
    file.write_text("# none yet\n")
    file.chmod(0o644)
    ring_of(file)
    assert caplog.text == ""
