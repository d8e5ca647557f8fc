"""HTTP/1.1 with limits on slow clients and endless input, which uvicorn lacks."""

import asyncio
import socket
import struct

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["patient_protocol"]

_HEAD_BYTES = 65_536
_FRAMING = 8  # bytes of framing allowed for each byte of a chunked body
_RESET = struct.pack("ii", 1, 0)  # drops unsent bytes when the connection is closed


def patient_protocol(head_seconds: float, send_seconds: float) -> type[HttpToolsProtocol]:
    """Returns a protocol class that drops clients that are too slow or send too much.

    A connection is dropped if its client does not complete the head of a request in time, keeps sending after the
    answer, or stops reading the answer. A head or trailers of more than 64 KiB get status 400.

    Args:
        head_seconds: time for a head, from the start of the connection or from the first byte after an answer.
        send_seconds: time in which the client must accept at least one byte of an answer.
    """

    class PatientProtocol(HttpToolsProtocol):
        _head_deadline: asyncio.TimerHandle | None = None
        _send_deadline: asyncio.TimerHandle | None = None
        _received = 0  # bytes outside of bodies since the last complete request
        _allowed = _HEAD_BYTES

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # writing pauses as soon as any byte waits to be sent
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
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # drops the unsent answer
                self.transport.abort()
            else:
                self._wait_for_reader(now)

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

    return PatientProtocol
