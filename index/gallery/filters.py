"""Filters on the facts and metadata of photos: what they may ask, and the SQL conditions that ask it.

    {"label": "castle", "year": {"gte": 1900, "lt": 2000}, "licence": ["CC0", "CC-BY"], "broken": null}

A photo passes if every field matches: a field equals a value, is one of a list, or meets comparisons. Fields that are
not facts of the photo are looked up in its metadata; where a list is found there, one of its members must match. A
photo has several colours too: of the fact ``color``, by a name or ``#rrggbb``, one must match.
Filters are bounded and hold only what SQLite can store, so that an error of a filter is reported as one.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from index.errors import FilterError
from index.gallery.fields import MAX_NAME, Field, field_of
from index.gallery.palette import names_of_color

__all__ = ["MAX_FIELDS", "MAX_TEXT", "MAX_VALUES", "Condition", "conditions", "parse_filter", "value_condition"]

MAX_FIELDS = 32  # of a filter
MAX_VALUES = 1000  # of a list
MAX_TEXT = 10_000  # characters of a value

_COMPARISONS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_KINDS = {dict: "an object", list: "a list", type(None): "null"}
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # SQLite cannot hold it


Scalar = str | int | float
Test = tuple[str, Scalar | Sequence[Scalar]]


class Condition(NamedTuple):
    """What a filter asks of one field.

    Attributes:
        field: the field.
        tests: comparisons, by their names in a filter, that one value of the field must meet together; ``in`` has a
            list of values.
        unlike: values that the field must not have, though it has one.
        absent: the field must have no value.
    """

    field: Field
    tests: tuple[Test, ...] = ()
    unlike: tuple[Scalar, ...] = ()
    absent: bool = False

    def sql(self) -> tuple[str, list[Any]]:
        """The condition on a row of the table of photos, and the values of its variables."""
        present, values = self._on_photos(self.tests)
        if self.absent:
            return f"NOT {present}", values
        parts = [present]
        for value in self.unlike:
            part, more = self._on_photos((("eq", value),))
            parts.append(f"NOT {part}")
            values += more
        return " AND ".join(parts), values

    def _on_photos(self, tests: Sequence[Test]) -> tuple[str, list[Any]]:
        """The tests on the values that a photo has in the field."""
        if self.field.is_fact:
            return value_condition([_fitting(self.field, test) for test in tests], self.field.name)
        condition, values = value_condition(tests)
        path, paths = self.field.path_sql()
        return (
            f"coalesce(CASE json_type(metadata, {path}) WHEN 'object' THEN 0 "
            f"WHEN 'array' THEN EXISTS (SELECT 1 FROM json_each(metadata, {path}) "
            f"WHERE type NOT IN ('array', 'object') AND {condition}) "
            f"ELSE (SELECT {condition} FROM (SELECT json_extract(metadata, {path}) AS value)) END, 0)",
            [*paths, *paths, *values, *values, *paths],
        )


def value_condition(tests: Sequence[Test], column: str = "value") -> tuple[str, list[Any]]:
    """The SQL condition that a column has a value that meets all tests, and the values of its variables.

    Numbers are compared with numbers alone, and text with text.
    """
    parts, values = [f"{column} IS NOT NULL"], list[Any]()
    for name, operand in tests:
        if not isinstance(operand, str | int | float):
            parts.append(f"{column} IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(operand))
            continue
        parts.append(f"{column} {_COMPARISONS[name]} ?")
        values.append(operand)
        if isinstance(operand, str) and name in ("lt", "lte"):
            parts.append(f"{column} >= ''")  # SQLite sorts numbers before text
        elif not isinstance(operand, str) and name in ("gt", "gte"):
            parts.append(f"{column} < ''")
    return f"({' AND '.join(parts)})", values


def conditions(wanted: Mapping[str, Any]) -> list[Condition]:
    """Reads a filter.

    Raises:
        FilterError: if a field, a comparison or a value is not valid, or if there are too many.
    """
    if len(wanted) > MAX_FIELDS:
        raise FilterError(f"a filter can have at most {MAX_FIELDS} fields, not {len(wanted)}")
    return [_condition(field_of(name), name, value) for name, value in wanted.items()]


def parse_filter(text: str) -> dict[str, Any]:
    """Reads a filter from JSON.

    Raises:
        FilterError: if the text is not a JSON object.
    """
    try:
        wanted = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FilterError(f"the filter is not JSON: {error}") from error
    if not isinstance(wanted, dict):
        raise FilterError('the filter must be a JSON object, such as {"label": "castle"}')
    return wanted


def _condition(field: Field, name: str, value: Any) -> Condition:
    if value is None:
        return Condition(field, absent=True)
    if isinstance(value, list) and len(value) > MAX_VALUES:
        raise FilterError(f"filter on {name}: a list can have at most {MAX_VALUES} values, not {len(value)}")
    if field.is_color:
        return _color_condition(field, value)
    if isinstance(value, list):
        return Condition(field, (("in", [_scalar(name, item) for item in value]),))
    if not isinstance(value, dict):
        return Condition(field, (("eq", _scalar(name, value)),))
    if unknown := sorted(set(value) - set(_COMPARISONS)):
        comparison, known = unknown[0][:MAX_NAME], ", ".join(_COMPARISONS)
        raise FilterError(f"filter on {name}: no comparison is called {comparison!r}; there are {known}")
    tests = [(comparison, _scalar(name, operand)) for comparison, operand in value.items()]
    return Condition(
        field,
        tuple(test for test in tests if test[0] != "ne"),
        tuple(operand for comparison, operand in tests if comparison == "ne"),
    )


def _color_condition(field: Field, value: Any) -> Condition:
    """What is asked of the colours of a photo, where one value may mean several names."""
    asked = value if isinstance(value, dict) else {"eq": value}
    if other := sorted(asked.keys() - {"eq", "ne"}):
        raise FilterError(f"filter on color: colours compare by eq and ne alone, not by {other[0][:MAX_NAME]}")
    wanted, unlike = (
        [name for each in (part if isinstance(part, list) else [part]) for name in names_of_color(each)]
        for part in (asked.get("eq", []), asked.get("ne", []))
    )
    return Condition(field, (("in", wanted),) if "eq" in asked else (), tuple(unlike))


def _fitting(field: Field, test: Test) -> Test:
    """The test without values of another kind than the fact's, which SQLite would convert."""
    operand = test[1]
    operands = [operand] if isinstance(operand, str | int | float) else operand
    fitting = [value for value in operands if isinstance(value, str) == field.is_text]
    return test if len(fitting) == len(operands) else ("in", fitting)


def _scalar(field: str, value: Any) -> Scalar:
    if not isinstance(value, str | int | float):
        kind = _KINDS.get(type(value), "this")
        raise FilterError(f"filter on {field}: compare with text, numbers or booleans, not {kind}")
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise FilterError(f"filter on {field}: a text can have at most {MAX_TEXT} characters, not {len(value)}")
        if _NO_TEXT.search(value):
            raise FilterError(f"filter on {field}: a text cannot hold null characters or halves of surrogate pairs")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise FilterError(f"filter on {field}: whole numbers must lie between -2^63 and 2^63 - 1")
    elif isinstance(value, float) and not math.isfinite(value):
        raise FilterError(f"filter on {field}: numbers must be finite")
    return value
