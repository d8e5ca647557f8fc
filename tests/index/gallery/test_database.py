import shutil
import sqlite3
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from index.errors import GalleryBusy, GalleryDamaged, GalleryError, QueryTimeout
from index.gallery.database import Database

PHOTO = "INSERT INTO photos (uri, sha256, bytes, width, height, revision, metadata) VALUES (?, '', 1, 1, 1, 0, ?)"


@pytest.fixture
def path(tmp_path):
    """A file of 100 photos, of which nobody has it open."""
    with closing(Database(tmp_path / "catalogue.sqlite", create=True)) as database:
        database.write((PHOTO, [(str(number), "{}" + " " * 1000) for number in range(100)]))
    return tmp_path / "catalogue.sqlite"


def uris(database):
    return [row[0] for row in database.query("SELECT uri FROM photos ORDER BY id")]


def unfinished(path, folder):
    """A copy of a file as a writer that was killed leaves it: with photo 100 in the log alone."""
    with closing(Database(path, create=True)) as writer:
        writer.write((PHOTO, [("100", b"")]))
        for name in ("catalogue.sqlite", "catalogue.sqlite-wal"):
            shutil.copy(path.with_name(name), folder / name)
    return folder / "catalogue.sqlite"


def test_a_missing_file_is_made_by_writers_only(tmp_path):
    with pytest.raises(GalleryDamaged, match="is missing; build the gallery again"):
        Database(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    with closing(Database(tmp_path / "none.sqlite", create=True)) as database:
        assert uris(database) == []


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough for a header" * 99, b"", b"SQLite format 3\0"]
)
@pytest.mark.parametrize("create", [False, True])
def test_a_file_of_something_else(tmp_path, content, create):
    file = tmp_path / "catalogue.sqlite"
    file.write_bytes(content)
    if content == b"" and create:  # SQLite's own idea of a new file
        Database(file, create=True).close()
        return
    with pytest.raises(GalleryDamaged, match=r"catalogue\.sqlite is damaged .*restore it from a backup"):
        Database(file, create=create)


def test_damage_within_the_file_is_named_when_it_is_met(path):
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 2 // 4096 * 4096, len(content), 4096):
        content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)
    with closing(Database(path)) as database, pytest.raises(GalleryDamaged, match="restore it from a backup"):
        database.query("SELECT sum(length(metadata)) FROM photos")


def test_readers_cannot_write(path):
    with closing(Database(path)) as reader:
        with pytest.raises(GalleryError, match="readonly"):
            reader.write((PHOTO, [("new", b"")]))
        assert len(uris(reader)) == 100


def test_a_write_is_whole_or_nothing(path):
    with closing(Database(path, create=True)) as database:
        with pytest.raises(GalleryError, match="UNIQUE"):
            database.write(("DELETE FROM photos", [()]), (PHOTO, [("new", b""), ("new", b"")]))
        assert len(uris(database)) == 100
        assert database.write((PHOTO, [("x", b""), ("y", b"")]), ("DELETE FROM photos WHERE id < ?", [(3,), (5,)])) == 4
        assert database.write(("DELETE FROM photos WHERE id = ?", [(1,), (2,)])) == 0
        assert database.write((PHOTO, [])) in (0, -1)


def test_a_reader_sees_one_state_while_another_process_writes(path):
    with closing(Database(path)) as reader, closing(Database(path, create=True)) as writer:
        with reader.reading() as connection:
            cursor = connection.execute("SELECT uri FROM photos ORDER BY id")
            first = cursor.fetchmany(30)
            writer.write(("DELETE FROM photos WHERE id > ?", [(10,)]), (PHOTO, [("new", b"")]))
            assert len(cursor.fetchall()) + len(first) == 100
            assert connection.execute("SELECT count(*) FROM photos").fetchone() == (100,)
        assert len(uris(reader)) == 11


def test_a_query_that_takes_too_long_is_ended(path):
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with closing(Database(path)) as database:
        with pytest.raises(QueryTimeout, match="too long"), database.reading(seconds=0.01) as connection:
            connection.execute(endless).fetchone()
        assert len(uris(database)) == 100  # by the same connection
        with database.reading(seconds=60) as connection:
            assert connection.execute("SELECT count(*) FROM photos").fetchone() == (100,)


def test_a_slow_query_holds_up_no_other(path):
    with closing(Database(path)) as database, database.reading() as slow:
        cursor = slow.execute("SELECT uri FROM photos")
        assert cursor.fetchone()
        assert len(uris(database)) == 100
        with database.reading() as another:
            assert another is not slow
        assert len(cursor.fetchall()) == 99


def test_connections_are_bounded_and_used_again(path, monkeypatch):
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: opened.append(a) or connect(*a, **k))
    with closing(Database(path)) as database:
        reached = threading.Barrier(8)

        def read(number):
            with database.reading() as connection:
                if number < 8:
                    reached.wait(60)
                return connection.execute("SELECT count(*) FROM photos").fetchone()[0]

        with ThreadPoolExecutor(24) as pool:
            assert list(pool.map(read, range(24))) == [100] * 24
        assert len(opened) == 8


