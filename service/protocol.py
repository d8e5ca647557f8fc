"""HTTP/1.1 with a limit on the time that a request's head may take, which uvicorn lacks."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["patient_protocol"]


def patient_protocol(header_seconds: float) -> type[H11Protocol]:
    """A protocol that drops connections that do not complete a head in time, or go on sending after their answer.

    Args:
        header_seconds: from the connection, or from the first byte after an answer.
    """

    class PatientProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait_for_head(self) -> None:
            if not self._is_waiting():
                self._stop_waiting()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(header_seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self._deadline = None
            if self._is_waiting():
                self.transport.abort()

        def _is_waiting(self) -> bool:
            answered = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
            return self.conn.their_state is h11.IDLE or answered

    return PatientProtocol
