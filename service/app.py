"""The application: takes settings and returns an ASGI app."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from index.shards.layout import are_shards
from service.access.admission import Gate
from service.engine.interface import AnyEngine
from service.engine.lifecycle import Engine
from service.engine.memory import settle
from service.http.hosts import HostsMiddleware
from service.http.limits import BodyLimitMiddleware, HeadMiddleware
from service.http.metrics import Metrics
from service.http.observability import ObservabilityMiddleware
from service.http.openapi import DocumentedApp
from service.http.origins import OriginsMiddleware
from service.http.pages import install_pages
from service.http.problems import install_problem_handlers
from service.http.queries import QueryLimitMiddleware
from service.http.root_path import enter_root_path
from service.http.tracing import TELEMETRY
from service.routes import embeddings, gallery, operations, photos, search
from service.settings import ServiceSettings
from service.shards.engine import ShardsEngine

__all__ = ["create_app", "open_engine"]

logger = logging.getLogger("svdraw.app")


class _ServiceApp(DocumentedApp):
    """An app below a root path. Its outer middleware sees every answer, those to unexpected errors too."""

    def __init__(self, root_path: str, outer: Sequence[Middleware], **options: Any) -> None:
        super().__init__(**options)
        self._root_path = root_path
        self._outer = outer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        redirect = enter_root_path(scope, self._root_path) if scope["type"] == "http" else None
        await (redirect or super().__call__)(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        stack = super().build_middleware_stack()
        for middleware, arguments, options in reversed(self._outer):
            stack = middleware(stack, *arguments, **options)
        return stack


def open_engine(settings: ServiceSettings, metrics: Metrics, *, leads: bool = True) -> AnyEngine:
    """Loads the gallery or the shards that are to be served; see ``Engine`` and ``ShardsEngine``."""
    is_sharded = settings.ray is not None or are_shards(settings.gallery)
    engine = ShardsEngine(settings, metrics) if is_sharded else Engine(settings, metrics, leads=leads)
    settle()
    return engine


def create_app(
    settings: ServiceSettings,
    loaded: AnyEngine | None = None,
    on_failure: Callable[[Exception], None] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> FastAPI:
    """Builds the app.

    Args:
        settings: settings of the service.
        loaded: engine to serve with. Without one, gallery and model are loaded after the app has started, and requests
            get status 503 until then.
        on_failure: called with the error if gallery or model cannot be loaded. Without it, the error is logged and
            requests continue to get status 503.
        on_ready: called when requests can be answered.

    Raises:
        KeysError: if the file of API keys cannot be used.
    """
    metrics = loaded.metrics if loaded else Metrics()

    async def work(app: FastAPI) -> None:
        try:
            app.state.engine = loaded or await anyio.to_thread.run_sync(open_engine, settings, metrics)
        except Exception as error:  # the app keeps running and reports it
            app.state.failure = error
            if on_failure is None:
                logger.exception("the gallery cannot be served")
            else:
                on_failure(error)
            return
        logger.info("ready")
        if on_ready is not None:
            on_ready()
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

    app = _ServiceApp(
        settings.root_path,
        [
            Middleware(ObservabilityMiddleware, metrics=metrics, embeddable=bool(settings.cors_origins)),
            *([Middleware(OriginsMiddleware, origins=settings.cors_origins)] if settings.cors_origins else []),
            Middleware(HostsMiddleware, names=settings.known_hosts, metrics=metrics),
            Middleware(QueryLimitMiddleware),
        ],
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
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_body_bytes,
        seconds=settings.body_seconds,
        rate=settings.min_client_rate,
        total_bytes=settings.max_received_bytes,
        metrics=metrics,
    )
    app.add_middleware(HeadMiddleware)
    for module in (search, embeddings, photos, gallery, operations):
        app.include_router(module.router)
    install_pages(app)
    return app
