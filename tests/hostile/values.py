"""JSON values that strangers send: those that a schema allows, and those that nothing allows."""

import json
from typing import Any

from hypothesis import strategies as st

DEEP = 500
EVIL: tuple[Any, ...] = (
    *(None, True, -1, 0, 0.5, 1e308, -1e308, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**400),
    *(float("nan"), float("inf"), "", "0", "\0", "\ud800", "\u202e", "'; DROP TABLE photos; --", "%s%n"),
    *("../../etc/passwd", "x" * 20_000, "💥" * 99, [], {}, [[]], {"": {}}, {"$ref": "#"}),
    *({"a": {"gt": 1, "lt": 0}}, [None] * 2000, {str(number): number for number in range(500)}),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a JSON value with every key or position in it."""
    if isinstance(value, dict):
        here, inner = [(value, key) for key in value], list(value.values())
    elif isinstance(value, list):
        here, inner = [(value, number) for number in range(len(value))], value
    else:
        return []
    return here + [place for each in inner for place in places(each)]


def nested(value: Any, depth: int) -> Any:
    """A value inside so many lists and objects."""
    for number in range(depth):
        value = {"a": value} if number % 2 else [value]
    return value


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with something in it replaced, left out, repeated, nested deeply or added."""
    value = json.loads(json.dumps(value))
    found = places(value)
    if not found:
        return draw(st.sampled_from(EVIL))
    container, key = draw(st.sampled_from(found))
    match draw(st.sampled_from(("replace", "replace", "drop", "repeat", "nest", "add"))):
        case "replace":
            container[key] = draw(st.sampled_from(EVIL))
        case "drop":
            del container[key]
        case "repeat":
            container[key] = [container[key]] * draw(st.sampled_from((1, 17, 101, 1001)))
        case "nest":
            container[key] = nested(container[key], draw(st.sampled_from((1, 20, 150, DEEP))))
        case "add" if isinstance(container, dict):
            container[draw(st.text(max_size=5))] = draw(st.sampled_from(EVIL))
    return value


def as_text(value: Any) -> bytes:
    """A value as forms and queries hold it: text as it is, all else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "surrogatepass")
