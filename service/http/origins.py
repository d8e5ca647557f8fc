"""What pages of other origins may do: those that are named may use the API, the others may not write."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import RequestProblem
from service.http.problems import as_problem, problem_response

__all__ = ["OriginsMiddleware", "is_foreign"]

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST")
_SENT = ("api-key", "Authorization", "If-None-Match", "Range", "traceparent", "tracestate", "X-Request-ID")
_EXPOSED = (
    "Accept-Ranges",
    "Content-Range",
    "ETag",
    "Location",
    "Retry-After",
    "Server-Timing",
    "WWW-Authenticate",
    "X-Request-ID",
)


class OriginsMiddleware(CORSMiddleware):
    """Lets pages of the origins named read every answer, errors included (CORS). Keys are sent, cookies never.

    Args:
        app: the next ASGI app.
        origins: origins such as ``https://example.org``; ``*`` stands for any.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(app, origins, _METHODS, _SENT, expose_headers=_EXPOSED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        if "access-control-request-method" in headers and scope["method"] == "OPTIONS" and "origin" in headers:
            await self._preflight(scope, Headers(scope=scope))(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _preflight(self, scope: Scope, headers: Headers) -> Response:
        response = self.preflight_response(headers)
        if response.status_code < 400:
            return response
        detail = f"pages of {headers['origin']} may not send this request; --cors-origins names those that may"
        return problem_response(scope, as_problem(RequestProblem(403, detail)), {"Vary": response.headers["Vary"]})


def is_foreign(headers: Headers, origins: Collection[str]) -> bool:
    """Whether a request comes from a page of another origin that is not named.

    Browsers say so in ``Sec-Fetch-Site``, or where they do not send that, with an ``Origin`` that is not the host.
    Other programs send neither, and are not refused.

    Args:
        headers: headers of the request.
        origins: origins that are named; ``*`` stands for any.
    """
    origin = headers.get("origin")
    if "*" in origins or origin in origins:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("cross-site", "same-site")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()
