"""Filters asked of a catalogue: the ids of the photos that match."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import QueryTimeout
from index.gallery.database import Database
from index.gallery.filters import Condition, conditions
from index.gallery.postings import filterable, matching

__all__ = ["select"]

_FEW = 20_000  # photos; so many are looked up one by one, more by reading the table


def select(database: Database, wanted: Mapping[str, Any], seconds: float | None = None) -> NDArray[np.int64]:
    """Returns the ids ``(n,)``, ascending, of the photos that match a filter.

    Fields with postings are answered from these; other fields need a look at every photo, or at those that are left.

    Raises:
        FilterError: if the filter is not valid.
        QueryTimeout: if it takes longer than ``seconds``.
    """
    asked, indexed = conditions(wanted), set[str]()
    try:
        with database.reading(seconds) as connection:
            indexed = {field.key for field in filterable(connection)}
            quick = [condition for condition in asked if condition.field.key in indexed]
            slow = [condition for condition in asked if condition.field.key not in indexed]
            found = _matching(connection, quick)
            if slow or found is None or any(condition.absent for condition in quick):
                return _read(connection, slow, found)
            return found
    except QueryTimeout as error:
        names = ", ".join(condition.field.name for condition in asked if condition.field.key not in indexed)
        raise QueryTimeout(
            f"the filter took longer than {seconds:g} seconds; narrow it, or let the gallery's owner make its fields "
            f"quick with --filterable of `svdraw index build` or `compact`: {names[:200]}"
        ) from error


def _matching(connection: sqlite3.Connection, quick: Sequence[Condition]) -> NDArray[np.int64] | None:
    if not quick:
        return None
    mask = matching(connection, quick[0])
    for condition in quick[1:]:
        mask &= matching(connection, condition)
    return np.flatnonzero(mask)


def _read(
    connection: sqlite3.Connection, slow: Sequence[Condition], among: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    parts, values = ["1"], []
    for condition in slow:
        part, more = condition.sql()
        parts.append(part)
        values += more
    if among is not None and len(among) <= _FEW:
        parts.append("id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(among.tolist()))
    rows = connection.execute(f"SELECT id FROM photos WHERE {' AND '.join(parts)} ORDER BY id", values)
    found = np.fromiter(chain.from_iterable(rows), np.int64)
    return found if among is None else np.intersect1d(found, among, assume_unique=True)
