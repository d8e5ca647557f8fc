"""Messages between the service and its decoders: a header in JSON and bytes, over a socket.

Neither side can make the other run anything: what a decoder says is read as text, numbers and bytes.
"""

import json
import socket
import struct
from typing import Any

__all__ = ["Header", "receive", "send"]

Header = dict[str, Any]

_SIZES = struct.Struct("!II")  # of the header and of the bytes that follow it


def send(connection: socket.socket, header: Header, content: bytes = b"") -> None:
    """Sends a message.

    Raises:
        OSError: if the other side has ended, or does not take the message in the connection's timeout.
    """
    text = json.dumps(header).encode()
    start = _SIZES.pack(len(text), len(content)) + text
    sent = connection.sendmsg([start, content])  # in one go: each part would wake the other side
    if sent < len(start) + len(content):
        connection.sendall(memoryview(start + content)[sent:])


def receive(connection: socket.socket) -> tuple[Header, bytes]:
    """Waits for a message; returns its header and its bytes.

    Raises:
        EOFError: if the other side has ended.
        OSError: if nothing arrives in the connection's timeout.
    """
    text_size, size = _SIZES.unpack(_read(connection, _SIZES.size))
    header: Header = json.loads(_read(connection, text_size))
    return header, bytes(_read(connection, size))


def _read(connection: socket.socket, size: int) -> bytearray:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError("the other side has ended")
        view = view[count:]
    return content
