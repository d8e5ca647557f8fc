import asyncio

import pytest

from service.errors import RequestProblem
from service.http import limits
from service.http.limits import BodyLimitMiddleware, HeadMiddleware, await_body, is_head
from service.http.metrics import Metrics

BODY = "http.request"


class Client:
    """Sends pieces of a body, and then nothing more, not even the end of the connection."""

    def __init__(self, *pieces, ends=True):
        self.messages = [{"type": BODY, "body": piece, "more_body": True} for piece in pieces]
        if ends:
            self.messages[-1]["more_body"] = False
        self.asked = 0

    async def __call__(self):
        self.asked += 1
        return self.messages.pop(0) if self.messages else await asyncio.Future()


def limited(app, max_bytes=10, seconds=60, rate=0, total_bytes=100):
    return BodyLimitMiddleware(app, max_bytes, seconds, rate=rate, total_bytes=total_bytes, metrics=Metrics())


def request(address="1.2.3.4", **headers):
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "headers": fields, "client": (address, 1)}


def read(client, *, at_once=False, headers=None, **options):
    """What an app behind the limit reads of a body."""
    received = []

    async def app(scope, receive, send):
        if at_once:
            await await_body(scope)
        while True:
            message = await receive()
            received.append(message["body"])
            if not message["more_body"]:
                return

    asyncio.run(limited(app, **options)(request(**(headers or {})), client, None))
    return received


def test_a_body_that_was_waited_for_is_read_afterwards(monkeypatch):
    assert read(Client(b"12345", b"67890"), at_once=True) == [b"1234567890"]
    assert read(Client(b""), at_once=True) == [b""]
    monkeypatch.setattr(limits, "_PIECE", 2)
    assert read(Client(*[b"1"] * 10), at_once=True) == [b"111"] * 3 + [b"1"]


def test_whoever_leaves_before_the_end_of_a_body_is_told_off():
    client = Client(b"123", ends=False)
    client.messages.append({"type": "http.disconnect"})
    with pytest.raises(RequestProblem) as caught:
        read(client, at_once=True)
    assert caught.value.status == 400


def test_a_body_within_the_limit_passes_as_it_comes():
    assert read(Client(b"12345", b"67890")) == [b"12345", b"67890"]
    assert read(Client(b"")) == [b""]


@pytest.mark.parametrize("announced", [{"content-length": "11"}, {}])
def test_a_larger_one_is_refused_and_the_rest_dropped(announced):
    client = Client(b"12345", b"678901", b"x", b"y")
    with pytest.raises(RequestProblem) as caught:
        read(client, headers=announced)
    assert caught.value.status == 413
    assert client.messages == []


def test_only_so_much_is_dropped():
    client = Client(*[b"1234567890"] * 100)
    with pytest.raises(RequestProblem) as caught:
        read(client)
    assert caught.value.status == 413
    assert client.asked == 16


def test_a_client_that_asks_first_sends_nothing():
    client = Client(b"12345678901")
    with pytest.raises(RequestProblem) as caught:
        read(client, headers={"content-length": "11", "expect": "100-continue"})
    assert (caught.value.status, client.asked) == (413, 0)


@pytest.mark.parametrize("length", ["-1", "x", "1e9", "²"])
def test_nonsense_announces_nothing(length):
    assert read(Client(b"123"), headers={"content-length": length}) == [b"123"]


def test_a_body_that_does_not_end_in_time_is_a_408():
    with pytest.raises(RequestProblem) as caught:
        read(Client(b"123", ends=False), seconds=0)
    assert (caught.value.status, caught.value.headers) == (408, {"Connection": "close"})


@pytest.mark.parametrize(("grace", "ends", "patience"), [(0.0, True, 60), (60.0, False, 0.6)])
def test_a_body_slower_than_the_smallest_rate_is_a_408(monkeypatch, grace, ends, patience):
    """Of the ten bytes that a second may at least bring, three came; then nothing."""
    monkeypatch.setattr(limits, "_GRACE", grace)

    async def waits(scope, receive, send):
        await receive()
        async with asyncio.timeout(patience):
            await receive()

    kind = RequestProblem if ends else TimeoutError
    with pytest.raises(kind) as caught:
        asyncio.run(limited(waits, rate=10)(request(), Client(b"123", ends=False), None))
    if ends:
        assert (caught.value.status, caught.value.headers) == (408, {"Connection": "close"})
        assert "less than 10 bytes" in caught.value.detail


def hold_bodies(middleware, bodies):
    """Statuses of requests that all hold their body until the last has come; 0 for those that are not refused."""
    waiting, go_on = [], asyncio.Event()

    async def call(address, size):
        waiting.append(address)
        try:
            await middleware(request(address), Client(b"x" * size), go_on)
        except RequestProblem as problem:
            return problem.status
        finally:
            waiting.remove(address)
        return 0

    async def calls():
        tasks = [asyncio.create_task(call(*body)) for body in bodies]
        for _ in range(10):
            await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(*tasks)

    return asyncio.run(calls())


async def holds(scope, receive, go_on):
    await await_body(scope)
    await go_on.wait()


def test_bodies_of_all_clients_and_of_each_take_so_much_memory():
    middleware = limited(holds, max_bytes=40, total_bytes=100)
    assert hold_bodies(middleware, [("1.1.1.1", 40), ("1.1.1.1", 11), ("1.1.1.2", 40), ("1.1.1.3", 21)]) == [
        0,
        503,
        0,
        503,
    ]
    assert hold_bodies(middleware, [("1.1.1.1", 40), ("1.1.1.1", 10), ("1.1.1.2", 40), ("1.1.1.3", 10)]) == [0] * 4
    assert (middleware._held, dict(middleware._held_by)) == (0, {})


def test_any_single_body_within_the_limit_passes():
    assert hold_bodies(limited(holds, max_bytes=100, total_bytes=100), [("1.1.1.1", 100)]) == [0]


def test_after_the_body_there_is_no_hurry():
    async def app(scope, receive, send):
        await receive()
        watching = asyncio.create_task(receive())
        await asyncio.wait({watching}, timeout=0.05)
        assert not watching.done()
        watching.cancel()

    asyncio.run(limited(app, seconds=0)(request(), Client(b"123"), None))


def test_other_connections_are_left_alone():
    seen = []

    async def app(*arguments):
        seen.append(arguments)

    for middleware in (limited(app), HeadMiddleware(app)):
        asyncio.run(middleware({"type": "lifespan"}, "receive", "send"))
    assert seen == [({"type": "lifespan"}, "receive", "send")] * 2


@pytest.mark.parametrize("fails", [False, True])
def test_head_is_get_without_the_body(fails):
    sent, scope = [], {"type": "http", "method": "HEAD"}

    async def app(inner, receive, send):
        assert inner["method"] == "GET"
        assert is_head(inner)
        assert scope["method"] == "HEAD"  # what the server goes by
        inner["route"] = "a route"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        if fails:
            raise ValueError("halfway")
        await send({"type": "http.response.body", "body": b"body"})

    async def send(message):
        sent.append(message)

    async def call():
        try:
            await HeadMiddleware(app)(scope, None, send)
        except ValueError:
            assert fails

    asyncio.run(call())
    assert sent[0]["headers"] == [(b"content-length", b"4")]
    assert [message["body"] for message in sent[1:]] == ([] if fails else [b""])
    assert scope == {"type": "http", "method": "HEAD", "route": "a route"}
    assert not is_head(scope)
