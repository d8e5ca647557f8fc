"""Every error as an RFC 9457 problem document."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from index.errors import DimensionsError
from service.errors import RequestProblem

__all__ = ["PROBLEM_RESPONSES", "Problem", "install_problem_handlers", "problem_response"]

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


def _documented(status: int) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: _documented(status) for status in (400, 404, 413, 415, 422, 503)
}


def problem_response(
    status: int, detail: str, *, headers: dict[str, str] | None = None, errors: list[dict[str, Any]] | None = None
) -> JSONResponse:
    """A problem document with its media type."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors)
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


def install_problem_handlers(app: FastAPI) -> None:
    """Makes every error of an app a problem document."""

    @app.exception_handler(RequestProblem)
    async def request_problem(request: Request, error: RequestProblem) -> JSONResponse:
        return problem_response(error.status, error.detail, headers=error.headers)

    @app.exception_handler(DimensionsError)
    async def dimensions(request: Request, error: DimensionsError) -> JSONResponse:
        return problem_response(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def request_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error.errors())

    @app.exception_handler(ValidationError)
    async def validation(request: Request, error: ValidationError) -> JSONResponse:
        return _invalid(error.errors(include_url=False, include_input=False, include_context=False))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail
        if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:
            detail = f"there is nothing at {request.url.path}; /docs lists what there is"
        return problem_response(error.status_code, detail, headers=dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return problem_response(500, "an unexpected error; the service's log has it under this request id")


def _invalid(errors: Sequence[Any]) -> JSONResponse:
    rows = [{"loc": list(row["loc"]), "msg": row["msg"], "type": row["type"]} for row in errors]
    where = " ".join(str(part) for part in rows[0]["loc"] if part not in ("query", "body", "path"))
    return problem_response(422, f"{where}: {rows[0]['msg']}" if where else str(rows[0]["msg"]), errors=rows)
