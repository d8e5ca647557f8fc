import json

import pytest
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict
from starlette.requests import ClientDisconnect

from index.errors import DimensionsError, FilterError, GalleryDamaged, GalleryLocked, QueryTimeout
from service.errors import RequestProblem
from service.http.openapi import DocumentedApp
from service.http.problems import EXPECTED, as_problem, install_problem_handlers
from training.base.errors import SvdrawError

SECRET = "/home/somebody/gallery"


class Body(BaseModel):
    limit: int


def invalid():
    try:
        Body.model_validate({"limit": "many"})
    except ValueError as error:
        return error


ERRORS = [
    (RequestProblem(413, "too large"), 413, "too large"),
    (HTTPException(404, "no photo"), 404, "no photo"),
    (ClientDisconnect(), 400, "the client left"),
    (invalid(), 422, "limit: Input should be a valid integer"),
    (DimensionsError(99, 16), 422, "16"),
    (FilterError("no such comparison"), 422, "no such comparison"),
    (GalleryLocked(SECRET), 409, "an indexing job is writing"),
    (QueryTimeout("the filter took longer than 5 seconds"), 503, "longer than 5 seconds"),
    (GalleryDamaged(SECRET), 503, "log says why"),
    (OSError(SECRET), 500, "log has it"),
]


@pytest.mark.parametrize(("error", "status", "detail"), ERRORS, ids=[type(row[0]).__name__ for row in ERRORS])
def test_every_error_has_a_status_and_tells_no_secrets(error, status, detail):
    problem = as_problem(error)
    assert problem.status == status
    assert detail in problem.detail
    assert SECRET not in problem.model_dump_json()
    is_expected = status < 500 or isinstance(error, QueryTimeout)
    assert isinstance(error, EXPECTED) == (is_expected and not isinstance(error, HTTPException | ClientDisconnect))


def many_errors():
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")

    try:
        Strict.model_validate({f"{number}{'x' * 5000}": SECRET for number in range(500)})
    except ValueError as error:
        return error


def test_of_many_errors_the_first_are_listed_and_all_counted():
    error = many_errors()
    for problem in (as_problem(error), as_problem(RequestValidationError(error.errors()))):
        assert "(500 errors, of which the first 10 are listed)" in problem.detail
        assert len(problem.errors) == 10
        assert problem.errors[0]["loc"][0].startswith("0xxx")
        assert SECRET not in problem.model_dump_json()
        assert len(problem.model_dump_json()) < 3000


def test_details_that_quote_what_was_sent_are_cut():
    problem = as_problem(RequestProblem(404, "there is no " + "x" * 100_000))
    assert problem.detail.startswith("there is no xxx")
    assert len(problem.detail) == 1000


def test_what_the_gallery_suffers_from_is_in_the_log(caplog):
    as_problem(GalleryDamaged(SECRET))
    assert SECRET in caplog.text


def app_that_raises(error):
    app = DocumentedApp()
    install_problem_handlers(app)
    for path in ("/v1/search", "/v1/embeddings"):

        @app.get(path)
        async def fail():
            raise error

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("error", [row[0] for row in ERRORS], ids=[type(row[0]).__name__ for row in ERRORS])
def test_documents(error):
    client, expected = app_that_raises(error), as_problem(error)
    answer = client.get("/v1/search")
    assert answer.status_code == expected.status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == json.loads(expected.model_dump_json(exclude_none=True))
    assert ("retry-after" in answer.headers) == (expected.status in (409, 503))
    openai = client.get("/v1/embeddings")
    assert openai.status_code == expected.status
    assert openai.headers["content-type"] == "application/json"
    kind = "server_error" if expected.status >= 500 else "invalid_request_error"
    assert openai.json() == {"error": {"message": expected.detail, "type": kind, "param": None, "code": None}}


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "authentication_error"), (403, "permission_error"), (429, "rate_limit_error")]
)
def test_kinds_that_clients_of_openai_know(status, kind):
    client = app_that_raises(RequestProblem(status, "no", {"Retry-After": "7"}))
    answer = client.get("/v1/embeddings")
    assert (answer.json()["error"]["type"], answer.headers["retry-after"]) == (kind, "7")


def test_what_a_problem_says_of_trying_again_counts():
    client = app_that_raises(RequestProblem(503, "full", {"Retry-After": "30"}))
    assert client.get("/v1/search").headers["retry-after"] == "30"


def test_a_path_that_is_not_there():
    client = app_that_raises(SvdrawError("x"))
    assert client.get("/v1/nothing").json()["detail"] == "there is nothing at /v1/nothing; /docs lists what there is"
