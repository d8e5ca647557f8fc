"""The application: takes settings and returns an ASGI app."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio
import anyio.to_thread
from fastapi import FastAPI

from service.access.admission import Gate
from service.engine.lifecycle import Engine
from service.http.limits import BodyLimitMiddleware, HeadMiddleware
from service.http.metrics import Metrics
from service.http.observability import ObservabilityMiddleware
from service.http.openapi import DocumentedApp
from service.http.pages import install_pages
from service.http.problems import install_problem_handlers
from service.http.tracing import TELEMETRY
from service.routes import embeddings, gallery, operations, photos, search
from service.settings import ServiceSettings

__all__ = ["create_app"]

logger = logging.getLogger("svdraw.app")


def create_app(
    settings: ServiceSettings,
    loaded: Engine | None = None,
    on_failure: Callable[[Exception], None] | None = None,
) -> FastAPI:
    """Builds the app.

    Args:
        settings: settings of the service.
        loaded: engine to serve with. Without one, gallery and model are loaded after the app has started, and requests
            get status 503 until then.
        on_failure: called with the error if gallery or model cannot be loaded. Without it, the error is logged and
            requests continue to get status 503.

    Raises:
        KeysError: if the file of API keys cannot be used.
    """
    metrics = loaded.metrics if loaded else Metrics()

    async def work(app: FastAPI) -> None:
        try:
            app.state.engine = loaded or await anyio.to_thread.run_sync(Engine, settings, metrics)
        except Exception as error:  # the app keeps running and reports it
            app.state.failure = error
            if on_failure is None:
                logger.exception("the gallery cannot be served")
            else:
                on_failure(error)
            return
        logger.info("ready")
        async with anyio.create_task_group() as loops:
            for loop in app.state.engine.loops:
                loops.start_soon(loop.run)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = loaded
        try:
            async with anyio.create_task_group() as background:
                background.start_soon(work, app)
                yield
                background.cancel_scope.cancel()  # waits for work that threads have begun
        finally:
            engine, app.state.engine = app.state.engine, None
            try:
                if engine:
                    await anyio.to_thread.run_sync(engine.close)
            except Exception:  # nothing is lost: every change that was confirmed is on the disk
                logger.exception("the service did not shut down cleanly")

    app = DocumentedApp(
        title="svdraw",
        summary="Find photos by drawing.",
        version=version("svdraw"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=TELEMETRY,
    )
    app.state.engine = app.state.failure = None
    app.state.metrics = metrics
    app.state.settings = settings
    app.state.gate = Gate(settings, metrics)
    install_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes, seconds=settings.body_seconds)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(ObservabilityMiddleware, metrics=metrics)
    for module in (search, embeddings, photos, gallery, operations):
        app.include_router(module.router)
    install_pages(app)
    return app
