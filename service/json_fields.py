"""Fields of requests that hold JSON of any shape: metadata and filters, with limits on their size."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, WrapValidator
from pydantic_core import from_json

__all__ = [
    "MAX_METADATA_BYTES",
    "MAX_METADATA_DEPTH",
    "MAX_METADATA_KEY",
    "MAX_METADATA_KEYS",
    "Comparison",
    "Filter",
    "Metadata",
]

MAX_METADATA_BYTES = 64 * 1024  # as JSON
MAX_METADATA_KEYS = 256
MAX_METADATA_KEY = 200  # characters; a filter cannot name longer ones
MAX_METADATA_DEPTH = 16


def _parsed(value: Any) -> Any:
    """A JSON text as a query parameter or form field, parsed."""
    return from_json(value, allow_inf_nan=False) if isinstance(value, str | bytes) else value


def _parsed_metadata(value: Any) -> Any:
    """Metadata as it was sent, if there is not too much of it."""
    if isinstance(value, str | bytes) and len(value) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata can have at most {MAX_METADATA_BYTES} bytes")
    value = _parsed(value)
    if isinstance(value, dict) and any(len(key) > MAX_METADATA_KEY for key in value):
        raise ValueError(f"a key of metadata can have at most {MAX_METADATA_KEY} characters, as in filters")
    if isinstance(value, dict) and len(value) > MAX_METADATA_KEYS:
        raise ValueError(f"metadata can have at most {MAX_METADATA_KEYS} keys, not {len(value)}")
    if _depth(value) > MAX_METADATA_DEPTH:
        raise ValueError(f"metadata can be nested at most {MAX_METADATA_DEPTH} deep")
    return value


def _depth(value: Any) -> int:
    """Of objects and lists in each other; JSON is parsed only up to a depth of 200."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """Refuses numbers that JSON cannot hold, such as 1e999, text that is not Unicode, and too much of it."""
    if len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata can have at most {MAX_METADATA_BYTES} bytes")
    return value


def _parsed_filter(value: Any, _: Any) -> dict[str, Any]:
    """A filter as it was sent. The type describes it; ``index.gallery.filters`` checks it, with one error at most."""
    value = _parsed(value)
    if not isinstance(value, dict):
        raise ValueError('the filter must be a JSON object, such as {"label": "castle"}')
    return value


Metadata = Annotated[dict[str, JsonValue], BeforeValidator(_parsed_metadata), AfterValidator(_storable)]

Value = str | bool | Annotated[int, Field(ge=-(2**63), lt=2**63)] | Annotated[float, Field(allow_inf_nan=False)]


class Comparison(BaseModel):
    """Comparisons that must all hold."""

    model_config = ConfigDict(extra="forbid")

    eq: Value | None = None
    ne: Value | None = None
    gt: Value | None = None
    gte: Value | None = None
    lt: Value | None = None
    lte: Value | None = None


FilterField = Annotated[str, Field(pattern=r'^[^"\\\x00-\x1f]{1,200}$')]
Filter = Annotated[dict[FilterField, Value | list[Value] | Comparison | None], WrapValidator(_parsed_filter)]
