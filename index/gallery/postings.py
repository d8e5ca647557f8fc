"""Which photos have which values in the fields that are filtered most: an index of the catalogue for filters.

A posting says of a field, a value and 4096 consecutive ids which of the photos have that value there, as the last 12
bits of their ids in order, 16 bits each. A filter that a million photos match reads 2 MB and counts no rows.
The fact ``filterable`` of the gallery lists the fields, besides colour; whoever changes photos keeps their postings.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from index.errors import FilterError
from index.gallery.fields import Field, field_of
from index.gallery.filters import Condition, value_condition

__all__ = ["add_postings", "filterable", "matching", "remove_postings", "set_filterable"]

_CHUNK = 4096  # ids
_CHOICE = frozenset({"label", "bytes", "width", "height"})  # facts; the others differ from photo to photo
_ALWAYS = field_of("color")  # has postings in every gallery, for the page offers colours to everybody
_Key = tuple[str, str | int | float, int]


def filterable(connection: sqlite3.Connection) -> list[Field]:
    """Returns the fields that have postings."""
    row = connection.execute("SELECT value FROM facts WHERE name = 'filterable'").fetchone()
    return [_ALWAYS, *map(field_of, json.loads(row[0]) if row else [])]


def set_filterable(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Makes postings of these fields, and drops those of others, in the present transaction.

    Raises:
        FilterError: if a field cannot have any.
    """
    wanted = {field.key: field for field in map(field_of, names) if field != _ALWAYS}
    for field in wanted.values():
        if field.is_fact and field.name not in _CHOICE:
            raise FilterError(f"{field.name} differs from photo to photo, so it cannot be made filterable")
    present = {field.key for field in filterable(connection) if field != _ALWAYS}
    for key in present - wanted.keys():
        connection.execute("DELETE FROM postings WHERE field = ?", (key,))
    new = [field for key, field in wanted.items() if key not in present]
    if new:
        [[last]] = connection.execute("SELECT coalesce(max(id), -1) FROM photos")
        for start in range(0, last + 1, _CHUNK):
            _change(connection, new, "id BETWEEN ? AND ?", (start, start + _CHUNK - 1), there=True)
    connection.execute("INSERT OR REPLACE INTO facts VALUES ('filterable', ?)", (json.dumps(sorted(wanted)),))


def add_postings(connection: sqlite3.Connection, ids: Collection[int]) -> None:
    """Adds photos, as they are now, to the postings of all fields, in the present transaction."""
    _change_ids(connection, ids, there=True)


def remove_postings(connection: sqlite3.Connection, ids: Collection[int]) -> None:
    """Removes photos, as they still are, from the postings of all fields, in the present transaction."""
    _change_ids(connection, ids, there=False)


def matching(connection: sqlite3.Connection, condition: Condition) -> NDArray[np.bool_]:
    """Finds the photos that match a condition on a field with postings.

    Returns:
        A mask over ids ``(n,)``; photos with larger ids do not match. Photos that do not exist match if the condition
        asks for no value.
    """
    [[last]] = connection.execute("SELECT coalesce(max(id), -1) FROM photos")
    found = np.zeros(last + 1, np.bool_)
    found[_ids(connection, condition.field, value_condition(condition.tests))] = True
    for value in condition.unlike:
        found[_ids(connection, condition.field, value_condition((("eq", value),)))] = False
    return ~found if condition.absent else found


def _ids(connection: sqlite3.Connection, field: Field, test: tuple[str, list[object]]) -> NDArray[np.int64]:
    statement = f"SELECT chunk, ids FROM postings WHERE field = ? AND {test[0]}"
    rows = connection.execute(statement, (field.key, *test[1])).fetchall()
    last_bits = np.frombuffer(b"".join(row[1] for row in rows), "<u2")
    chunks = np.array([row[0] for row in rows], np.int64)
    found: NDArray[np.int64] = np.repeat(chunks * _CHUNK, [len(row[1]) // 2 for row in rows]) + last_bits
    return found


def _change_ids(connection: sqlite3.Connection, ids: Collection[int], *, there: bool) -> None:
    values = (json.dumps(list(ids)),)
    _change(connection, filterable(connection), "id IN (SELECT value FROM json_each(?))", values, there=there)


def _change(
    connection: sqlite3.Connection, fields: Sequence[Field], which: str, values: tuple[object, ...], *, there: bool
) -> None:
    changed: dict[_Key, list[int]] = defaultdict(list)
    for identifier, label, size, width, height, colors, metadata in connection.execute(
        f"SELECT id, label, bytes, width, height, colors, metadata FROM photos WHERE {which}", values
    ):
        facts = {"label": label, "bytes": size, "width": width, "height": height, "colors": colors}
        described = json.loads(metadata)
        for field in fields:
            for value in field.values(facts, described):
                changed[field.key, value, identifier // _CHUNK].append(identifier % _CHUNK)
    for key, places in changed.items():
        _write(connection, key, np.array(places, "<u2"), there=there)


def _write(connection: sqlite3.Connection, key: _Key, places: NDArray[np.uint16], *, there: bool) -> None:
    where = "WHERE field = ? AND value = ? AND chunk = ?"
    row = connection.execute(f"SELECT ids FROM postings {where}", key).fetchone()
    known = np.frombuffer(row[0] if row else b"", "<u2")
    after = np.union1d(known, places) if there else np.setdiff1d(known, places)
    if len(after):
        content = after.astype("<u2").tobytes()
        connection.execute("INSERT OR REPLACE INTO postings VALUES (?, ?, ?, ?)", (*key, content))
    else:
        connection.execute(f"DELETE FROM postings {where}", key)
