"""Requests as strangers send them: of every operation of the OpenAPI document, nearly right or not at all."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from hypothesis import strategies as st

from tests.hostile.exchange import Request, written
from tests.hostile.pictures import damaged, flipped
from tests.hostile.values import EVIL, as_text, changed

LONGEST_HEAD = 300_000  # bytes
RARELY = st.sampled_from((False, False, False, False, True))
TARGETS = (
    *("/v1/photos/1/image", "/v1/photos/1/thumbnail", "/v1/photos", "/metrics", "/docs", "/", "/static/app.js"),
    *("/v1/photos/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//", "/v1//search", "/v1/photos/%00", "*", "/%ff"),
    *("http://hostile/livez", "/v1/photos/99999999999999999999", "/v1/photos/-1/thumbnail", "/v1/photos/1.0/image"),
)
METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "CONNECT", "get", "G" * 300, "M-SEARCH", "PROPFIND")
HEADERS: tuple[tuple[str, str], ...] = (
    ("Range", "bytes=0-0,1-1,2-2,3-3"),
    ("Range", "bytes=-99999999999999999999"),
    ("Range", f"bytes={','.join(f'{number}-{number}' for number in range(3000))}"),
    ("If-Range", '"x"'),
    ("If-None-Match", "*"),
    ("If-None-Match", ", ".join(['"x"'] * 2000)),
    ("If-Modified-Since", "Thu, 99 Foo 99999 99:99:99 GMT"),
    ("Upgrade", "websocket"),
    ("Upgrade", "h2c"),
    ("Connection", "Upgrade, keep-alive, close"),
    ("Sec-WebSocket-Key", "x"),
    ("Expect", "100-continue"),
    ("Expect", "200-ok"),
    ("Content-Length", "-1"),
    ("Content-Length", "1e3"),
    ("Content-Length", "18446744073709551617"),
    ("Transfer-Encoding", "chunked"),
    ("Transfer-Encoding", "gzip, chunked"),
    ("Content-Encoding", "gzip"),
    ("Content-Type", "multipart/form-data"),
    ("Content-Type", "application/json; charset=utf-7"),
    ("Content-Type", "image/png;" * 500),
    ("Host", ""),
    ("Host", "a b"),
    ("Host", "[::1"),
    ("Host", "x" * 5000),
    ("Authorization", "Bearer"),
    ("Authorization", "Bearer \x7f\xff"),
    ("Authorization", "Basic Og=="),
    ("api-key", "k" * 60_000),
    ("Cookie", "a=b;" * 9000),
    ("Origin", "null"),
    ("Access-Control-Request-Method", "DELETE"),
    ("X-Forwarded-For", "1.2.3.4, " * 3000),
    ("X-Forwarded-For", "\0"),
    ("X-Forwarded-Proto", "javascript"),
    ("X-Request-ID", "\r\n x: y"),
    ("traceparent", "00-" + "f" * 32 + "-" + "f" * 16 + "-ff"),
    ("Accept", "*/*;q=" + "9" * 5000),
    ("Accept-Encoding", "gzip;q=nan"),
    ("X: y", "z"),
    ("", "z"),
)

Schema = Mapping[str, Any]
Body = st.SearchStrategy[tuple[str, bytes]]  # content type and content


class Operation(NamedTuple):
    """An operation of the OpenAPI document; ``bodies`` are schemas by content type."""

    method: str
    path: str
    parameters: Sequence[Schema]
    bodies: Mapping[str, Schema]


class Api:
    """Requests to the operations of a service.

    Args:
        document: the service's OpenAPI document.
        originals: pictures, by name.
        key: API key to send; none if it is empty.
        kept: ids up to this one name photos that must stay; nothing that removes a photo names them.
    """

    def __init__(self, document: Schema, originals: Mapping[str, bytes], key: str = "", kept: int = 0) -> None:
        self._schemas = document["components"]["schemas"]
        self.originals, self.kept = originals, kept
        self.headers = {"api-key": key} if key else {}
        self.operations = [
            Operation(method.upper(), path, operation.get("parameters", ()), _bodies(operation))
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]

    def texts(self) -> st.SearchStrategy[Request]:
        """Requests with JSON bodies: valid ones, and such after changes of values or bytes."""
        return self._requests("application/json", lambda schema: _texts(self, schema))

    def forms(self) -> st.SearchStrategy[Request]:
        """Requests with forms."""
        return self._requests("multipart/form-data", lambda schema: _forms(self, schema))

    def images(self) -> st.SearchStrategy[Request]:
        """Requests whose body is a picture."""
        sent = damaged(self.originals).map(lambda content: ("image/png", content))
        return self._requests("image/png", lambda schema: sent)

    def heads(self) -> st.SearchStrategy[Request]:
        """Requests that are odd in their first line, query or headers; some are not HTTP at all."""
        return _heads(self)

    def _requests(self, kind: str, bodies: Callable[[Schema], Body]) -> st.SearchStrategy[Request]:
        found = [operation for operation in self.operations if kind in operation.bodies]
        return st.sampled_from(found).flatmap(lambda operation: _whole(self, operation, bodies(operation.bodies[kind])))

    def fitting(self, schema: Schema, name: str = "") -> st.SearchStrategy[Any]:
        """Values that a schema allows, as far as pydantic writes schemas, for a field of a name."""
        if name in ("image", "photo", "input"):
            return damaged(self.originals).map(lambda content: base64.b64encode(content).decode())
        if name == "photo_id":
            return st.integers(1, 30)
        if "$ref" in schema:
            return self.fitting(self._schemas[schema["$ref"].rpartition("/")[2]], name)
        if "anyOf" in schema:
            return st.one_of([self.fitting(each, name) for each in schema["anyOf"]])
        if "enum" in schema or "const" in schema:
            return st.sampled_from(schema.get("enum") or [schema["const"]])
        match schema.get("type"):
            case "integer":
                low = int(schema.get("minimum", -100))
                return st.integers(low, min(int(schema.get("maximum", 10_000)), low + 2000))
            case "number":
                low = schema.get("minimum", schema.get("exclusiveMinimum", -10))
                return st.floats(low, schema.get("maximum", 10), exclude_min="exclusiveMinimum" in schema)
            case "boolean":
                return st.booleans()
            case "null":
                return st.none()
            case "string":
                return st.text(max_size=20) | st.sampled_from(("1", "1,2", '{"id": 1}', '{"label": ["circle"]}'))
            case "array":
                return st.lists(self.fitting(schema.get("items", {}), name), max_size=4)
            case "object" if "properties" in schema:
                return self._object(schema)
            case "object":
                names = st.sampled_from(("id", "label", "shop.city", "metadata.width", "")) | st.text(max_size=9)
                return st.dictionaries(names, self.fitting(schema.get("additionalProperties") or {}), max_size=4)
        return st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just([1, {"a": []}])

    def _object(self, schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
        """Objects with what they need and few of the other fields; searches for one thing, as they must be."""
        fields = {name: self.fitting(each, name) for name, each in schema["properties"].items()}
        needed = set(schema.get("required", ()))
        subjects = [name for name in ("image", "photo_id", "photo", "queries") if name in fields and name not in needed]
        others = sorted(fields.keys() - needed - set(subjects))
        some = st.lists(st.sampled_from(others), max_size=3) if others else st.just([])
        one = st.sampled_from(subjects).map(lambda name: [name]) if len(subjects) > 1 else st.just(subjects)
        chosen = st.tuples(some, one).map(lambda names: sorted(needed.union(*names)))
        return chosen.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in names}))


def _bodies(operation: Schema) -> dict[str, Schema]:
    content = operation.get("requestBody", {}).get("content", {})
    return {kind: body["schema"] for kind, body in content.items()}


@st.composite
def _whole(draw: st.DrawFn, api: Api, operation: Operation, bodies: Body) -> Request:
    kind, body = draw(bodies)
    return written(operation.method, draw(_targets(api, operation)), {**api.headers, "Content-Type": kind}, body)


@st.composite
def _targets(draw: st.DrawFn, api: Api, operation: Operation) -> str:
    """Path and query of an operation; one in five queries has what it must not have."""
    path, pairs, is_odd = operation.path, [], draw(RARELY)
    for parameter in operation.parameters:
        name = parameter["name"]
        if parameter["in"] == "path":
            first = api.kept + 1 if operation.method == "DELETE" else 1
            path = path.replace(f"{{{name}}}", str(draw(st.integers(first, first + 39))))
        elif parameter["in"] == "query" and draw(st.integers(0, 7)) == 0:
            allowed = api.fitting(parameter["schema"], name)
            value = draw(st.sampled_from(EVIL) if is_odd and draw(st.booleans()) else allowed)
            times = draw(st.sampled_from((1, 2, 200))) if is_odd else int(value is not None)
            pairs += [f"{name}={quote(as_text(value)[:3000])}"] * times
    return f"{path}?{'&'.join(pairs)}" if pairs else path


@st.composite
def _heads(draw: st.DrawFn, api: Api) -> Request:
    operation = draw(st.sampled_from(api.operations))
    target, method, removes = draw(_targets(api, operation)), operation.method, operation.method == "DELETE"
    if not removes:
        elsewhere = st.sampled_from(TARGETS) | st.text(max_size=30).map(lambda text: "/" + text)
        target = draw(st.just(target) | st.just(target) | elsewhere)
        method = draw(st.just(method) | st.just("GET") | st.sampled_from(METHODS))
    body = draw(st.sampled_from((b"", b"", b"", b"{}", b"0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n", b"zz\r\n", bytes(3000))))
    first, rest = written(method, target, api.headers, body).content.split(b"\r\n", 1)
    content = first + b"\r\n" + draw(_header_lines()) + rest
    if not removes:  # else it could come to name a photo that must stay
        for _ in range(draw(st.sampled_from((0, 0, 0, 0, 1, 2)))):
            content = flipped(content, draw(st.integers(0, min(300, len(content)) - 1)), draw(st.integers(1, 255)))
    return Request(content[: draw(st.sampled_from((*[len(content)] * 7, len(content) // 2)))], is_whole=False)


@st.composite
def _header_lines(draw: st.DrawFn) -> bytes:
    chosen = draw(st.lists(st.sampled_from(HEADERS), max_size=2))
    lines = "".join(f"{name}: {value}\r\n" for name, value in chosen).encode("latin-1")
    times = draw(st.sampled_from((1, 1, 1, 1, 1, 2, 100, 5000)))
    return lines * max(1, min(times, LONGEST_HEAD // max(1, len(lines))))


@st.composite
def _texts(draw: st.DrawFn, api: Api, schema: Schema) -> tuple[str, bytes]:
    value = draw(api.fitting(schema))
    for _ in range(draw(st.sampled_from((0, 1, 1, 2, 3)))):
        value = draw(changed(value))
    content = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from((0, 0, 0, 0, 0, 1, 2)))):
        content = flipped(content, draw(st.integers(0, len(content) - 1)), draw(st.integers(1, 255)))
    return "application/json", content[: draw(st.sampled_from((*[len(content)] * 7, len(content) // 2)))]


@st.composite
def _forms(draw: st.DrawFn, api: Api, schema: Schema) -> tuple[str, bytes]:
    boundary = draw(st.sampled_from(("b", "b", "b", "b", "b" * 70, "b" * 5000, "b b")))
    line, parts = f"--{boundary}".encode(), draw(st.lists(_parts(api, schema), max_size=4))
    body = b"".join(line + b"\r\n" + part for part in parts * draw(st.sampled_from((1, 1, 1, 1, 40)))) + line
    body += draw(st.sampled_from((b"--\r\n", b"--\r\n", b"--\r\n", b"", b"\r\n", b"--" + bytes(9000))))
    return f"multipart/form-data; boundary={boundary}", body


@st.composite
def _parts(draw: st.DrawFn, api: Api, schema: Schema) -> bytes:
    """One part of a form: a picture, or what a field allows or does not."""
    fields = schema["properties"]
    name = draw(st.sampled_from((*[*fields, "file", "photo"] * 3, "", "x" * 300, 'a"b', "\udcff")))
    is_file = name in ("file", "photo") or draw(st.integers(0, 9)) == 0
    text = st.sampled_from(EVIL) if draw(RARELY) else api.fitting(fields.get(name, {}), name)
    content = draw(damaged(api.originals) if is_file else text.map(as_text))
    more = draw(st.sampled_from(("", "", "\r\nContent-Type: text/html", "\r\n" + "x" * 3000)))
    head = f'Content-Disposition: form-data; name="{name}"' + ('; filename="../a.png"' if is_file else "") + more
    return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + content + b"\r\n"
