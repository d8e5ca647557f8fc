"""Parts of the OpenAPI document that FastAPI cannot derive, because routes read their bodies themselves."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.schemas import EmbeddingRequest, PhotoDescription, Problem
from service.searches import SearchOptions, SearchRequest

__all__ = ["DocumentedApp", "allowed_methods", "properties", "reference"]

_MODELS: Sequence[type[BaseModel]] = (EmbeddingRequest, PhotoDescription, Problem, SearchOptions, SearchRequest)
_REFERENCE = "#/components/schemas/{model}"


def reference(model: type[BaseModel]) -> dict[str, str]:
    """Returns a reference to the schema of a model."""
    assert model in _MODELS
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def properties(model: type[BaseModel]) -> dict[str, Any]:
    """Returns the schemas of a model's fields."""
    fields: dict[str, Any] = model.model_json_schema(ref_template=_REFERENCE)["properties"]
    return fields


class DocumentedApp(FastAPI):
    """A FastAPI app whose OpenAPI document contains the schemas that routes refer to."""

    def openapi(self) -> dict[str, Any]:
        """Returns the OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            _, schemas = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REFERENCE)
            document["components"]["schemas"] |= schemas["$defs"]
        assert self.openapi_schema is not None
        return self.openapi_schema


def allowed_methods(request: Request) -> str | None:
    """Value of ``Allow`` for the path of a request: the methods of all its routes; None if no route is documented."""
    path = getattr(request.scope.get("route"), "path_format", "")
    methods = {method.upper() for method in request.app.openapi()["paths"].get(path, {})}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods)) or None
