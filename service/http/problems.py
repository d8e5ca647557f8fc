"""Every error as an RFC 9457 problem document; on /v1/embeddings in the shape that OpenAI's clients know."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from index.errors import (
    DimensionsError,
    FilterError,
    GalleryBusy,
    GalleryFull,
    GalleryLocked,
    PageError,
    QueryTimeout,
)
from service.errors import RequestProblem
from service.http.openapi import allowed_methods, reference
from service.http.root_path import own_path, root_path
from service.schemas import Problem
from training.base.errors import SvdrawError

__all__ = ["EXPECTED", "MEDIA_TYPE", "as_problem", "documented", "install_problem_handlers", "problem_response"]

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 10  # that are listed; a request may have any number
_MAX_DETAIL = 1000  # characters; details may quote what was sent
_MAX_PLACE = 64  # characters of each step to the place of an error
OPENAI_PATHS = frozenset({"/v1/embeddings"})
EXPECTED = (
    RequestProblem,
    ValidationError,
    DimensionsError,
    FilterError,
    PageError,
    GalleryLocked,
    QueryTimeout,
)  # what a request may do wrong

_OPENAI_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def documented(*statuses: int, openai: bool = False) -> dict[int | str, dict[str, Any]]:
    """Error responses for the OpenAPI document."""
    content = (
        {"application/json": {"schema": _OPENAI_ERROR}} if openai else {MEDIA_TYPE: {"schema": reference(Problem)}}
    )
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def as_problem(error: Exception) -> Problem:
    """The problem document of an expected error; of any other a 500 that tells nothing."""
    if isinstance(error, RequestProblem):
        return _problem(error.status, error.detail)
    if isinstance(error, HTTPException):
        return _problem(error.status_code, error.detail)
    if isinstance(error, ClientDisconnect):
        return _problem(400, "the client left before its body had arrived")
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors())
    if isinstance(error, ValidationError):
        return _invalid(error.errors(include_url=False, include_input=False, include_context=False))
    if isinstance(error, DimensionsError | FilterError | PageError):
        return _problem(422, str(error))
    if isinstance(error, QueryTimeout):
        return _problem(503, str(error))
    if isinstance(error, GalleryLocked):
        return _problem(409, "an indexing job is writing to the gallery; try again when it has ended")
    if isinstance(error, GalleryBusy):
        logger.warning("%s", error)
        return _problem(503, "another process keeps the gallery from being changed at the moment; try again soon")
    if isinstance(error, GalleryFull):
        logger.error("%s", error)
        return _problem(507, "the disk of the gallery is full, nothing was changed; try again when it has room")
    if isinstance(error, SvdrawError):
        logger.error("%s", error)
        return _problem(503, "the gallery cannot be used at the moment; the service's log says why")
    return _problem(500, "an unexpected error; the service's log has it under this request id")


def problem_response(scope: Scope, problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that reports a problem with the request of a scope."""
    if own_path(scope) not in OPENAI_PATHS:
        content = problem.model_dump(exclude_none=True)
        return JSONResponse(content, problem.status, headers=headers, media_type=MEDIA_TYPE)
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    error = {"message": problem.detail, "type": kind, "param": None, "code": None}
    return JSONResponse({"error": error}, problem.status, headers=headers)


def install_problem_handlers(app: FastAPI) -> None:
    """Makes every error of an app a problem document."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        problem = as_problem(error)
        if isinstance(error, HTTPException) and problem.detail == HTTPStatus.NOT_FOUND.phrase:
            problem.detail = (
                f"there is nothing at {request.url.path}; {root_path(request.scope)}/docs lists what there is"
            )
        headers = dict(getattr(error, "headers", None) or {})
        if problem.status in (409, 503):
            headers.setdefault("Retry-After", "2")
        if problem.status == 405 and (allowed := allowed_methods(request)):
            headers["Allow"] = allowed  # Starlette names those of one route only
        return problem_response(request.scope, problem, headers)

    for kind in (SvdrawError, ValidationError, RequestValidationError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, handle)


def _problem(status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> Problem:
    title = HTTPStatus(status).phrase
    return Problem(title=title, status=status, detail=_shortened(detail, _MAX_DETAIL), errors=errors)


def _invalid(errors: Sequence[Any]) -> Problem:
    rows = [
        {"loc": [_place(part) for part in row["loc"][:8]], "msg": _shortened(row["msg"], 200), "type": row["type"]}
        for row in errors[:MAX_ERRORS]
    ]
    where = " ".join(str(part) for part in rows[0]["loc"] if part not in ("query", "body", "path"))
    message = str(rows[0]["msg"]).removeprefix("Value error, ")
    detail = f"{where}: {message}" if where else message
    if len(errors) > MAX_ERRORS:
        detail += f" ({len(errors)} errors, of which the first {MAX_ERRORS} are listed)"
    return _problem(422, detail, rows)


def _place(part: str | int) -> str | int:
    return _shortened(part, _MAX_PLACE) if isinstance(part, str) else part


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
