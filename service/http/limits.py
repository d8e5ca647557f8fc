"""ASGI middleware that limits the size and the duration of request bodies, and that answers HEAD."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestProblem

__all__ = ["BodyLimitMiddleware", "HeadMiddleware", "is_head"]

_DRAINED = 16  # times the limit: part of an oversized body that is read and dropped, so that the client sees the answer

_HEAD = "svdraw.head"
_ROUTING = ("route", "root_path", "app_root_path", "path_params", "endpoint")  # values that metrics read afterwards


class BodyLimitMiddleware:
    """Refuses bodies that are too large with status 413, whether announced or not, and slow bodies with status 408.

    The problem is raised where the body is read, so that metrics count it for the route and it has the route's format.

    Args:
        app: the next ASGI app.
        max_bytes: size of the largest body, in bytes.
        seconds: time in which a body must arrive, in seconds.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        oversized = announced.isdigit() and int(announced) > self._max_bytes
        waits = headers.get("expect", "").lower() == "100-continue"
        deadline = asyncio.get_running_loop().time() + self._seconds
        received, complete = 0, False

        async def next_message() -> Message:
            nonlocal complete
            if complete:  # the next message can only be the end of the connection
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                detail = f"the body did not arrive within {self._seconds:g} s"
                raise RequestProblem(408, detail, {"Connection": "close"}) from error
            complete = not message.get("more_body", False)
            return message

        async def limited() -> Message:
            nonlocal received
            if oversized and waits:
                raise self._too_large()
            message = await next_message()
            received += len(message.get("body", b""))
            if oversized or received > self._max_bytes:
                while not complete and received < _DRAINED * self._max_bytes:
                    received += len((await next_message()).get("body", b""))
                raise self._too_large()
            return message

        await self._app(scope, limited, send)

    def _too_large(self) -> RequestProblem:
        return RequestProblem(413, f"the body is larger than the limit of {self._max_bytes} bytes")


class HeadMiddleware:
    """Answers HEAD like GET, without the body.

    Args:
        app: the next ASGI app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        inner = {**scope, "method": "GET", _HEAD: True}  # the server uses its own scope to find the length of the body
        try:
            await self._app(inner, receive, bodiless)
        finally:
            scope.update({name: inner[name] for name in _ROUTING if name in inner})


def is_head(scope: Scope) -> bool:
    """Whether a request that looks like GET is HEAD, so that its body need not be produced."""
    return _HEAD in scope
