"""Filters on the facts and metadata of photos, translated to SQL conditions.

    {"label": "castle", "year": {"gte": 1900, "lt": 2000}, "licence": ["CC0", "CC-BY"], "broken": null}

A photo passes if every field matches: a field equals a value, is one of a list, or meets comparisons. Fields that are
not facts of the photo are looked up in its metadata.
"""

import json
from collections.abc import Mapping
from typing import Any

from index.errors import FilterError

__all__ = ["filter_condition", "parse_filter"]

_FACTS = frozenset({"id", "uri", "sha256", "bytes", "width", "height", "label"})
_COMPARISONS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def filter_condition(wanted: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Translates a filter to an SQL condition on the table of photos, and the values of its variables.

    Raises:
        FilterError: if a field or a comparison is not valid.
    """
    parts, values = ["1"], []
    for field, value in wanted.items():
        if field in _FACTS:
            operand, path = field, []
        elif '"' in field or "\\" in field:
            raise FilterError(f"a filter's field cannot be named {field!r}")
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
    except ValueError as error:
        raise FilterError(f"the filter is not JSON: {error}") from error
    if not isinstance(wanted, dict):
        raise FilterError('the filter must be a JSON object, such as {"label": "castle"}')
    return wanted


def _conditions(field: str, value: Any) -> list[tuple[str, list[Any]]]:
    if value is None:
        return [("IS NULL", [])]
    if isinstance(value, list):
        return [("IN (SELECT value FROM json_each(?))", [json.dumps([_scalar(field, item) for item in value])])]
    if isinstance(value, dict):
        if unknown := sorted(set(value) - set(_COMPARISONS)):
            raise FilterError(f"{field}: no comparison is called {unknown[0]!r}; there are {', '.join(_COMPARISONS)}")
        return [(f"{_COMPARISONS[name]} ?", [_scalar(field, item)]) for name, item in value.items()]
    return [("= ?", [_scalar(field, value)])]


def _scalar(field: str, value: Any) -> str | int | float:
    if not isinstance(value, str | int | float):
        raise FilterError(f"{field}: compare with text, numbers or booleans, not {json.dumps(value)}")
    return value
