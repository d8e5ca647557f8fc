"""The socket that the service listens on, which several processes may share."""

import socket

from service.errors import AddressInUse

__all__ = ["SharedListener", "listen"]

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Listens on a port.

    Args:
        host: address of this machine.
        port: number of the port; 0 chooses a free one.

    Raises:
        AddressInUse: if it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm only if the protocol is named; with it, kept-alive answers take 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressInUse(f"cannot listen on {host} port {port} ({error.strerror}); choose another --port") from error
    return listener


class SharedListener(socket.socket):
    """A listening socket that several processes accept connections from.

    asyncio takes its ``backlog`` for two things: how many connections may wait, and how many it accepts before it does
    anything else. A process that accepts one at a time leaves others to its siblings, who may be idle. So the number of
    those that wait stays as it is.
    """

    at_once = 1

    def listen(self, backlog: int = 0, /) -> None:
        """Leaves the queue of connections as long as it is."""
