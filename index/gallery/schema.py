"""The tables of a catalogue, and how a catalogue of an earlier version gets them.

facts      facts about the gallery, such as the digest of its model
photos     facts of every photo
vectors    vectors of every photo; see ``index.gallery.vector_pages``
postings   which photos have which values in some fields; see ``index.gallery.postings``
removed    ids of removed photos, and the revision in which each was removed
"""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from index.errors import GalleryDamaged
from index.gallery.vector_pages import PAGE, store_vectors

__all__ = ["check_layout", "prepare", "transaction"]

# Of the tables, in SQLite's user_version. Before 1, vectors were among the facts; before 2, there were no colours.
_LAYOUT = 2
_TABLES = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE photos (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uri TEXT NOT NULL UNIQUE,
        sha256 TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        modified INTEGER,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        label TEXT,
        metadata TEXT NOT NULL,
        revision INTEGER NOT NULL,
        colors INTEGER
    )
    """,
    "CREATE TABLE vectors (page INTEGER PRIMARY KEY, slots INTEGER NOT NULL, vectors BLOB NOT NULL)",
    """
    CREATE TABLE postings (
        field TEXT, value, chunk INTEGER, ids BLOB NOT NULL, PRIMARY KEY (field, value, chunk)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE removed (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL)",
    # What was removed before this version opened the catalogue is not known.
    "INSERT INTO facts SELECT 'removed_since', coalesce((SELECT value FROM facts WHERE name = 'revision'), '0')",
)
_INDICES = (
    "CREATE INDEX photos_by_content ON photos (sha256)",
    "CREATE INDEX photos_by_revision ON photos (revision)",
    "CREATE INDEX photos_by_label ON photos (label)",
    "CREATE INDEX removed_by_revision ON removed (revision)",
    f"PRAGMA user_version = {_LAYOUT}",
)
_WITH_COLORS = (
    "ALTER TABLE photos ADD COLUMN colors INTEGER",
    # What was filterable under the name of the new fact is a field of the metadata.
    "UPDATE postings SET field = 'metadata.color' WHERE field = 'color'",
    """UPDATE facts SET value = replace(value, '"color"', '"metadata.color"') WHERE name = 'filterable'""",
)
_SET_ASIDE = (
    "DROP INDEX IF EXISTS photos_by_content",
    "DROP INDEX IF EXISTS photos_by_revision",
    "DROP INDEX IF EXISTS photos_by_label",
    "ALTER TABLE photos RENAME TO photos_before",  # so that programs of an earlier version cannot write any more
)
_KEPT = "id, uri, sha256, bytes, modified, width, height, label, metadata, revision"
_BATCH = 64 * PAGE  # photos


def check_layout(connection: sqlite3.Connection, path: Path) -> None:
    """Checks that a catalogue can be read.

    Raises:
        GalleryDamaged: if an earlier or a later version wrote it; the message says what to do.
    """
    layout = _layout(connection, path)
    if layout < _LAYOUT:
        raise GalleryDamaged(f"{path} is of an earlier version; run `svdraw index verify --repair` on it once")


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the tables of a new catalogue, or brings those of an earlier version to the present layout.

    Photos of an earlier version are moved in batches, each in one durable transaction. If the process is killed, the
    next call goes on with the rest.

    Args:
        connection: may write, and is outside of a transaction.
        path: of the catalogue, for messages.

    Raises:
        GalleryDamaged: if a later version wrote the catalogue, or its vectors differ in size.
    """
    if _layout(connection, path) == _LAYOUT:
        return
    with transaction(connection):
        layout = _layout(connection, path)
        if layout == _LAYOUT:  # another process was faster
            return
        if not _has(connection, "photos"):
            _run(connection, *_TABLES, *_INDICES)
        elif layout == 0 and not _has(connection, "photos_before"):
            _set_aside(connection)
        elif "colors" not in _columns(connection):
            _run(connection, *_WITH_COLORS)
        if not _has(connection, "photos_before"):
            _run(connection, f"PRAGMA user_version = {_LAYOUT}")
    if _has(connection, "photos_before"):
        _move_all(connection)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Makes what is done inside durable, all of it or nothing; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _set_aside(connection: sqlite3.Connection) -> None:
    if "revision" not in _columns(connection):
        connection.execute("ALTER TABLE photos ADD COLUMN revision INTEGER NOT NULL DEFAULT 0")
    _run(connection, *_SET_ASIDE, *_TABLES)
    connection.execute(  # an id is never given twice
        "INSERT INTO sqlite_sequence SELECT 'photos', seq FROM sqlite_sequence WHERE name = 'photos_before'"
    )


def _move_all(connection: sqlite3.Connection) -> None:
    count = connection.execute("SELECT count(*) FROM photos_before").fetchone()[0]
    seconds = 0.1 if sys.stderr.isatty() else 10
    with tqdm(total=count, desc="upgrading", unit="photo", dynamic_ncols=True, mininterval=seconds) as progress:
        while True:
            with transaction(connection):
                if not _has(connection, "photos_before"):  # another process was faster
                    return
                if not (moved := _move_some(connection)):
                    _run(connection, "DROP TABLE photos_before", *_INDICES)
                    return
            progress.update(moved)


def _move_some(connection: sqlite3.Connection) -> int:
    rows = connection.execute("SELECT id, vector FROM photos_before ORDER BY id LIMIT ?", (_BATCH,)).fetchall()
    if rows:
        store_vectors(connection, dict(rows))
        last = (rows[-1][0],)
        connection.execute(f"INSERT INTO photos ({_KEPT}) SELECT {_KEPT} FROM photos_before WHERE id <= ?", last)
        connection.execute("DELETE FROM photos_before WHERE id <= ?", last)
    return len(rows)


def _layout(connection: sqlite3.Connection, path: Path) -> int:
    layout = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if layout > _LAYOUT:
        raise GalleryDamaged(f"{path} was written by a later version of svdraw; use that version")
    return layout


def _columns(connection: sqlite3.Connection) -> list[str]:
    return [row[1] for row in connection.execute("PRAGMA table_info(photos)")]


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0])


def _run(connection: sqlite3.Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(statement)
