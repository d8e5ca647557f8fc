"""ASGI middleware that limits the size, the duration and the memory of request bodies, and that answers HEAD."""

import asyncio
from collections import Counter, deque

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestProblem
from service.http.clients import client_name
from service.http.metrics import Metrics

__all__ = ["BodyLimitMiddleware", "HeadMiddleware", "await_body", "is_head"]

_DRAINED = 16  # times the limit: part of an oversized body that is read and dropped, so that the client sees the answer
_GRACE = 5.0  # seconds in which a body may be slower than the smallest rate
_PIECE = 65_536  # bytes of a body that are read at once; a body that comes byte by byte is kept in such pieces

_ARRIVAL = "svdraw.arrival"
_HEAD = "svdraw.head"
_ROUTING = ("route", "root_path", "app_root_path", "path_params", "endpoint")  # values that metrics read afterwards


class BodyLimitMiddleware:
    """Refuses bodies that are too large, too slow, or too many at once.

    Too large is a 413, whether announced or not. Too slow is a 408. The bytes of all bodies together, and those of one
    client, are limited from their arrival to the end of the answer; what goes beyond that is a 503.

    The problem is raised where the body is read, so that metrics count it for the route and it has the route's format.

    Args:
        app: the next ASGI app.
        max_bytes: size of the largest body, in bytes.
        seconds: time in which a body must arrive, in seconds.
        rate: smallest rate of a body after the first five seconds, in bytes per second; 0 means none.
        total_bytes: size of all bodies together, in bytes. One client may have half of it, or one body.
        metrics: metrics that count refused requests.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, seconds: float, *, rate: float, total_bytes: int, metrics: Metrics
    ) -> None:
        self._app = app
        self.max_bytes = max_bytes
        self._seconds = seconds
        self._rate = rate
        self._total_bytes = total_bytes
        self._share = max(total_bytes // 2, max_bytes)
        self._metrics = metrics
        self._held = 0
        self._held_by: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_ARRIVAL] = arrival = _Arrival(self, scope, receive)
        try:
            await self._app(scope, arrival.receive, send)
        finally:
            self.release(arrival.client, arrival.held)

    def hold(self, client: str, size: int) -> None:
        """Counts bytes that are kept in memory.

        Raises:
            RequestProblem: 503 if there are too many.
        """
        if self._held + size > self._total_bytes or self._held_by[client] + size > self._share:
            detail = "too many bytes of bodies are being received at once; try again soon"
            raise self._refused("memory", 503, detail, {"Retry-After": "2"})
        self._held += size
        self._held_by[client] += size

    def release(self, client: str, size: int) -> None:
        """Counts bytes that are no longer kept."""
        self._held -= size
        self._held_by[client] -= size
        if not self._held_by[client]:
            del self._held_by[client]

    def seconds_for(self, received: int) -> float:
        """Seconds since the beginning in which the next part of a body must arrive."""
        return min(self._seconds, _GRACE + received / self._rate) if self._rate else self._seconds

    def too_large(self) -> RequestProblem:
        """The problem of a body that is too large."""
        return self._refused("size", 413, f"the body is larger than the limit of {self.max_bytes} bytes")

    def too_slow(self, seconds: float) -> RequestProblem:
        """The problem of a body that is too slow."""
        detail = f"the body did not arrive within {seconds:g} s"
        if seconds < self._seconds:
            detail = f"less than {self._rate:g} bytes of the body arrived each second, in {seconds:.1f} s"
        return self._refused("slow", 408, detail, {"Connection": "close"})

    def _refused(self, reason: str, status: int, detail: str, headers: dict[str, str] | None = None) -> RequestProblem:
        self._metrics.refused.labels(reason).inc()
        return RequestProblem(status, detail, headers)


class _Arrival:
    """The body of one request: what has arrived and is still to be read."""

    def __init__(self, limits: BodyLimitMiddleware, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        self.client = client_name((scope.get("client") or ("",))[0])
        self.held = 0
        self._limits = limits
        self._receive = receive
        self._oversized = announced.isdigit() and int(announced) > limits.max_bytes
        self._asks_first = headers.get("expect", "").lower() == "100-continue"
        self._began = asyncio.get_running_loop().time()
        self._received = 0
        self._is_complete = False
        self._pieces: deque[bytearray] = deque()

    async def receive(self) -> Message:
        """The next part of the body, or the end of the connection."""
        if not self._pieces:
            return await self._within_limits()
        await asyncio.sleep(0)  # reading many pieces may not keep others waiting
        piece = bytes(self._pieces.popleft())
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._is_complete}

    async def complete(self) -> None:
        """Waits until the whole body has arrived.

        Raises:
            RequestProblem: see ``BodyLimitMiddleware``; 400 if the client leaves before.
        """
        while not self._is_complete:
            message = await self._within_limits()
            if message["type"] == "http.disconnect":
                raise RequestProblem(400, "the client left before its body had arrived")
            if not self._pieces or len(self._pieces[-1]) > _PIECE:
                self._pieces.append(bytearray())
            self._pieces[-1] += message.get("body", b"")

    async def _within_limits(self) -> Message:
        if self._oversized and self._asks_first:
            raise self._limits.too_large()
        message = await self._next()
        size = len(message.get("body", b""))
        if self._oversized or self._received > self._limits.max_bytes:
            while not self._is_complete and self._received < _DRAINED * self._limits.max_bytes:
                await self._next()
            raise self._limits.too_large()
        self._limits.hold(self.client, size)
        self.held += size
        return message

    async def _next(self) -> Message:
        if self._is_complete:  # the next message can only be the end of the connection
            return await self._receive()
        seconds = self._limits.seconds_for(self._received)
        try:
            async with asyncio.timeout_at(self._began + seconds):
                message = await self._receive()
        except TimeoutError as error:
            raise self._limits.too_slow(seconds) from error
        self._received += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        return message


async def await_body(scope: Scope) -> None:
    """Waits until the body of a request has arrived, so that what answers it is not kept waiting by its client.

    Raises:
        RequestProblem: see ``BodyLimitMiddleware``; 400 if the client leaves before.
    """
    arrival: _Arrival = scope[_ARRIVAL]
    await arrival.complete()


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
