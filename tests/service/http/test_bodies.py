import base64
import json

import pytest

from service.errors import RequestProblem
from service.http.bodies import MAX_TEXT_BYTES, decode_base64, parse_object

CONTENT = bytes(range(256)) + b"\xfb\xff\xfe"
PLAIN = base64.b64encode(CONTENT).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        base64.encodebytes(CONTENT).decode(),
        base64.encodebytes(CONTENT).decode().replace("\n", "\r\n"),
        f"{PLAIN}\n",
        base64.urlsafe_b64encode(CONTENT).decode(),
        f"data:image/png;base64,{base64.urlsafe_b64encode(CONTENT).decode()}\n",
    ],
)
def test_every_form_of_base64(text):
    assert decode_base64(text) == CONTENT


@pytest.mark.parametrize("length", range(1, 8))
def test_missing_padding(length):
    content = CONTENT[:length]
    assert decode_base64(base64.b64encode(content).decode().rstrip("=")) == content
    assert decode_base64(base64.b64encode(content).decode().rstrip("=") + "\n") == content


@pytest.mark.parametrize("text", ["{}", " {}\t\n", "\ufeff{}", "DATA:image/png;BASE64,{}", " data:;base64,\r\n{}"])
def test_base64_as_it_is_pasted(text):
    assert decode_base64(text.format(base64.b64encode(CONTENT).decode())) == CONTENT


@pytest.mark.parametrize(
    "text",
    [
        "%%%",
        "A",
        "AAAAA",
        "AA=A",
        "AA===",
        "AA AA",
        "\u00e4\u00e4\u00e4\u00e4",
        "data:x",
        "<svg/>",
        "AA==AA==",
    ],
)
def test_what_is_no_base64(text):
    with pytest.raises(RequestProblem, match="not base64") as caught:
        decode_base64(text)
    assert caught.value.status == 400


@pytest.mark.parametrize("text", ["", "\n", "data:image/png;base64,"])
def test_nothing_is_no_image(text):
    with pytest.raises(RequestProblem, match="no image"):
        decode_base64(text)


LONG = "A" * 3000
LARGE = "A" * MAX_TEXT_BYTES


@pytest.mark.parametrize(
    "fields",
    [
        {"image": LARGE},
        {"image": f"data:image/png;base64,{LARGE}"},
        {"input": [LARGE, LARGE], "user": "u"},
        {"image": "\r\n".join([LONG] * 200)},
        {"image": "-_" * MAX_TEXT_BYTES},
    ],
)
@pytest.mark.parametrize("escape", ["/", "\\/"])
def test_images_are_not_text(fields, escape):
    assert parse_object(json.dumps(fields).replace("/", escape).encode()) == fields


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"image": LONG, "input": [1] * MAX_TEXT_BYTES}).encode(),
        json.dumps({"filter": {"a": "two words " * MAX_TEXT_BYTES}}).encode(),
        b'"' * (MAX_TEXT_BYTES + 1),
        b"[" * (MAX_TEXT_BYTES + 1),
        b'{"a":"",' + b" " * MAX_TEXT_BYTES + b'"b":""}',
        b'{"a":"","b":' + b"[1,1]," * MAX_TEXT_BYTES + b'"c":""}',
        b'{"a":"data:' + LONG.encode() + b"," + LARGE.encode() + b'"}',
    ],
)
def test_much_text_is_refused_before_it_is_parsed(body, monkeypatch):
    monkeypatch.setattr("service.http.bodies.from_json", lambda *args, **options: pytest.fail("parsed"))
    with pytest.raises(RequestProblem, match="without its images is larger than the limit of 262144 bytes") as caught:
        parse_object(body)
    assert caught.value.status == 413
