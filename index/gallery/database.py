"""Access to a catalogue's SQLite file: it opens on any disk, and its errors say what to do."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from index.errors import GalleryBusy, GalleryDamaged, GalleryError, GalleryFull, QueryTimeout
from index.gallery.schema import check_layout, prepare, transaction

__all__ = ["PATIENCE", "Database"]

PATIENCE = 30.0  # seconds that a change waits for other processes that write
_READERS = 8  # connections of one object; a query beyond them waits for one
_STEPS = 10_000  # of SQLite's virtual machine between two looks at the clock: about a millisecond
_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")
_UNSOUND = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR")  # a connection keeps what it has read wrongly
_FOREIGN = ("no such table", "no such column", "malformed JSON")  # what the file lacks, not what was asked of it


class Database:
    """Access to a catalogue file. One object may be used from many threads, which read at the same time.

    Args:
        path: the SQLite file.
        create: create the file if it is missing, and allow writing. A file of an earlier version is upgraded.
        patience: seconds that a change waits for other processes that write.

    Raises:
        GalleryDamaged: if the file is missing or unreadable, is not a catalogue, or is of an earlier version.
    """

    def __init__(self, path: Path, *, create: bool = False, patience: float = PATIENCE) -> None:
        self.path = path
        self._patience = patience
        self._writing = threading.Lock()
        self._places = threading.BoundedSemaphore(_READERS)
        self._idle: list[sqlite3.Connection] = []
        self._frozen: sqlite3.Connection | None = None
        self._closed = False
        if not create and not path.is_file():
            raise GalleryDamaged(f"{path} is missing; build the gallery again")
        with self._explaining():
            self._writer = self._open_for_writing() if create else None
            if not create:
                self._idle.append(self._open_for_reading())

    def close(self) -> None:
        """Closes the file; what is being read is read to its end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        if self._writer:
            self._writer.close()

    def freeze(self) -> None:
        """Lets all later queries see the present state, until the file is closed. They share one connection."""
        with self._borrowed() as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM facts").fetchone()  # the first query decides which state is seen
            self._frozen = connection

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Returns all rows of a query."""
        with self._borrowed() as connection, closing(connection.execute(statement, values)) as cursor:
            return cursor.fetchall()

    @contextmanager
    def reading(self, seconds: float | None = None) -> Iterator[sqlite3.Connection]:
        """Yields a connection that reads one consistent state, while others may write.

        Args:
            seconds: that queries may take together.

        Raises:
            QueryTimeout: if they take longer.
        """
        with self._borrowed() as connection:
            try:
                if seconds is not None:
                    end = time.monotonic() + seconds
                    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
                if connection is not self._frozen:
                    connection.execute("BEGIN")
                yield connection
            finally:
                if seconds is not None:
                    connection.set_progress_handler(None, 0)
                if connection is not self._frozen and connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yields a connection; what is written through it is one durable transaction, all of it or nothing.

        Raises:
            GalleryBusy: if another process keeps the file from being written.
            GalleryFull: if the disk is full; nothing was written.
        """
        with self._explaining(), self._writing:
            if self._writer is None:
                raise GalleryError(f"{self.path} is readonly here: it was opened for reading")
            with transaction(self._writer):
                yield self._writer

    def write(self, *statements: tuple[str, Sequence[tuple[Any, ...]]]) -> int:
        """Runs statements, each once for every row of values, in one durable transaction.

        Returns:
            The number of rows that the last statement changed.
        """
        changed = 0
        with self.writing() as connection:
            for statement, rows in statements:
                with closing(connection.executemany(statement, rows)) as cursor:
                    changed = cursor.rowcount
        return changed

    def compact(self) -> None:
        """Gives unused space back to the disk."""
        with self._explaining(), self._writing:
            assert self._writer is not None
            self._writer.execute("VACUUM")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def back_up(self, path: Path) -> None:
        """Copies the present state to a new file, while others may write."""
        with self._borrowed() as connection, closing(sqlite3.connect(path)) as copy:
            connection.backup(copy)

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading that nobody else uses meanwhile, or the frozen one."""
        if self._frozen:
            with self._explaining():
                yield self._frozen
            return
        with self._explaining(), self._places:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open_for_reading()
            is_sound = True
            try:
                yield connection
            except sqlite3.Error as error:
                is_sound = not getattr(error, "sqlite_errorname", "").startswith(_UNSOUND)
                raise
            finally:
                if is_sound and not self._closed:
                    self._idle.append(connection)
                else:
                    connection.close()

    def _open_for_writing(self) -> sqlite3.Connection:
        connection = _connect(str(self.path), self._patience)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            prepare(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_for_reading(self) -> sqlite3.Connection:
        """Opens the file, as immutable where SQLite cannot create its shared memory: on a full or read-only disk."""
        log = self.path.with_name(f"{self.path.name}-wal")
        idle = not log.exists() or log.stat().st_size == 0
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        for attempt in (uri, f"{uri}&immutable=1") if idle else (uri,):
            connection = _connect(attempt, self._patience)
            try:
                connection.execute("SELECT count(*) FROM facts").fetchone()
                check_layout(connection, self.path)
            except sqlite3.Error as error:
                connection.close()
                failure = error
                if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR")):
                    break
            except GalleryDamaged:
                connection.close()
                raise
            else:
                return connection
        raise failure

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorname", "")
        if code == "SQLITE_INTERRUPT":
            return QueryTimeout(f"{self.path}: a query took too long")
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return GalleryBusy(f"{self.path}: another process has kept it from being written; try again ({error})")
        if code.startswith(_NO_ROOM):
            return GalleryFull(f"{self.path}: {error}; free some space and run the same command again to go on")
        if code.startswith("SQLITE_IOERR"):
            return GalleryError(f"{self.path}: {error}; check the disk, and run the same command again to go on")
        if code.startswith("SQLITE_CANTOPEN"):
            return GalleryError(
                f"{self.path}: {error}; on a read-only disk no {self.path.name}-wal may lie beside it: "
                "run `svdraw index verify --repair` on it where it can be written"
            )
        foreign = code == "SQLITE_ERROR" and str(error).startswith(_FOREIGN)  # else the statement is at fault
        if foreign or code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return GalleryDamaged(
                f"{self.path} is damaged ({error}); restore it from a backup or build the gallery again"
            )
        return GalleryError(f"{self.path}: {error}")


def _connect(target: str, patience: float) -> sqlite3.Connection:
    return sqlite3.connect(
        target, uri=target.startswith("file:"), timeout=patience, check_same_thread=False, isolation_level=None
    )
