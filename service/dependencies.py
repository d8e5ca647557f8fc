"""What route functions ask for by type."""

from collections.abc import AsyncIterator
from typing import Annotated, cast

from fastapi import Depends, Request

from service.engine import Engine
from service.errors import RequestProblem
from service.metrics import Metrics
from service.pictures import Thumbnails
from service.serving import Serving
from service.settings import ServiceSettings

__all__ = [
    "EngineDependency",
    "MetricsDependency",
    "ServingDependency",
    "SettingsDependency",
    "ThumbnailsDependency",
]


async def _engine(request: Request) -> Engine:
    engine = getattr(request.app.state, "engine", None)
    if engine is None:
        raise RequestProblem(503, "the service is starting; try again soon", {"Retry-After": "2"})
    return cast(Engine, engine)


EngineDependency = Annotated[Engine, Depends(_engine)]


async def _serving(engine: EngineDependency) -> AsyncIterator[Serving]:
    async with engine.lease() as serving:
        yield serving


async def _metrics(request: Request) -> Metrics:
    return cast(Metrics, request.app.state.metrics)


async def _settings(request: Request) -> ServiceSettings:
    return cast(ServiceSettings, request.app.state.settings)


async def _thumbnails(request: Request) -> Thumbnails:
    return cast(Thumbnails, request.app.state.thumbnails)


ServingDependency = Annotated[Serving, Depends(_serving)]
MetricsDependency = Annotated[Metrics, Depends(_metrics)]
SettingsDependency = Annotated[ServiceSettings, Depends(_settings)]
ThumbnailsDependency = Annotated[Thumbnails, Depends(_thumbnails)]
