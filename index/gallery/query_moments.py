"""Sums over the sketches that were drawn to search a gallery. The next base takes the order of coordinates from them.

``queries.sqlite`` in the gallery's folder holds, for each model, the number of sketches, the sum of their embeddings
and the sum of their outer products. Single sketches cannot be read from it once a few are added up. Several services
may add to it at the same time. It is no part of the truth about a gallery: without it, the training data decides alone.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from index.errors import GalleryError
from training.model.gallery_order import SecondMoment

__all__ = ["add_queries", "known_queries"]

logger = logging.getLogger(__name__)

_FILE = "queries.sqlite"
_SCHEMA = """CREATE TABLE IF NOT EXISTS moments (
    model TEXT PRIMARY KEY, count INTEGER NOT NULL, total BLOB NOT NULL, products BLOB NOT NULL) WITHOUT ROWID"""


def known_queries(gallery: Path, model: str, dim: int) -> SecondMoment:
    """Reads the sums over the sketches that were drawn so far; they are empty if there are none.

    A file that cannot be read is reported in the log, and taken for empty.

    Args:
        gallery: the gallery's folder.
        model: digest of the model that embedded the sketches.
        dim: number of embedding coordinates.
    """
    if not (gallery / _FILE).is_file():
        return SecondMoment(dim)
    try:
        with closing(_connection(gallery, "ro")) as connection:
            return _read(connection, model, dim)
    except (sqlite3.Error, ValueError) as error:
        logger.warning(
            "%s cannot be read (%s): the order of dimensions is not learned from sketches; delete the file to begin "
            "again",
            gallery / _FILE,
            error,
        )
        return SecondMoment(dim)


def add_queries(gallery: Path, model: str, sketches: SecondMoment) -> None:
    """Adds sums over more sketches, in one transaction.

    Args:
        gallery: the gallery's folder.
        model: digest of the model that embedded the sketches.
        sketches: the sums to add.

    Raises:
        GalleryError: if the file cannot be written.
    """
    dim = len(sketches.total)
    try:
        with closing(_connection(gallery, "rwc")) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SCHEMA)
            sums = _read(connection, model, dim)
            sums.merge(sketches)
            row = (model, sums.count, sums.total.tobytes(), sums.products.tobytes())
            connection.execute("INSERT OR REPLACE INTO moments VALUES (?, ?, ?, ?)", row)
    except (sqlite3.Error, ValueError) as error:
        raise GalleryError(f"{gallery / _FILE} cannot be written: {error}") from error


def _connection(gallery: Path, mode: str) -> sqlite3.Connection:
    uri = f"{(gallery / _FILE).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None)


def _read(connection: sqlite3.Connection, model: str, dim: int) -> SecondMoment:
    found = SecondMoment(dim)
    row = connection.execute("SELECT count, total, products FROM moments WHERE model = ?", (model,)).fetchone()
    if row is not None:
        found.count = row[0]
        found.total = np.frombuffer(row[1]).reshape(dim).copy()
        found.products = np.frombuffer(row[2]).reshape(dim, dim).copy()
        if not (np.isfinite(found.total).all() and np.isfinite(found.products).all()):
            raise ValueError("it holds numbers that are not finite")
    return found
