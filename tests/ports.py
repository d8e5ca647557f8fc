"""Ports for the processes that tests start."""

import socket
import sys

_HELD: list[socket.socket] = []


def free_port() -> int:
    """A port of this machine that the system gives nobody else until this process ends, because it stays bound here.

    A process can listen at it all the same if it sets SO_REUSEADDR, as the service, nginx and PyTorch do. On other
    systems than Linux it could not, so there another process may take the port before the one that it is meant for.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    if sys.platform == "linux":
        _HELD.append(held)
    else:
        held.close()
    return port
