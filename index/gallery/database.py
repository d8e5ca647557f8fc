"""Access to a catalogue's SQLite file: it opens on any disk, and its errors say what to do."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from index.errors import GalleryDamaged, GalleryError

__all__ = ["Database"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS photos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uri TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    modified INTEGER,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    label TEXT,
    metadata TEXT NOT NULL,
    vector BLOB NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS removed (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS removed_by_revision ON removed (revision);
CREATE INDEX IF NOT EXISTS photos_by_content ON photos (sha256);
CREATE INDEX IF NOT EXISTS photos_by_revision ON photos (revision);
CREATE INDEX IF NOT EXISTS photos_by_label ON photos (label);
"""
# A catalogue of an earlier version does not know which photos were removed before its first opening by this version.
_REMOVED_SINCE = """
INSERT OR IGNORE INTO facts
SELECT 'removed_since', coalesce((SELECT value FROM facts WHERE name = 'revision'), '0')
"""
_FOREIGN = ("no such table", "no such column", "malformed JSON")  # what the file lacks, not what was asked of it


class Database:
    """Access to a catalogue file. One object may be used from many threads.

    Args:
        path: the SQLite file.
        create: create the file if it is missing, and allow writing.

    Raises:
        GalleryDamaged: if the file is missing or unreadable, is not a catalogue, or is of an earlier version.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not create and not path.is_file():
            raise GalleryDamaged(f"{path} is missing; build the gallery again")
        try:
            self._connection = self._open_for_writing() if create else self._open_for_reading()
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Returns all rows of a query."""
        try:
            with self._lock, closing(self._connection.execute(statement, values)) as cursor:
                return cursor.fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def stream(self, statement: str, values: Sequence[Any], size: int) -> Iterator[list[Any]]:
        """Yields the rows of a query from one consistent state, ``size`` at a time."""
        try:
            with closing(self._connection.execute(statement, values)) as cursor:
                while rows := cursor.fetchmany(size):
                    yield rows
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def write(self, *statements: tuple[str, Sequence[tuple[Any, ...]]]) -> int:
        """Runs statements, each once for every row of values, in one durable transaction.

        Returns:
            The number of rows that the last statement changed.
        """
        changed = 0
        try:
            with self._lock, self._connection:
                for statement, rows in statements:
                    with closing(self._connection.executemany(statement, rows)) as cursor:
                        changed = cursor.rowcount
            return changed
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def compact(self) -> None:
        """Gives unused space back to the disk."""
        try:
            with self._lock:
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def back_up(self, path: Path) -> None:
        """Copies the present state to a new file, while others may write."""
        try:
            with closing(sqlite3.connect(path)) as copy, self._lock:
                self._connection.backup(copy)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _open_for_writing(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            columns = [row[1] for row in connection.execute("PRAGMA table_info(photos)")]
            if columns and "revision" not in columns:  # a catalogue of version 0.1
                connection.execute("ALTER TABLE photos ADD COLUMN revision INTEGER NOT NULL DEFAULT 0")
            with connection:  # all of it or nothing
                for statement in (*_SCHEMA.split(";\n"), _REMOVED_SINCE):
                    connection.execute(statement)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _open_for_reading(self) -> sqlite3.Connection:
        """Opens the file, as immutable where SQLite cannot create its shared memory: on a full or read-only disk."""
        log = self.path.with_name(f"{self.path.name}-wal")
        idle = not log.exists() or log.stat().st_size == 0
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        for attempt in (uri, f"{uri}&immutable=1") if idle else (uri,):
            connection = sqlite3.connect(attempt, uri=True, timeout=30, check_same_thread=False)
            try:
                connection.execute("SELECT count(*) FROM facts").fetchone()
                connection.execute("SELECT revision FROM photos LIMIT 1").fetchone()
            except sqlite3.Error as error:
                connection.close()
                failure = error
                if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR")):
                    break
            else:
                return connection
        raise failure

    def _explained(self, error: sqlite3.Error) -> GalleryError:
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return GalleryError(f"{self.path}: {error}; free some space and run the same command again to go on")
        if code.startswith("SQLITE_CANTOPEN"):
            return GalleryError(
                f"{self.path}: {error}; on a read-only disk no {self.path.name}-wal may lie beside it: "
                "run `svdraw index verify --repair` on it where it can be written"
            )
        if "no such column: revision" in str(error):
            return GalleryDamaged(f"{self.path} is of version 0.1; run `svdraw index verify --repair` on it once")
        foreign = code == "SQLITE_ERROR" and str(error).startswith(_FOREIGN)  # else the statement is at fault
        if foreign or code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return GalleryDamaged(
                f"{self.path} is damaged ({error}); restore it from a backup or build the gallery again"
            )
        return GalleryError(f"{self.path}: {error}")
