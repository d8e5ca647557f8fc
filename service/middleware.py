"""ASGI middleware: request ids, access log and metrics, security headers, body limit."""

import json
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestProblem
from service.metrics import Metrics
from service.problems import problem_response

__all__ = ["BodyLimitMiddleware", "ObservabilityMiddleware"]

access_log = logging.getLogger("svdraw.access")

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DRAINED = 16  # times the limit: how much of an oversized body is read and dropped so that the client sees the answer
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS = ("/docs", "/redoc")  # FastAPI's pages load their scripts from elsewhere


class ObservabilityMiddleware:
    """Gives every request an id, a line in the JSON log and a place in the histogram; adds security headers.

    Args:
        app: next in line.
        metrics: to observe.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        started = time.perf_counter()
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                if not scope["path"].startswith(_DOCS):
                    headers["Content-Security-Policy"] = _POLICY
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            self._record(scope, status, time.perf_counter() - started, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"  # clients may invent any number of methods
        self._metrics.requests.labels(method, route, str(status)).observe(seconds)
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "duration_seconds": round(seconds, 6),
            "request_id": request_id,
            "client": (scope.get("client") or ("",))[0],
        }
        access_log.info(json.dumps(fields))


class BodyLimitMiddleware:
    """Refuses bodies over a limit with 413, whether or not they announce their length, without keeping them.

    Args:
        app: next in line.
        max_bytes: largest body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        detail = f"the body is larger than the limit of {self._max_bytes} bytes"
        if announced.isdigit() and int(announced) > self._max_bytes:
            if headers.get("expect", "").lower() != "100-continue":
                await self._drain(receive)
            await problem_response(413, detail)(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                if message.get("more_body", False):
                    await self._drain(receive)
                raise RequestProblem(413, detail)
            return message

        await self._app(scope, limited, send)

    async def _drain(self, receive: Receive) -> None:
        """Reads and drops the rest, so that a client that is still sending gets to read the answer."""
        dropped = 0
        while dropped < _DRAINED * self._max_bytes:
            message = await receive()
            dropped += len(message.get("body", b""))
            if not message.get("more_body", False):
                return
