"""Request bodies that carry images: a form, the image itself, or JSON with base64. Parsed off the event loop."""

import base64
import binascii
from typing import Any

import anyio.to_thread
from fastapi import Request
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from service.errors import RequestProblem

__all__ = ["decode_base64", "media_type", "parse_object", "read_form_or_image", "read_json"]

_EMPTY = "the body holds no image; draw something and send it as PNG or JPEG"


def media_type(request: Request) -> str:
    """Type of a body without its parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def read_json(request: Request) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RequestProblem: 400 if it is not JSON, 422 if it is no object.
    """
    body = await request.body()
    return await anyio.to_thread.run_sync(parse_object, body)


async def read_form_or_image(request: Request) -> tuple[bytes, dict[str, Any]]:
    """The bytes of an image, sent as a form's field ``file`` or as the body itself, and the form's other fields.

    Raises:
        RequestProblem: 400 if there are none, 415 if the body is of another type, 422 if the form has no file.
    """
    kind = media_type(request)
    if kind == "multipart/form-data":
        content, fields = await _read_form(request)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        content, fields = await request.body(), {}
    else:
        raise RequestProblem(
            415, "send the image as multipart field 'file', as an image/* body, or where JSON is taken in base64"
        )
    if not content:
        raise RequestProblem(400, _EMPTY)
    return content, fields


async def _read_form(request: Request) -> tuple[bytes, dict[str, Any]]:
    async with request.form(max_files=1, max_fields=20) as form:  # an unreadable form is a 400 of Starlette's own
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise RequestProblem(422, "the form has no file field named 'file'")
        fields = {name: value for name, value in form.items() if name != "file"}
        return await file.read(), fields


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object; see ``read_json``."""
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestProblem(400, f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RequestProblem(422, "the JSON body must be an object")
    return fields


def decode_base64(text: str) -> bytes:
    """Bytes of an image given as base64 or as a data URI.

    Raises:
        RequestProblem: 400 if it is neither, or empty.
    """
    encoded = text.split(",", 1)[-1] if text.startswith("data:") else text
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestProblem(400, f"the image is not base64: {error}") from error
    if not content:
        raise RequestProblem(400, _EMPTY)
    return content