def test_a_frozen_file_stays_as_it_was_for_all_queries(path):
    with closing(Database(path, create=True)) as writer:
        with closing(Database(path)) as frozen:
            frozen.freeze()
            writer.write(("DELETE FROM photos WHERE id > ?", [(10,)]))
            with frozen.reading() as connection:
                cursor = connection.execute("SELECT uri FROM photos")
                assert cursor.fetchone()
                assert len(uris(frozen)) == 100  # while another query has not ended
                assert len(cursor.fetchall()) == 99
            writer.write(("DELETE FROM photos WHERE id > ?", [(5,)]))
            assert len(uris(frozen)) == 100
        assert len(uris(writer)) == 5


def test_threads_share_one_object(path):
    with closing(Database(path, create=True)) as database:
        failures = []

        def work(name):
            try:
                for number in range(20):
                    database.write((PHOTO, [(f"{name}-{number}", b"")]))
                    assert f"{name}-{number}" in uris(database)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(uris(database)) == 160


def test_what_a_killed_writer_had_committed_is_there(path, tmp_path):
    (tmp_path / "killed").mkdir()
    copy = unfinished(path, tmp_path / "killed")
    for create in (False, True):
        with closing(Database(copy, create=create)) as database:
            assert len(uris(database)) == 101


def test_a_full_disk_is_named_and_nothing_is_lost(path):
    with closing(Database(path, create=True)) as database:
        with database.writing() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(GalleryError, match="free some space and run the same command again"):
            database.write((PHOTO, [(f"new {number}", bytes(4000)) for number in range(9)]))
        assert len(uris(database)) == 100
        with database.writing() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        database.write((PHOTO, [("new", bytes(4000))]))
    with closing(Database(path)) as database:
        assert len(uris(database)) == 101


def test_what_was_read_while_the_file_was_damaged_is_forgotten_once_it_is_whole(path):
    """As after the restoration of a backup, or a disk that came back."""
    with closing(Database(path, create=True)) as database:
        database.compact()
    content = path.read_bytes()
    with closing(Database(path)) as database:
        path.write_bytes(content[:100] + b"x" * (len(content) - 100))
        with pytest.raises(GalleryDamaged):
            uris(database)
        path.write_bytes(content)
        assert len(uris(database)) == 100


def test_a_writer_waits_as_long_as_it_may_for_another_process(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other, closing(Database(path)) as reader:
        other.execute("BEGIN IMMEDIATE")
        with closing(Database(path, create=True, patience=0.05)) as database:
            with pytest.raises(GalleryBusy, match="try again"):
                database.write((PHOTO, [("new", b"")]))
            assert len(uris(database)) == len(uris(reader)) == 100
            other.execute("ROLLBACK")
            database.write((PHOTO, [("new", b"")]))
            assert len(uris(reader)) == 101


def test_compacting_gives_room_back(path):
    before = path.stat().st_size
    with closing(Database(path, create=True)) as database:
        database.write(("DELETE FROM photos WHERE id > 10", [()]))
        database.compact()
        assert path.stat().st_size < before / 2
        assert len(uris(database)) == 10


def test_a_backup_is_of_one_state_and_independent(path, tmp_path):
    with closing(Database(path)) as reader, closing(Database(path, create=True)) as writer:
        writer.write((PHOTO, [("100", b"")]))
        reader.back_up(tmp_path / "copy.sqlite")
        writer.write((PHOTO, [("101", b"")]))
        with pytest.raises(GalleryError):
            reader.back_up(tmp_path / "nowhere" / "copy.sqlite")
    with closing(Database(tmp_path / "copy.sqlite")) as copy:
        assert len(uris(copy)) == 101


@pytest.fixture
def read_only_disk(tmp_path):
    """A disk, and a function that makes it read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    subprocess.run(["umount", folder], check=True)


def test_a_gallery_on_a_read_only_disk_is_read(path, read_only_disk):
    disk, lock = read_only_disk
    shutil.copy(path, disk)
    lock()
    with closing(Database(disk / path.name)) as database:
        assert len(uris(database)) == 100
        with pytest.raises(GalleryError, match="readonly"):
            database.write((PHOTO, [("new", b"")]))
    with pytest.raises(GalleryError):
        Database(disk / path.name, create=True)


def test_a_log_on_a_read_only_disk_is_not_passed_over(path, read_only_disk):
    """Without the log the file would be read as it was before the last changes."""
    disk, lock = read_only_disk
    copy = unfinished(path, disk)
    lock()
    with pytest.raises(GalleryError, match="where it can be written"):
        Database(copy)


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("SELECT json_extract('{}', ?)", ("$[",)),
        ("SELECT uri FROM photos WHERE uri LIKE ? ESCAPE 'ab'", ("x",)),
        ("SELECT abs(-9223372036854775807 - 1)", ()),
    ],
)
def test_a_query_that_fails_is_no_damage(path, statement, values):
    with closing(Database(path)) as database:
        with pytest.raises(GalleryError) as caught:
            database.query(statement, values)
        assert not isinstance(caught.value, GalleryDamaged)
        assert len(uris(database)) == 100


@pytest.mark.parametrize("statement", ["SELECT x FROM missing", "SELECT json_extract('{', '$.a')"])
def test_what_the_file_lacks_is_damage(path, statement):
    with closing(Database(path)) as database, pytest.raises(GalleryDamaged, match="restore it from a backup"):
        database.query(statement)
