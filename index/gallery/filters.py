"""Filters on the facts and metadata of photos, translated to SQL conditions.

    {"label": "castle", "year": {"gte": 1900, "lt": 2000}, "licence": ["CC0", "CC-BY"], "broken": null}

A photo passes if every field matches: a field equals a value, is one of a list, or meets comparisons. Fields that are
not facts of the photo are looked up in its metadata. Filters are bounded and hold only what SQLite can store,
so that an error of a filter is reported as one.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from index.errors import FilterError

__all__ = ["MAX_FIELDS", "MAX_TEXT", "MAX_VALUES", "filter_condition", "parse_filter"]

MAX_FIELDS = 32  # of a filter
MAX_VALUES = 1000  # of a list
MAX_TEXT = 10_000  # characters of a value

_FACTS = frozenset({"id", "uri", "sha256", "bytes", "width", "height", "label"})
_COMPARISONS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MAX_NAME = 200  # characters of a field
_KINDS = {dict: "an object", list: "a list", type(None): "null"}
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # SQLite cannot hold it
_NAME = re.compile(rf"""[^"\\\x00-\x1f\ud800-\udfff]{{1,{_MAX_NAME}}}""")


def filter_condition(wanted: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Translates a filter to an SQL condition on the table of photos, and the values of its variables.

    Raises:
        FilterError: if a field, a comparison or a value is not valid, or if there are too many.
    """
    if len(wanted) > MAX_FIELDS:
        raise FilterError(f"a filter can have at most {MAX_FIELDS} fields, not {len(wanted)}")
    parts, values = ["1"], []
    for field, value in wanted.items():
        if field in _FACTS:
            operand, path = field, []
        elif not _NAME.fullmatch(field):
            raise FilterError(
                f"a filter's field cannot be named {field[:_MAX_NAME]!r}: 1 to {_MAX_NAME} characters, "
                "no quotation marks, backslashes or control characters"
            )
        else:
            operand, path = "json_extract(metadata, ?)", [f'$."{field}"']
        for condition, operands in _conditions(field, value):
            parts.append(f"{operand} {condition}")
            values += path + operands
    return " AND ".join(parts), values


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


def _conditions(field: str, value: Any) -> list[tuple[str, list[Any]]]:
    if value is None:
        return [("IS NULL", [])]
    if isinstance(value, list):
        if len(value) > MAX_VALUES:
            raise FilterError(f"filter on {field}: a list can have at most {MAX_VALUES} values, not {len(value)}")
        return [("IN (SELECT value FROM json_each(?))", [json.dumps([_scalar(field, item) for item in value])])]
    if isinstance(value, dict):
        if unknown := sorted(set(value) - set(_COMPARISONS)):
            name, known = unknown[0][:_MAX_NAME], ", ".join(_COMPARISONS)
            raise FilterError(f"filter on {field}: no comparison is called {name!r}; there are {known}")
        return [(f"{_COMPARISONS[name]} ?", [_scalar(field, item)]) for name, item in value.items()]
    return [("= ?", [_scalar(field, value)])]


def _scalar(field: str, value: Any) -> str | int | float:
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
