"""POST /v1/search: a sketch in, photos out."""

import base64
import binascii
import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from index.catalogue import Photo
from service.dependencies import EngineDependency
from service.errors import RequestProblem
from service.problems import PROBLEM_RESPONSES

__all__ = ["router"]

router = APIRouter(tags=["search"])

_BINARY = {"type": "string", "format": "binary"}


class SearchOptions(BaseModel):
    """Options of a search, as query parameters, form fields or JSON fields."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=1000, description="at most so many photos")
    offset: int = Field(0, ge=0, le=1_000_000_000, description="skip so many photos")
    dimensions: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="compare only so many leading coordinates; the gallery's `default_dimensions` when omitted",
    )
    score_threshold: float | None = Field(None, allow_inf_nan=False, description="leave out photos with a lower score")
    with_payload: bool = Field(True, description="include label, metadata and URI")


class SearchResult(BaseModel):
    """A photo and its score, the inner product of the truncated embeddings."""

    id: int
    score: float
    image_url: str
    thumbnail_url: str
    width: int
    height: int
    uri: str | None = None
    label: str | None = None
    metadata: dict[str, Any] | None = None


class SearchResponse(BaseModel):
    """Photos in descending order of score."""

    results: list[SearchResult]
    dimensions: int = Field(description="coordinates compared")
    total: int = Field(description="photos in the gallery")
    generation: int = Field(description="generation of the gallery that answered")


def _body_schema() -> dict[str, Any]:
    fields = SearchOptions.model_json_schema()["properties"]
    image = {"type": "string", "description": "the sketch: base64, or a data URI"}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": _BINARY, **fields}, "required": ["file"]}
            },
            "image/png": {"schema": _BINARY},
            "image/jpeg": {"schema": _BINARY},
            "image/webp": {"schema": _BINARY},
            "application/octet-stream": {"schema": _BINARY},
            "application/json": {
                "schema": {"type": "object", "properties": {"image": image, **fields}, "required": ["image"]}
            },
        },
    }


@router.post("/v1/search", responses=PROBLEM_RESPONSES, openapi_extra={"requestBody": _body_schema()})
async def search(
    request: Request, response: Response, engine: EngineDependency, query: Annotated[SearchOptions, Query()]
) -> SearchResponse:
    """Finds the photos that a sketch depicts.

    The sketch comes as multipart field `file`, as a raw image body, or as JSON field `image` (base64 or a data URI).
    """
    content, fields = await _read_sketch(request)
    options = SearchOptions.model_validate({**query.model_dump(exclude_unset=True), **fields})
    dimensions = options.dimensions or engine.default_dimensions
    answer = await engine.search(
        content,
        options.limit,
        offset=options.offset,
        dimensions=dimensions,
        score_threshold=options.score_threshold,
    )
    response.headers["Server-Timing"] = answer.stopwatch.server_timing()
    return SearchResponse(
        results=[_result(hit.score, photo, options.with_payload) for hit, photo in answer.hits],
        dimensions=dimensions,
        total=engine.searcher.count,
        generation=engine.searcher.generation,
    )


def _result(score: float, photo: Photo, with_payload: bool) -> SearchResult:
    base = f"/v1/photos/{photo.id}"
    payload = {"uri": photo.uri, "label": photo.label, "metadata": photo.metadata} if with_payload else {}
    return SearchResult(
        id=photo.id,
        score=score,
        image_url=f"{base}/image",
        thumbnail_url=f"{base}/thumbnail",
        width=photo.width,
        height=photo.height,
        **payload,
    )


async def _read_sketch(request: Request) -> tuple[bytes, dict[str, Any]]:
    """Bytes of the sketch and the options that came with it in the body."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        content, fields = await _from_form(request)
    elif media_type == "application/json":
        content, fields = _from_json(await request.body())
    elif media_type.startswith("image/") or media_type == "application/octet-stream":
        content, fields = await request.body(), {}
    else:
        raise RequestProblem(
            415, "send the sketch as multipart field 'file', as an image/* body, or as JSON field 'image' in base64"
        )
    if not content:
        raise RequestProblem(400, "the body holds no image; draw something and send it as PNG or JPEG")
    return content, fields


async def _from_form(request: Request) -> tuple[bytes, dict[str, Any]]:
    async with request.form(max_files=1, max_fields=20) as form:  # an unreadable form is a 400 of Starlette's own
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise RequestProblem(422, "the form has no file field named 'file'")
        fields = {name: value for name, value in form.items() if name != "file"}
        return await file.read(), fields


def _from_json(body: bytes) -> tuple[bytes, dict[str, Any]]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestProblem(400, f"the body is not JSON: {error}") from error
    image = fields.pop("image", None) if isinstance(fields, dict) else None
    if not isinstance(image, str):
        raise RequestProblem(422, "the JSON body must be an object with the sketch in field 'image', in base64")
    encoded = image.split(",", 1)[-1] if image.startswith("data:") else image
    try:
        return base64.b64decode(encoded, validate=True), fields
    except (binascii.Error, ValueError) as error:
        raise RequestProblem(400, f"field 'image' is not base64: {error}") from error
