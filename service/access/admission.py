"""Admission of requests: API key, scope and rate before the body is read; concurrency until the answer is sent."""

import heapq
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from service.access.keys import KeyRing, Scope
from service.errors import RequestProblem
from service.http.clients import CLIENT, client_name
from service.http.limits import await_body
from service.http.metrics import Metrics
from service.http.origins import is_foreign
from service.http.protocol import answer_sent
from service.settings import ServiceSettings

__all__ = ["Gate", "RateLimiter", "monitor", "reader", "writer"]

_CLIENTS = 10_000  # clients whose rates are remembered


class RateLimiter:
    """Limits the rate of requests by client. The token buckets use the generic cell rate algorithm: one number each.

    If there are too many clients, those are forgotten whose buckets are nearly full: however many clients come, one
    that was refused stays refused.

    Args:
        rate: requests per second and client; 0 means no limit.
        burst: requests that a client may send at once.
        clock: returns the time in seconds.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._burst = burst
        self._clock = clock
        self._full_at: dict[str, float] = {}  # when each client's bucket is full again

    def wait(self, client: str) -> float:
        """Takes a token and returns 0, or returns the seconds until the next token is there."""
        if not self._interval:
            return 0.0
        now = self._clock()
        full_at = max(now, self._full_at.get(client, now)) + self._interval
        excess = full_at - now - self._burst * self._interval
        if excess > 1e-9:
            return excess
        self._full_at[client] = full_at
        if len(self._full_at) > _CLIENTS:
            self._full_at = dict(heapq.nlargest(_CLIENTS // 2, self._full_at.items(), key=lambda item: item[1]))
        return 0.0


class Gate:
    """Admits or refuses requests.

    Args:
        settings: settings of the service, with keys and limits.
        metrics: metrics that count refused and running requests.

    Attributes:
        keys: the API keys.

    Raises:
        KeysError: if the file of API keys cannot be used.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self.keys = KeyRing(settings.keys, settings.keys_grace_seconds, metrics)
        self._anonymous = Scope[(settings.anonymous or ("none" if settings.keys else "read")).upper()]
        self._limiter = RateLimiter(settings.rate_limit, settings.rate_burst)
        self._origins = frozenset(settings.cors_origins)
        self._max_concurrent = settings.max_concurrent
        self._max_of_client = settings.max_concurrent_per_client
        self._metrics = metrics
        self._running = 0
        self._by_client: Counter[str] = Counter()

    def check(self, address: str, secret: str | None, needed: Scope) -> str:
        """Admits a request, or raises the problem to answer with.

        Args:
            address: address of the client.
            secret: API key that the client sent, if any.
            needed: scope that the request needs.

        Returns:
            The name of the client: that of its key, or of its address; see ``client_name``.

        Raises:
            RequestProblem: 401 or 403 for the key, 429 for the rate, 503 if no key can be trusted.
        """
        key = self.keys.find(secret) if secret is not None else None
        scope = key.scope if key else self._anonymous if secret is None else Scope.NONE
        client = f"key {key.name}" if key else f"address {client_name(address)}"
        if needed is Scope.METRICS and scope >= needed:
            return client  # a service that refuses others for their rate has to be seen
        wait = self._limiter.wait(client)
        if wait:
            self._refuse("rate", 429, "too many requests; slow down", {"Retry-After": str(math.ceil(wait))})
        if secret is not None and not self.keys.trusted:  # the key may be right, so 401 would be wrong
            self._refuse("keys", 503, "keys cannot be checked at the moment; try again later", {"Retry-After": "30"})
        if secret is not None and key is None:
            self._refuse("key", 401, "this key is unknown or has expired", _challenge("invalid_token"))
        if scope < needed and key is None:
            self._refuse("key", 401, "send a key: `Authorization: Bearer KEY` or `api-key: KEY`", _challenge())
        if scope < needed:
            self._refuse("scope", 403, f"this key may not {needed.name.lower()}")
        return client

    def check_site(self, headers: Headers) -> None:
        """Refuses a write that a page of another origin has a browser send, unless that origin is named.

        Raises:
            RequestProblem: 403.
        """
        if is_foreign(headers, self._origins):
            self._refuse("site", 403, "pages of other origins may not write; --cors-origins names those that may")

    @contextmanager
    def counted(self, client: str) -> Iterator[None]:
        """Counts a request of a client from the beginning of its body to the end of its answer.

        Raises:
            RequestProblem: 429 if the client has too many. It closes the connection, on which more requests may wait:
                to refuse each of thousands would keep others waiting.
        """
        if self._by_client[client] >= self._max_of_client:
            detail = f"you have {self._max_of_client} requests running, which is the limit; wait for their answers"
            self._refuse("client", 429, detail, {"Retry-After": "1", "Connection": "close"})
        self._by_client[client] += 1
        try:
            yield
        finally:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    @contextmanager
    def place(self) -> Iterator[None]:
        """Takes one of the places for running requests.

        Raises:
            RequestProblem: 429 if all places are taken.
        """
        if self._running >= self._max_concurrent:
            self._refuse("concurrency", 429, "too many requests at once; try again soon", {"Retry-After": "1"})
        self._running += 1
        self._metrics.running.set(self._running)
        try:
            yield
        finally:
            self._running -= 1
            self._metrics.running.set(self._running)

    def _refuse(self, reason: str, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        self._metrics.refused.labels(reason).inc()
        raise RequestProblem(status, detail, headers)


def _challenge(error: str | None = None) -> dict[str, str]:
    return {"WWW-Authenticate": 'Bearer realm="svdraw"' + (f', error="{error}"' if error else "")}


_BEARER = HTTPBearer(auto_error=False, description="an API key")
_HEADER = APIKeyHeader(name="api-key", auto_error=False, description="an API key")


def _admission(needed: Scope) -> Callable[..., AsyncIterator[None]]:
    async def admit(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        header: Annotated[str | None, Security(_HEADER)],
    ) -> AsyncIterator[None]:
        gate: Gate = request.app.state.gate
        if needed is Scope.WRITE:
            gate.check_site(request.headers)
        secret = bearer.credentials if bearer else header
        client = gate.check(request.client.host if request.client else "", secret, needed)
        CLIENT.set(client)
        if needed is Scope.METRICS:  # a service whose places are all taken has to be seen
            yield
            return
        with gate.counted(client):
            await await_body(request.scope)
            with gate.place():
                yield
                await answer_sent(request.scope)  # the memory of an answer is in use until its client has read it

    return admit


monitor = Depends(_admission(Scope.METRICS))
reader = Depends(_admission(Scope.READ))
writer = Depends(_admission(Scope.WRITE))
