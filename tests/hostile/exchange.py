"""One request over a connection of its own, byte for byte as it is, and the answer."""

import http.client
import socket
from contextlib import closing, suppress
from typing import NamedTuple

HOST = "127.0.0.1"


class Request(NamedTuple):
    """The bytes of a request; ``is_whole`` if it keeps to HTTP, so that it must get an answer."""

    content: bytes
    is_whole: bool = True

    def __repr__(self) -> str:
        return f"<request of {len(self.content)} bytes: {self.content[:300]!r}>"


class Answer(NamedTuple):
    """An answer; the names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


def written(
    method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", *, is_whole: bool = True
) -> Request:
    """The bytes of a request, with the headers that every request needs."""
    needed = {"Host": "hostile", "Connection": "close", "Content-Length": str(len(body))}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in (needed | (headers or {})).items())]
    head = "\r\n".join(lines) + "\r\n\r\n"
    return Request(head.encode("utf-8", "surrogatepass") + body, is_whole)


def exchange(port: int, request: Request, seconds: float) -> Answer | None:
    """Sends a request; returns the answer, or None if the service closed the connection without one.

    Raises:
        TimeoutError: if the service did not take the request, answer it or close the connection in time.
    """
    with closing(socket.create_connection((HOST, port), timeout=seconds)) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # the service need not hear it all before it answers
            connection.sendall(request.content)
        response = http.client.HTTPResponse(connection, method=request.content.split(b" ", 1)[0].decode("latin-1"))
        with closing(response):
            try:
                response.begin()
                body = response.read()
            except (http.client.HTTPException, ConnectionResetError):
                return None
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
