"""POST /v1/embeddings: vectors of images, in the shape of OpenAI's API."""

import base64
from functools import partial
from typing import Any

import anyio.to_thread
import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from index.errors import DimensionsError
from service.access.admission import reader
from service.dependencies import (
    ABANDONABLE,
    ServingDependency,
    SettingsDependency,
    StopwatchDependency,
    WorkersDependency,
)
from service.encoding.workers import finish_all
from service.engine.serving import Serving
from service.errors import RequestProblem
from service.http.bodies import check_size, decode_base64, media_type, read_json
from service.http.openapi import reference
from service.http.problems import documented
from service.http.stopwatch import Stopwatch
from service.schemas import Embedding, EmbeddingRequest, EmbeddingResponse
from training.model.truncation import truncate

__all__ = ["router"]

router = APIRouter(
    tags=["embeddings"],
    dependencies=[reader, ABANDONABLE],
    responses=documented(400, 401, 403, 404, 408, 413, 415, 422, 429, 503, openai=True),
)

_BODY = {"application/json": {"schema": reference(EmbeddingRequest)}}


@router.post(
    "/v1/embeddings",
    response_model=EmbeddingResponse,
    openapi_extra={"requestBody": {"required": True, "content": _BODY}},
)
async def embeddings(
    request: Request,
    serving: ServingDependency,
    workers: WorkersDependency,
    stopwatch: StopwatchDependency,
    settings: SettingsDependency,
) -> Response:
    """Embeds sketches or photos. The inner product of a sketch's and a photo's embedding is their score."""
    if media_type(request) != "application/json":
        raise RequestProblem(415, "send JSON with the images in field 'input', in base64")
    with stopwatch.stage("read"):
        wanted = await read_json(request, partial(_validated, settings.max_items))
    images = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    model = serving.bundle.digest
    if not images:
        raise RequestProblem(422, "input is empty")
    if wanted.model not in (None, model):
        raise RequestProblem(404, f"the model {wanted.model!r} is not served; GET /v1/models lists what is")
    dimensions = wanted.dimensions or serving.bundle.dim
    if dimensions > serving.bundle.dim:
        raise DimensionsError(dimensions, serving.bundle.dim)
    jobs = [
        workers.run(stopwatch, _embed, serving, image, wanted, number, stopwatch) for number, image in enumerate(images)
    ]
    vectors = truncate(np.stack(await finish_all(jobs, workers.at_once)), dimensions)
    return await anyio.to_thread.run_sync(_answer, vectors, wanted.encoding_format, model)


def _answer(vectors: NDArray[np.float32], encoding_format: str, model: str) -> Response:
    data = [
        Embedding(index=number, embedding=_encoded(vector, encoding_format)) for number, vector in enumerate(vectors)
    ]
    answer = EmbeddingResponse(data=data, model=model)
    return Response(answer.model_dump_json(), media_type="application/json")  # written in this thread


def _validated(max_items: int, fields: dict[str, Any]) -> EmbeddingRequest:
    if isinstance(fields.get("input"), list):
        check_size(fields["input"], max_items, "images", 413)
    return EmbeddingRequest.model_validate(fields)


def _embed(
    serving: Serving, image: str, wanted: EmbeddingRequest, number: int, stopwatch: Stopwatch
) -> NDArray[np.float32]:
    try:
        return serving.model.embed(decode_base64(image), wanted.input_type, stopwatch)
    except RequestProblem as problem:
        raise RequestProblem(problem.status, f"input {number}: {problem.detail}") from problem


def _encoded(vector: NDArray[np.float32], encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(np.ascontiguousarray(vector, dtype="<f4").tobytes()).decode()
    return [float(value) for value in vector]
