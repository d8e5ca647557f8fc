"""HTTP/1.1 with limits on slow clients and endless input, which uvicorn lacks."""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
import uuid
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.connections import Connections
from service.http.problems import MEDIA_TYPE
from service.schemas import Problem

__all__ = ["answer_sent", "has_left", "patient_protocol"]

_SENT = "svdraw.sent"  # extension of a request's scope: waits until its answer has left this process
_LEFT = "svdraw.left"  # likewise: tells whether the connection is closed

_HEAD_BYTES = 65_536
_HEADER = 32  # bytes that a header counts beside its text, as in HTTP/2: whoever reads headers looks at every one
_DETAILS = {
    400: "this is not a valid HTTP/1.1 request",
    414: f"the URL is longer than the limit of {_HEAD_BYTES} bytes; send what is long in the body",
    431: f"the head or the trailers are larger than the limit of {_HEAD_BYTES} bytes; send fewer or shorter headers",
}
_FRAMING = 1  # bytes of framing allowed for each byte of a chunked body, beside those of a head
_DROPPED = 16  # times a head: what is read and dropped after a refusal, so that the client sees the answer
_RESET = struct.pack("ii", 1, 0)  # drops unsent bytes when the connection is closed


async def answer_sent(scope: Scope) -> None:
    """Waits until the client has accepted the answer to a request, but for what the system keeps for it, or is gone."""
    if sent := scope.get("extensions", {}).get(_SENT):  # other servers have no such thing
        await sent()


def has_left(scope: Scope) -> Callable[[], bool]:
    """Returns what tells whether the client of a request is gone; it may be called in any thread."""
    left: Callable[[], bool] = scope.get("extensions", {}).get(_LEFT, lambda: False)
    return left


def patient_protocol(
    head_seconds: float, send_seconds: float, rate: float = 0, connections: Connections | None = None
) -> type[HttpToolsProtocol]:
    """Returns a protocol class that drops clients that are too slow or send too much.

    A connection is dropped if its client does not complete the head of a request in time, keeps sending after the
    answer, or stops reading the answer. A URL of more than 64 KiB gets status 414, a head or trailers of more than that
    get 431, and what is no HTTP gets 400. These answers are problem documents, like those of the app.

    Args:
        head_seconds: time for a head, from the start of the connection or from the first byte after an answer.
        send_seconds: time in which the client must accept at least one byte of an answer.
        rate: smallest rate at which the client must accept an answer, in bytes per second; 0 means none.
        connections: counts connections by client, and refuses those beyond a limit, which are closed at once.
    """

    class PatientProtocol(HttpToolsProtocol):
        _head_deadline: asyncio.TimerHandle | None = None
        _send_deadline: asyncio.TimerHandle | None = None
        _received = 0  # bytes outside of bodies since the last complete request
        _allowed = _HEAD_BYTES
        _head = 0  # bytes of the URL and the headers of the present request
        _refused = False
        _counted: str | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # writing pauses as soon as any byte waits to be sent
            if connections is not None and self.client is not None:
                if not connections.take(self.client[0]):
                    transport.abort()
                    return
                self._counted = self.client[0]
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            self._received += len(data)
            if self._refused:
                self._drop()
                return
            super().data_received(data)
            if self._is_answering():
                self._stop_waiting()
            else:
                self._wait_for_head()
            if self._received > self._allowed and not self.transport.is_closing():
                self._refuse(431)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["extensions"] = {_SENT: self.flow.drain, _LEFT: self.transport.is_closing}  # type: ignore[dict-item]
            self._head = 0

        def on_url(self, url: bytes) -> None:
            super().on_url(url)
            self._count(len(url), 414)

        def on_header(self, name: bytes, value: bytes) -> None:
            super().on_header(name, value)
            self._count(len(name) + len(value) + _HEADER, 431)

        def on_body(self, body: bytes) -> None:
            self._received -= len(body)
            self._allowed += _FRAMING * len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._received, self._allowed = 0, _HEAD_BYTES
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400)

        def connection_lost(self, exc: Exception | None) -> None:
            if connections is not None and self._counted is not None:
                connections.release(self._counted)
                self._counted = None
            self._stop_waiting()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._wait_for_reader(self._unsent())

        def resume_writing(self) -> None:
            if self._send_deadline is not None:
                self._send_deadline.cancel()
                self._send_deadline = None
            super().resume_writing()

        def _wait_for_head(self) -> None:
            if self._head_deadline is None:
                self._head_deadline = self.loop.call_later(head_seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._head_deadline is not None:
                self._head_deadline.cancel()
                self._head_deadline = None

        def _give_up(self) -> None:
            self._head_deadline = None
            if not self._is_answering():
                self.transport.abort()

        def _wait_for_reader(self, unsent: int) -> None:
            self._send_deadline = self.loop.call_later(send_seconds, self._check_reader, unsent)

        def _check_reader(self, unsent: int) -> None:
            now = self._unsent()
            if now >= unsent or unsent - now < rate * send_seconds:
                connection = self.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # drops the unsent answer
                self.transport.abort()
            else:
                self._wait_for_reader(now)

        def _unsent(self) -> int:
            """Bytes of answers that the client has not accepted, those that the system keeps for it among them."""
            return self.transport.get_write_buffer_size() + _outgoing(self.transport.get_extra_info("socket"))

        def _count(self, size: int, status: int) -> None:
            self._head += size
            if self._head > _HEAD_BYTES:
                self._refuse(status)
                raise ValueError("the head is too large")  # ends the parser, which may have the whole of it

        def _refuse(self, status: int) -> None:
            """Answers instead of the app, and waits for the client to close: closing first could lose the answer."""
            if self._refused or self.transport.is_closing():
                return
            self._refused, self._received = True, 0
            if self.cycle is not None:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
                self.cycle = None  # type: ignore[assignment]
            self.transport.write(_answer(status))
            self.transport.write_eof()
            self._stop_waiting()
            self._wait_for_head()

        def _drop(self) -> None:
            if self._received > _DROPPED * _HEAD_BYTES:
                self.transport.abort()

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

    return PatientProtocol


def _outgoing(connection: socket.socket) -> int:
    """Bytes in a socket's queue that the other side has not acknowledged."""
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):
        return 0  # a socket that is closing, or a system that does not tell


def _answer(status: int) -> bytes:
    title = HTTPStatus(status).phrase
    body = Problem(title=title, status=status, detail=_DETAILS[status]).model_dump_json(exclude_none=True)
    head = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-Content-Type-Options": "nosniff",
        "X-Request-ID": uuid.uuid4().hex,
    }
    lines = [f"HTTP/1.1 {status} {title}", *(f"{name}: {value}" for name, value in head.items()), "", body]
    return "\r\n".join(lines).encode()
