"""Request ids, access log, metrics and security headers; the log is JSON."""

import json
import logging
import re
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.metrics import Metrics
from service.http.root_path import own_path, root_path
from service.http.stopwatch import Stopwatch
from service.http.tracing import mark_request, record_stages, trace_ids

__all__ = ["JsonFormatter", "ObservabilityMiddleware"]

access_log = logging.getLogger("svdraw.access")

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_REQUEST: ContextVar[str | None] = ContextVar("request_id", default=None)  # for what is logged on behalf of a request
_MAX_PATH = 1000  # characters in the log; a client may send many, and a log has little room
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_POLICY = _POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")  # for Swagger UI


class ObservabilityMiddleware:
    """Gives every request an id, logs and measures it, and adds security headers to its response.

    Args:
        app: the next ASGI app.
        metrics: metrics of the service.
        embeddable: whether pages of other origins may show the answers, such as photos.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, embeddable: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._resource_policy = "cross-origin" if embeddable else "same-origin"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        _REQUEST.set(request_id)  # for good: the server logs an unexpected error after this has ended, in the same task
        mark_request(request_id)
        stopwatch = Stopwatch()
        scope.setdefault("state", {}).update(request_id=request_id, stopwatch=stopwatch)
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if stopwatch.stages:
                    headers["Server-Timing"] = stopwatch.server_timing()
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Content-Security-Policy"] = _DOCS_POLICY if own_path(scope) == "/docs" else _POLICY
                headers["Cross-Origin-Resource-Policy"] = self._resource_policy
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            self._record(scope, status, stopwatch, request_id)

    def _record(self, scope: Scope, status: int, stopwatch: Stopwatch, request_id: str) -> None:
        seconds = (stopwatch.now() - stopwatch.started) / 1e9
        for stage in stopwatch.stages:
            self._metrics.stages.labels(stage.name).observe(stage.seconds)
        record_stages(stopwatch)
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"  # clients can invent many methods
        self._metrics.requests.labels(method, route, str(status)).observe(seconds)
        fields = {
            "method": scope["method"],
            "path": scope["path"][:_MAX_PATH],
            "status": status,
            "duration_seconds": round(seconds, 6),
            "request_id": request_id,
            "client": (scope.get("client") or ("",))[0],
        }
        access_log.info("%s %s %d", scope["method"], fields["path"], status, extra={"fields": fields})


def _route(scope: Scope) -> str:
    """Path of the route that answered, with names in place of parameters; a mounted folder is one route."""
    path: str | None = getattr(scope.get("route"), "path", None)
    mounted = str(scope.get("root_path", "")).removeprefix(root_path(scope))
    return path or mounted or "unmatched"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, ids of request and trace, and ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **({"request_id": request_id} if (request_id := _REQUEST.get()) else {}),
            **trace_ids(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
