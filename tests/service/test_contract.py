"""The service keeps to its OpenAPI document, whatever is sent.

SVDRAW_CASES sets how many requests are tried for each operation, as many again that break its schema.
"""

import os
import shutil

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # now: CPython 3.11 may fail to parse it beside a running service
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.app import create_app
from service.settings import ServiceSettings
from tests.service.conftest import serving

CASES = int(os.environ.get("SVDRAW_CASES", "12"))
RULES = settings(
    max_examples=CASES,
    database=None,
    derandomize="SVDRAW_CASES" not in os.environ,  # the same cases in every run that does not ask for more
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def document(gallery_path, tmp_path_factory):
    path = shutil.copytree(gallery_path, tmp_path_factory.mktemp("contract") / "gallery")
    with serving(gallery=path, anonymous="write", live_changes=5) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


OPERATIONS = [
    (method, path, mode)
    for path, operations in create_app(ServiceSettings(gallery="unused")).openapi()["paths"].items()
    for method in operations
    for mode in GenerationMode
    if mode.is_positive or path.startswith("/v1/")  # the others take nothing that could be wrong
]


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_every_answer_is_documented(document, method, path, mode):
    @RULES
    @given(case=document[path][method].as_strategy(mode))
    def try_one(case):
        case.call_and_validate(checks=CHECKS)

    try_one()
