import asyncio

import pytest

from service.errors import RequestProblem
from service.http.limits import BodyLimitMiddleware, HeadMiddleware, is_head

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


def read(client, max_bytes=10, seconds=60, **headers):
    """What an app behind the limit reads of a body."""
    received = []

    async def app(scope, receive, send):
        while True:
            message = await receive()
            received.append(message["body"])
            if not message["more_body"]:
                return

    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(BodyLimitMiddleware(app, max_bytes, seconds)(scope, client, None))
    return received


def test_a_body_within_the_limit_passes_as_it_comes():
    assert read(Client(b"12345", b"67890")) == [b"12345", b"67890"]
    assert read(Client(b"")) == [b""]


@pytest.mark.parametrize("announced", [{"content-length": "11"}, {}])
def test_a_larger_one_is_refused_and_the_rest_dropped(announced):
    client = Client(b"12345", b"678901", b"x", b"y")
    with pytest.raises(RequestProblem) as caught:
        read(client, **announced)
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
        read(client, **{"content-length": "11", "expect": "100-continue"})
    assert (caught.value.status, client.asked) == (413, 0)


@pytest.mark.parametrize("length", ["-1", "x", "1e9", "²"])
def test_nonsense_announces_nothing(length):
    assert read(Client(b"123"), **{"content-length": length}) == [b"123"]


def test_a_body_that_does_not_end_in_time_is_a_408():
    with pytest.raises(RequestProblem) as caught:
        read(Client(b"123", ends=False), seconds=0)
    assert (caught.value.status, caught.value.headers) == (408, {"Connection": "close"})


def test_after_the_body_there_is_no_hurry():
    async def app(scope, receive, send):
        await receive()
        watching = asyncio.create_task(receive())
        await asyncio.wait({watching}, timeout=0.05)
        assert not watching.done()
        watching.cancel()

    asyncio.run(BodyLimitMiddleware(app, 10, 0)({"type": "http", "headers": []}, Client(b"123"), None))


def test_other_connections_are_left_alone():
    seen = []

    async def app(*arguments):
        seen.append(arguments)

    for middleware in (BodyLimitMiddleware(app, 10, 0), HeadMiddleware(app)):
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
