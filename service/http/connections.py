"""How many connections each client has: the system lets a process have only so many."""

from collections import Counter

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.http.clients import client_name
from service.http.metrics import Metrics

__all__ = ["Connections"]


class Connections:
    """Counts connections by client. Proxies that are named may have any number, as theirs are of many clients.

    Args:
        most: largest number of connections of one client.
        proxies: addresses or networks, joined by commas; ``*`` stands for all.
        metrics: metrics that count refused connections.
    """

    def __init__(self, most: int, proxies: str, metrics: Metrics) -> None:
        self._most = most
        self._proxies = ProxyHeadersMiddleware(_no_app, proxies).trusted_hosts  # so that both are read in one way
        self._metrics = metrics
        self._open: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Counts a connection; returns whether the client may have it."""
        client = client_name(address)
        if self._open[client] >= self._most and address not in self._proxies:
            self._metrics.refused.labels("connections").inc()
            return False
        self._open[client] += 1
        return True

    def release(self, address: str) -> None:
        """Counts the end of a connection that was taken."""
        client = client_name(address)
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]


async def _no_app(*_: object) -> None:
    raise AssertionError("it is never called")
