"""Dependencies that route functions declare by type."""

from collections.abc import AsyncIterator
from typing import Annotated, cast

from fastapi import Depends, Request

from service.encoding.workers import Workers
from service.engine.interface import AnyEngine
from service.engine.serving import Serving
from service.engine.thumbnails import Thumbnails
from service.errors import RequestProblem
from service.http.clients import HAS_LEFT
from service.http.protocol import has_left
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings

__all__ = [
    "ABANDONABLE",
    "EngineDependency",
    "ServingDependency",
    "SettingsDependency",
    "StopwatchDependency",
    "ThumbnailsDependency",
    "WorkersDependency",
]


async def _engine(request: Request) -> AnyEngine:
    state = request.app.state
    if state.engine is None and state.failure is not None:
        raise RequestProblem(503, "the gallery could not be loaded; the service's log says why", {"Retry-After": "60"})
    if state.engine is None:
        raise RequestProblem(503, "the service is starting or stopping; try again soon", {"Retry-After": "2"})
    return cast(AnyEngine, state.engine)


async def _watch_client(request: Request) -> None:
    HAS_LEFT.set(has_left(request.scope))


ABANDONABLE = Depends(_watch_client)  # what is left undone once its client has left
EngineDependency = Annotated[AnyEngine, Depends(_engine)]


async def _serving(engine: EngineDependency) -> AsyncIterator[Serving]:
    async with engine.lease() as serving:
        yield serving


async def _workers(engine: EngineDependency) -> Workers:
    return engine.workers


async def _stopwatch(request: Request) -> Stopwatch:
    return cast(Stopwatch, request.state.stopwatch)


async def _settings(request: Request) -> ServiceSettings:
    return cast(ServiceSettings, request.app.state.settings)


async def _thumbnails(engine: EngineDependency) -> Thumbnails:
    return engine.thumbnails


ServingDependency = Annotated[Serving, Depends(_serving)]
StopwatchDependency = Annotated[Stopwatch, Depends(_stopwatch)]
WorkersDependency = Annotated[Workers, Depends(_workers)]
SettingsDependency = Annotated[ServiceSettings, Depends(_settings)]
ThumbnailsDependency = Annotated[Thumbnails, Depends(_thumbnails)]
