"""Which names the service answers to.

A page of another site can have its own name resolve to the service's address, and its requests are then of the same
origin for the browser (DNS rebinding). A service that knows its names refuses them.
"""

import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.http.problems import as_problem, problem_response

__all__ = ["HostsMiddleware", "is_known"]


class HostsMiddleware:
    """Refuses requests for names that are not the service's with status 421.

    Args:
        app: the next ASGI app.
        names: see ``is_known``.
        metrics: metrics that count refused requests.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], metrics: Metrics) -> None:
        self._app = app
        self._names = names
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] == "http" and not is_known(host := Headers(scope=scope).get("host", ""), self._names):
            self._metrics.refused.labels("host").inc()
            detail = f"the service does not answer to the name {host!r}; its option --hosts can add it"
            await problem_response(scope, as_problem(RequestProblem(421, detail)))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def is_known(host: str, names: Collection[str]) -> bool:
    """Whether the service answers to a host.

    Addresses, ``localhost`` and names without a dot are always known: no other site can have one. So the probes and the
    monitoring of containers, which use such names, need no option.

    Args:
        host: value of a ``Host`` header, with or without a port.
        names: names of the service in lower case; ``*.example.org`` stands for all names below it, ``*`` for any name.
    """
    if host.startswith("["):
        return True  # an address of IPv6
    name = host.partition(":")[0].lower().removesuffix(".")
    if "." not in name or name.endswith(".localhost") or _is_address(name):
        return True
    return any(each in ("*", name) or (each.startswith("*.") and name.endswith(each[1:])) for each in names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True
