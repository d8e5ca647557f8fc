"""Fields that filters look at: facts of a photo, and what its metadata hold under a name.

A name with dots, such as ``shop.city``, names what lies in objects, unless the metadata have a key of just that name.
``metadata.width`` is the ``width`` among the metadata, where ``width`` alone is the fact.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from index.errors import FilterError
from index.gallery.palette import color_names

__all__ = ["FACTS", "MAX_NAME", "Field", "field_of"]

FACTS = frozenset({"id", "uri", "sha256", "bytes", "width", "height", "label", "color"})
MAX_NAME = 200  # characters
_METADATA = "metadata."
_NAME = re.compile(rf"""[^"\\\x00-\x1f\ud800-\udfff]{{1,{MAX_NAME}}}""")


class Field(NamedTuple):
    """A fact, or a field of the metadata."""

    name: str
    is_fact: bool

    @property
    def key(self) -> str:
        """A name that no other field has."""
        return f"{_METADATA}{self.name}" if self.name in FACTS and not self.is_fact else self.name

    @property
    def is_text(self) -> bool:
        """Whether the field is a fact that is text."""
        return self.is_fact and self.name in ("uri", "sha256", "label")

    @property
    def is_color(self) -> bool:
        """Whether the field is the names of a photo's colours."""
        return self.is_fact and self.name == "color"

    def path_sql(self) -> tuple[str, list[str]]:
        """SQL for the path of the field in a photo's metadata, and the values of its variables."""
        literal, parts = f'$."{self.name}"', self.name.split(".")
        if len(parts) == 1 or not all(parts):
            return "?", [literal]
        nested = "$" + "".join(f'."{part}"' for part in parts)
        return "CASE WHEN json_type(metadata, ?) IS NULL THEN ? ELSE ? END", [literal, nested, literal]

    def values(self, facts: Mapping[str, Any], metadata: Mapping[str, Any]) -> set[str | int | float]:
        """The values that a photo has in the field: none, one, or those of a list."""
        found: Any
        if self.is_color:
            found = color_names(facts["colors"])
        elif self.is_fact:
            found = facts[self.name]
        elif self.name in metadata:
            found = metadata[self.name]
        else:
            found = metadata
            for part in self.name.split("."):
                found = found.get(part) if isinstance(found, dict) else None
        members = found if isinstance(found, list) else [found]
        return {_storable(value) for value in members if isinstance(value, str | int | float)}


def field_of(name: str) -> Field:
    """Finds the field of a name.

    Raises:
        FilterError: if there can be no such field.
    """
    if name in FACTS:
        return Field(name, is_fact=True)
    if not _NAME.fullmatch(name):
        raise FilterError(
            f"a filter's field cannot be named {name[:MAX_NAME]!r}: 1 to {MAX_NAME} characters, "
            "no quotation marks, backslashes or control characters"
        )
    return Field(name.removeprefix(_METADATA) or name, is_fact=False)


def _storable(value: str | int | float) -> str | int | float:
    """The value as SQLite reads it from JSON."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
