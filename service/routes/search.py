"""POST /v1/search and /v1/search/batch: sketches in, photos out."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from service.access.admission import reader
from service.dependencies import ServingDependency, SettingsDependency, StopwatchDependency, WorkersDependency
from service.encoding.workers import Workers, finish_all
from service.engine.searching import search_by_image, search_by_json, search_by_request
from service.engine.serving import Serving
from service.errors import RequestProblem
from service.http.bodies import media_type, read_form_or_image, read_json
from service.http.openapi import properties, reference
from service.http.problems import EXPECTED, as_problem, documented
from service.http.stopwatch import Stopwatch
from service.schemas import BatchItem, BatchResponse, SearchOptions, SearchQuery, SearchRequest, SearchResponse

__all__ = ["body_content", "router"]

router = APIRouter(
    tags=["search"],
    dependencies=[reader],
    responses=documented(400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
)

_BINARY = {"type": "string", "format": "binary"}
_EXAMPLE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAALUlEQVR4nGP4"
    "DwMMDAz/GRgYGP4zMDD8Z2Bg+M/AwPCfgYHhPwMDw38GBob/DAwM/wEADy8P8VzUGE8AAAAASUVORK5CYII="
)


def body_content(fields: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI content of a body that is a form with a file, or an image itself."""
    form = {**properties(fields), "file": _BINARY}
    return {
        "multipart/form-data": {"schema": {"type": "object", "properties": form, "required": ["file"]}},
        "image/png": {"schema": _BINARY},
        "image/jpeg": {"schema": _BINARY},
        "image/webp": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
    }


def _json_content(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


_SEARCH_BODY = {
    **body_content(SearchOptions),
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


@router.post("/v1/search", openapi_extra={"requestBody": {"required": True, "content": _SEARCH_BODY}})
async def search(
    request: Request,
    serving: ServingDependency,
    workers: WorkersDependency,
    stopwatch: StopwatchDependency,
    query: Annotated[SearchQuery, Query()],
) -> SearchResponse:
    """Finds the photos that a sketch depicts, or photos like another photo.

    The sketch comes as multipart field `file`, as a raw image body, or as JSON field `image` (base64 or a data URI).
    A JSON body may name a photo of the gallery in `photo_id` instead. Options in the body win over the query's.
    """
    given = query.model_dump(exclude_unset=True)
    if media_type(request) == "application/json":
        with stopwatch.stage("read"):
            body = await request.body()
        return await workers.run(stopwatch, search_by_json, serving, body, given, stopwatch)
    with stopwatch.stage("read"):
        content, fields = await read_form_or_image(request)
    options = SearchOptions.model_validate({**given, **fields})
    return await workers.run(stopwatch, search_by_image, serving, content, options, stopwatch)


@router.post("/v1/search/batch", openapi_extra={"requestBody": {"required": True, "content": _BATCH_BODY}})
async def search_batch(
    request: Request,
    serving: ServingDependency,
    workers: WorkersDependency,
    stopwatch: StopwatchDependency,
    settings: SettingsDependency,
) -> BatchResponse:
    """Searches for several sketches or photos at once; one that fails, fails alone."""
    with stopwatch.stage("read"):
        body = await read_json(request)
    searches = body.get("searches")
    if body.keys() != {"searches"} or not isinstance(searches, list) or not searches:
        raise RequestProblem(422, "the JSON body must be an object with the field 'searches', a list that is not empty")
    if len(searches) > settings.max_items:
        raise RequestProblem(413, f"{len(searches)} searches are more than the limit of {settings.max_items}")
    items = await finish_all([_search_one(serving, workers, stopwatch, search) for search in searches])
    return BatchResponse(items=items, total=serving.searcher.count, generation=serving.searcher.generation)


async def _search_one(serving: Serving, workers: Workers, stopwatch: Stopwatch, fields: Any) -> BatchItem:
    try:
        wanted = SearchRequest.model_validate(fields)
        answer = await workers.run(stopwatch, search_by_request, serving, wanted, stopwatch)
    except EXPECTED as error:
        problem = as_problem(error)
        return BatchItem(status=problem.status, problem=problem)
    return BatchItem(status=200, results=answer.results, dimensions=answer.dimensions)
