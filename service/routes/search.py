"""POST /v1/search and /v1/search/batch: sketches in, photos out."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ParamSpec

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from service.access.admission import reader
from service.dependencies import (
    ABANDONABLE,
    ServingDependency,
    SettingsDependency,
    StopwatchDependency,
    WorkersDependency,
)
from service.encoding.workers import Workers, finish_all
from service.engine.searching import check_answer, search_by_images, search_by_json, search_by_request
from service.engine.serving import Serving
from service.errors import RequestProblem
from service.http.bodies import MAX_FIELDS, check_size, media_type, read_form_or_images, read_json
from service.http.openapi import properties, reference
from service.http.problems import EXPECTED, as_problem, documented
from service.http.root_path import root_path
from service.http.stopwatch import Stopwatch
from service.schemas import BatchItem, BatchResponse, SearchResponse
from service.searches import MAX_QUERIES, SearchForm, SearchQuery, SearchRequest

__all__ = ["body_content", "router"]

Arguments = ParamSpec("Arguments")

router = APIRouter(
    tags=["search"],
    dependencies=[reader, ABANDONABLE],
    responses=documented(400, 401, 403, 404, 408, 413, 415, 422, 429, 503, 507),
)

_BINARY = {"type": "string", "format": "binary"}
_EXAMPLE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAALUlEQVR4nGP4"
    "DwMMDAz/GRgYGP4zMDD8Z2Bg+M/AwPCfgYHhPwMDw38GBob/DAwM/wEADy8P8VzUGE8AAAAASUVORK5CYII="
)


def body_content(fields: type[BaseModel], more: dict[str, Any] | None = None) -> dict[str, Any]:
    """OpenAPI content of a body that is a form with a file, or an image itself; ``more`` has other fields of files."""
    form = {**properties(fields), "file": _BINARY} | (more or {})
    required = [] if more else ["file"]
    return {
        "multipart/form-data": {"schema": {"type": "object", "properties": form, "required": required}},
        "image/png": {"schema": _BINARY},
        "image/jpeg": {"schema": _BINARY},
        "image/webp": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
    }


def _json_content(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


_FILES = {
    "file": {"type": "array", "items": _BINARY, "maxItems": MAX_QUERIES, "description": "sketches, usually one"},
    "photo": {"type": "array", "items": _BINARY, "maxItems": MAX_QUERIES, "description": "photos to search by"},
}
_SEARCH_BODY = {
    **body_content(SearchForm, _FILES),
    **_json_content(reference(SearchRequest), {"image": _EXAMPLE, "limit": 3, "dimensions": 8}),
}
_BATCH_BODY = _json_content(
    {
        "type": "object",
        "required": ["searches"],
        "additionalProperties": False,
        "properties": {
            "searches": {"type": "array", "minItems": 1, "items": reference(SearchRequest)},
        },
    },
    {"searches": [{"image": _EXAMPLE, "limit": 3}, {"photo_id": 1, "limit": 3}]},
)


@router.post(
    "/v1/search",
    response_model=SearchResponse,
    openapi_extra={"requestBody": {"required": True, "content": _SEARCH_BODY}},
)
async def search(
    request: Request,
    serving: ServingDependency,
    workers: WorkersDependency,
    stopwatch: StopwatchDependency,
    query: Annotated[SearchQuery, Query()],
) -> Response:
    """Finds the photos that a sketch depicts, or photos like other photos.

    The sketch comes as multipart field `file`, as a raw image body, or as JSON field `image` (base64 or a data URI).
    A photo of one's own comes as `photo` in a form or JSON; `photo_id` in JSON names one of the gallery. Several files,
    `queries`, `positive` and `negative` are combined to one search. Options in the body win over the query's.
    """
    given = query.model_dump(exclude_unset=True)
    root = root_path(request.scope)
    if media_type(request) == "application/json":
        with stopwatch.stage("read"):
            body = await request.body()
        return await workers.run(stopwatch, _serialised, search_by_json, serving, body, given, root, stopwatch)
    with stopwatch.stage("read"):
        files, fields = await read_form_or_images(request, ("file", "photo"), MAX_QUERIES)
    given |= fields
    return await workers.run(stopwatch, _serialised, search_by_images, serving, files, given, root, stopwatch)


@router.post(
    "/v1/search/batch",
    response_model=BatchResponse,
    openapi_extra={"requestBody": {"required": True, "content": _BATCH_BODY}},
)
async def search_batch(
    request: Request,
    serving: ServingDependency,
    workers: WorkersDependency,
    stopwatch: StopwatchDependency,
    settings: SettingsDependency,
) -> Response:
    """Searches for several sketches or photos at once; one that fails, fails alone."""
    with stopwatch.stage("read"):
        searches = await read_json(request, partial(_validated, settings.max_items))
    check_answer(serving, [search for search in searches if isinstance(search, SearchRequest)])
    root = root_path(request.scope)
    count = len(searches)
    jobs = [_search_one(serving, workers, stopwatch, search, root, count) for search in searches]
    items = await finish_all(jobs, workers.at_once)
    searcher, missing = serving.searcher, serving.missing_shards
    answer = BatchResponse(
        items=items,
        total=searcher.count,
        generation=searcher.generation,
        complete=not missing,
        missing_shards=missing,
    )
    return await anyio.to_thread.run_sync(_serialised, lambda: answer)


def _validated(max_items: int, body: dict[str, Any]) -> list[SearchRequest | BatchItem]:
    """The searches of a batch; in place of one that makes no sense, what is wrong with it."""
    searches = body.get("searches")
    if body.keys() != {"searches"} or not isinstance(searches, list) or not searches:
        raise RequestProblem(422, "the JSON body must be an object with the field 'searches', a list that is not empty")
    check_size(searches, max_items, "searches", 413)
    validated = [_validated_one(fields) for fields in searches]
    images = [query for each in validated if isinstance(each, SearchRequest) for query in each.every_query]
    check_size(images, max_items, "queries", 413)
    return validated


def _validated_one(fields: Any) -> SearchRequest | BatchItem:
    try:
        if isinstance(fields, dict):
            check_size(fields, MAX_FIELDS, "fields")
        return SearchRequest.model_validate(fields)
    except EXPECTED as error:
        return _failed(error)


async def _search_one(
    serving: Serving, workers: Workers, stopwatch: Stopwatch, search: SearchRequest | BatchItem, root: str, count: int
) -> BatchItem:
    if isinstance(search, BatchItem):
        return search
    try:
        answer = await workers.run(stopwatch, search_by_request, serving, search, root, stopwatch, count)
    except EXPECTED as error:
        return _failed(error)
    return BatchItem(status=200, results=answer.results, dimensions=answer.dimensions, baseline=answer.baseline)


def _failed(error: Exception) -> BatchItem:
    problem = as_problem(error)
    return BatchItem(status=problem.status, problem=problem)


def _serialised(answer: Callable[Arguments, BaseModel], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Response:
    """An answer as JSON, written in this thread: a large one would keep the event loop busy."""
    return Response(answer(*args, **kwargs).model_dump_json(), media_type="application/json")
