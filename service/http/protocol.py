"""HTTP/1.1 with limits on slow and unending clients, which uvicorn lacks."""

import asyncio
import socket
import struct

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["patient_protocol"]

_HEAD_BYTES = 65_536
_FRAMING = 8  # bytes that may frame one byte of a chunked body
_RESET = struct.pack("ii", 1, 0)  # drop what is unsent when the connection is closed


def patient_protocol(head_seconds: float, send_seconds: float) -> type[HttpToolsProtocol]:
    """A protocol that gives clients up that are too slow or send too much.

    Dropped are connections that do not complete a head in time, go on sending after their answer, or stop reading it.
    A head or trailers of more than 64 KiB are a 400.

    Args:
        head_seconds: from the connection, or from the first byte after an answer.
        send_seconds: without a byte of the answer being taken.
    """

    class PatientProtocol(HttpToolsProtocol):
        _head_deadline: asyncio.TimerHandle | None = None
        _send_deadline: asyncio.TimerHandle | None = None
        _received = 0  # bytes beside bodies since the last request was complete
        _allowed = _HEAD_BYTES

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # pauses as soon as anything waits to be sent
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            self._received += len(data)
            super().data_received(data)
            if self._is_answering():
                self._stop_waiting()
            else:
                self._wait_for_head()
            if self._received > self._allowed and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

        def on_body(self, body: bytes) -> None:
            self._received -= len(body)
            self._allowed += _FRAMING * len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._received, self._allowed = 0, _HEAD_BYTES
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._wait_for_reader(self.transport.get_write_buffer_size())

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
            now = self.transport.get_write_buffer_size()
            if now >= unsent:
                connection = self.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # or the system keeps the answer
                self.transport.abort()
            else:
                self._wait_for_reader(now)

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

    return PatientProtocol
