"""The application: settings in, ASGI app out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from service.engine import Engine
from service.metrics import Metrics
from service.middleware import BodyLimitMiddleware, ObservabilityMiddleware
from service.problems import install_problem_handlers
from service.routes import gallery, operations, photos, search
from service.settings import ServiceSettings

__all__ = ["create_app"]

_STATIC = Path(__file__).parent / "static"


def create_app(settings: ServiceSettings, loaded: Engine | None = None) -> FastAPI:
    """Builds the app.

    Args:
        settings: of the service.
        loaded: engine to serve with; without one, gallery and model are loaded when the app starts.
    """
    metrics = loaded.metrics if loaded else Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = loaded if loaded else await anyio.to_thread.run_sync(Engine, settings, metrics)
        app.state.engine = engine
        yield
        del app.state.engine
        await anyio.to_thread.run_sync(engine.close)

    app = FastAPI(
        title="svdraw",
        summary="Find photos by drawing.",
        version=version("svdraw"),
        lifespan=lifespan,
    )
    app.state.metrics = metrics
    install_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    app.add_middleware(ObservabilityMiddleware, metrics=metrics)
    for module in (search, photos, gallery, operations):
        app.include_router(module.router)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    return app
