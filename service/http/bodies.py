"""Request bodies that carry images: a form, the image itself, or JSON with base64. Parsed off the event loop.

Images may be large, everything beside them may not: a text of a few megabytes can hold millions of values, each of
which takes memory and, where it is wrong, an error.
"""

import base64
import binascii
import logging
import string
from collections.abc import Callable, Sequence, Sized
from typing import Any, TypeVar

import anyio.to_thread
from fastapi import Request
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from service.errors import RequestProblem
from training.base.artifacts import NO_ROOM

__all__ = [
    "MAX_FIELDS",
    "MAX_TEXT_BYTES",
    "check_size",
    "decode_base64",
    "media_type",
    "parse_object",
    "read_form_or_image",
    "read_form_or_images",
    "read_json",
]

logger = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")

MAX_TEXT_BYTES = 256 * 1024  # of a JSON body or a form beside its images
MAX_FIELDS = 100  # of an object; no request has as many

_EMPTY = "the body holds no image; draw something and send it as PNG or JPEG"
_SHORTEST_IMAGE = 1024  # shorter texts in base64 are not told from others
_BASE64 = (string.ascii_letters + string.digits + "+/-_=\\").encode()  # the backslash begins an escaped character
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def media_type(request: Request) -> str:
    """Type of a body without its parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def check_size(values: Sized, most: int, what: str, status: int = 422) -> None:
    """Refuses more values than a limit.

    Raises:
        RequestProblem: of the status given.
    """
    if len(values) > most:
        raise RequestProblem(status, f"{len(values)} {what} are more than the limit of {most}")


async def read_json(request: Request, validate: Callable[[dict[str, Any]], Parsed]) -> Parsed:
    """What ``validate`` makes of a JSON object, in another thread.

    Raises:
        RequestProblem: see ``parse_object``.
    """
    body = await request.body()
    return await anyio.to_thread.run_sync(lambda: validate(parse_object(body)))


Files = dict[str, list[bytes]]


async def read_form_or_image(request: Request) -> tuple[bytes, dict[str, Any]]:
    """The bytes of an image, sent as a form's field ``file`` or as the body itself, and the form's other fields.

    Raises:
        RequestProblem: 400 if there are none, 415 if the body is of another type, 422 if the form has no file.
    """
    files, fields = await read_form_or_images(request, ("file",), 1)
    if not files["file"]:
        raise _no_file()
    return files["file"][0], fields


async def read_form_or_images(request: Request, names: Sequence[str], most: int) -> tuple[Files, dict[str, Any]]:
    """The bytes of images, sent as files of a form or as the body itself, and the form's other fields.

    Args:
        request: the request.
        names: form fields that hold files, each any number; a body that is an image belongs to the first.
        most: largest number of files.

    Raises:
        RequestProblem: 400 if a file or the body is empty, 415 if the body is of another type, 422 if a form has
            neither files nor text.
    """
    kind = media_type(request)
    files: Files
    if kind == "multipart/form-data":
        files, fields = await _read_form(request, names, most)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        files, fields = {names[0]: [await request.body()]}, {}
    else:
        raise RequestProblem(
            415, "send the image as multipart field 'file', as an image/* body, or where JSON is taken in base64"
        )
    if not all(content for contents in files.values() for content in contents):
        raise RequestProblem(400, _EMPTY)
    return files, fields


async def _read_form(request: Request, names: Sequence[str], most: int) -> tuple[Files, dict[str, Any]]:
    try:
        return await _read_parts(request, names, most)
    except OSError as error:  # large files of a form are kept on the disk until they are read
        if error.errno not in NO_ROOM:
            raise
        logger.error("a form cannot be kept in the temporary folder: %s", error)
        raise RequestProblem(507, "there is no room for the form's files; send the image as the body itself") from error


async def _read_parts(request: Request, names: Sequence[str], most: int) -> tuple[Files, dict[str, Any]]:
    async with request.form(max_files=most, max_fields=20) as form:  # an unreadable form is a 400 of Starlette's own
        fields = {name: value for name, value in form.items() if name not in names}
        if sum(len(value) for value in fields.values() if isinstance(value, str)) > MAX_TEXT_BYTES:
            raise _too_much_text()
        sent = {name: [each for each in form.getlist(name) if isinstance(each, UploadFile)] for name in names}
        if not any(sent.values()) and not any(isinstance(value, str) for value in fields.values()):
            raise _no_file()
        return {name: [await each.read() for each in files] for name, files in sent.items()}, fields


def _no_file() -> RequestProblem:
    return RequestProblem(422, "the form has no file field named 'file'")


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RequestProblem: 400 if it is not JSON, 413 if it is large without its images, 422 if it is no object, or one of
            many fields.
    """
    if len(body) > MAX_TEXT_BYTES and len(body) - _image_bytes(body) > MAX_TEXT_BYTES:
        raise _too_much_text()
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestProblem(400, f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RequestProblem(422, "the JSON body must be an object")
    check_size(fields, MAX_FIELDS, "fields")
    return fields


def decode_base64(text: str) -> bytes:
    """Bytes of an image given as base64 or as a data URI.

    Encoders differ, so line breaks, white space around the text, the alphabet that is safe in URLs, and missing padding
    are accepted.

    Raises:
        RequestProblem: 400 if it is neither, or empty.
    """
    text = text.strip("\ufeff \t\r\n")
    encoded = text.split(",", 1)[-1] if text[:5].lower() == "data:" else text
    try:
        plain = encoded.encode("ascii").translate(_URL_SAFE, delete=b"\r\n")
        padding = b"" if plain.endswith(b"=") else b"=" * (-len(plain) % 4)
        content = base64.b64decode(plain + padding, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestProblem(400, f"the image is not base64: {error}") from error
    if not content:
        raise RequestProblem(400, _EMPTY)
    return content


def _image_bytes(body: bytes) -> int:
    """How many bytes of a JSON text are long strings that may be base64; found without parsing it.

    Between two quotation marks lies a string, or what separates strings. What separates them holds characters that are
    not of base64, or the text is not JSON.
    """
    if body.count(b'"') > MAX_TEXT_BYTES:
        return 0
    return sum(len(part) for part in body.split(b'"') if len(part) >= _SHORTEST_IMAGE and _is_base64(part))


def _is_base64(text: bytes) -> bool:
    start = text.find(b",", 0, _SHORTEST_IMAGE) + 1 if text[:5].lower() == b"data:" else 0
    return not text[start:].translate(None, delete=_BASE64)


def _too_much_text() -> RequestProblem:
    return RequestProblem(
        413, f"the body without its images is larger than the limit of {MAX_TEXT_BYTES} bytes; send less at once"
    )
