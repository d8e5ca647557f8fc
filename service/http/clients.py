"""Who a client is, by its address."""

import ipaddress
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache

__all__ = ["CLIENT", "HAS_LEFT", "client_name"]

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""Name of the client whose request is answered: its key's, or its address's; empty for the service's own work."""

HAS_LEFT: ContextVar[Callable[[], bool]] = ContextVar("has_left", default=lambda: False)
"""Tells whether the client is gone, so that what is computed for it alone can be left undone."""

_HOUSEHOLD = 64  # bits of an IPv6 address that tell networks apart; whoever has one has all addresses in it


@lru_cache(maxsize=4096)
def client_name(address: str) -> str:
    """The address of IPv4, also where it is written as one of IPv6, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address  # such as the name of a test
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed.packed, _HOUSEHOLD), strict=False))
