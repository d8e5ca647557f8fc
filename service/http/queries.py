"""Refuses queries of very many parameters before anything parses them."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import RequestProblem
from service.http.problems import as_problem, problem_response

__all__ = ["MAX_PARAMETERS", "QueryLimitMiddleware"]

MAX_PARAMETERS = 100  # no request has as many


class QueryLimitMiddleware:
    """Answers 422 to requests with more query parameters than any request has.

    Every route has the whole query parsed on the event loop, even if it uses none of it, as a probe does. With the
    thousands of parameters that a URL has room for, that takes tens of milliseconds, in which nobody else is served.

    Args:
        app: the next ASGI app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        count = scope["query_string"].count(b"&") + 1 if scope["type"] == "http" else 0
        if count > MAX_PARAMETERS:
            detail = f"{count} query parameters are more than the limit of {MAX_PARAMETERS}"
            await problem_response(scope, as_problem(RequestProblem(422, detail)))(scope, receive, send)
        else:
            await self._app(scope, receive, send)
