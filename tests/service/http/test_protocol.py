"""The protocol against a transport and a clock that the test moves."""

import asyncio
import json

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.http.protocol import answer_sent, patient_protocol

HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/search HTTP/1.1\r\nHost: x\r\n"


class Timer:
    def __init__(self, due, call):
        self.due, self.call, self.cancelled = due, call, False

    def cancel(self):
        self.cancelled = True


class Task:
    def add_done_callback(self, call):
        pass


class Loop:
    """Time passes when the test says so; tasks are kept, not run."""

    def __init__(self):
        self.now, self.timers, self.tasks = 0.0, [], []

    def time(self):
        return self.now

    def call_later(self, delay, call, *arguments):
        self.timers.append(Timer(self.now + delay, lambda: call(*arguments)))
        return self.timers[-1]

    def create_task(self, coroutine, **options):
        coroutine.close()
        self.tasks.append(coroutine)
        return Task()

    def pass_(self, seconds):
        end = self.now + seconds
        while due := [timer for timer in self.timers if not timer.cancelled and timer.due <= end]:
            first = min(due, key=lambda timer: timer.due)
            self.timers.remove(first)
            self.now = first.due
            first.call()
        self.now = end


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.sent, self.unsent, self.options = b"", 0, []
        self.aborted = self.closed = self.ended = False

    def write(self, data):
        self.sent += data

    def abort(self):
        self.aborted = True

    def close(self):
        self.closed = True

    def write_eof(self):
        self.ended = True

    def is_closing(self):
        return self.aborted or self.closed

    def get_write_buffer_size(self):
        return self.unsent

    def set_write_buffer_limits(self, high=None, low=None):
        assert high == 0

    def get_extra_info(self, name, default=None):
        return self if name == "socket" else default

    def getsockname(self):
        return ("127.0.0.1", 1)

    def fileno(self):
        return -1  # the system keeps nothing for this one

    def getpeername(self):
        return ("127.0.0.1", 2)

    def setsockopt(self, *option):
        self.options.append(option)

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


async def app(scope, receive, send):
    pass


class Connection:
    def __init__(self, rate=0):
        self.loop, self.transport = Loop(), Transport()
        config = uvicorn.Config(app, ws="none", log_config=None)
        kind = patient_protocol(head_seconds=10, send_seconds=30, rate=rate)
        self.protocol = kind(config, ServerState(), {}, _loop=self.loop)
        self.protocol.connection_made(self.transport)

    def receive(self, data):
        self.protocol.data_received(data)

    def answered(self):
        """The application has answered in full."""
        self.protocol.cycle.response_complete = True
        self.protocol.on_response_complete()


@pytest.fixture
def connection():
    return Connection()


def test_silence_is_dropped(connection):
    connection.loop.pass_(9.9)
    assert not connection.transport.aborted
    connection.loop.pass_(0.2)
    assert connection.transport.aborted


def test_a_head_that_trickles_is_dropped_however_often_something_comes(connection):
    connection.receive(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    for _ in range(9):
        connection.loop.pass_(1)
        connection.receive(b"a")
    assert not connection.transport.aborted
    connection.loop.pass_(1)
    assert connection.transport.aborted


def test_an_answer_may_take_its_time(connection):
    connection.receive(HEAD)
    assert len(connection.loop.tasks) == 1
    connection.loop.pass_(1000)
    assert not connection.transport.aborted


def test_the_next_head_has_its_own_time(connection):
    connection.receive(HEAD)
    connection.loop.pass_(60)
    connection.answered()
    connection.loop.pass_(4)
    connection.receive(b"GET /li")
    connection.loop.pass_(9)
    assert not connection.transport.aborted
    connection.receive(b"vez HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.loop.pass_(60)
    assert not connection.transport.aborted
    assert len(connection.loop.tasks) == 2


def test_a_body_after_its_answer_is_dropped(connection):
    connection.receive(POST + b"Content-Length: 100000\r\n\r\n")
    connection.answered()
    for _ in range(20):
        connection.receive(b"a")
        connection.loop.pass_(1)
    assert connection.transport.aborted


def stalled(connection, unsent):
    connection.receive(HEAD)
    connection.transport.unsent = unsent
    connection.protocol.pause_writing()


def test_a_reader_that_takes_nothing_is_dropped(connection):
    stalled(connection, 1000)
    connection.loop.pass_(29)
    assert not connection.transport.aborted
    connection.loop.pass_(2)
    assert connection.transport.aborted
    assert connection.transport.options  # what is unsent goes too


def test_a_slow_reader_gets_its_answer(connection):
    stalled(connection, 1000)
    for unsent in range(999, 900, -1):
        connection.transport.unsent = unsent
        connection.loop.pass_(30)
    assert not connection.transport.aborted
    connection.protocol.resume_writing()
    connection.loop.pass_(1000)
    assert not connection.transport.aborted


@pytest.mark.parametrize(("step", "dropped"), [(299, True), (300, False)])
def test_a_reader_slower_than_the_smallest_rate_is_dropped(step, dropped):
    connection = Connection(rate=10)
    stalled(connection, 100_000)
    for number in range(1, 20):
        connection.transport.unsent = 100_000 - number * step
        connection.loop.pass_(30)
    assert connection.transport.aborted == dropped


def test_an_answer_is_sent_once_it_has_left_the_process(connection):
    async def waits():
        waiting = asyncio.create_task(answer_sent(connection.protocol.scope))
        await asyncio.sleep(0)
        assert not waiting.done()
        connection.protocol.resume_writing()
        await waiting

    stalled(connection, 1000)
    asyncio.run(waits())
    asyncio.run(answer_sent({"type": "http"}))  # a server that has no such thing


def assert_refused(connection, status):
    """With a problem document, in one answer."""
    head, body = connection.transport.sent.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/problem+json" in head.split(b"\r\n")
    assert b"Content-Length: %d" % len(body) in head.split(b"\r\n")
    assert json.loads(body)["status"] == status
    assert connection.transport.ended


LONG = b"a" * 100_000
TOO_LONG = {
    "url": (b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "query": (b"GET /v1/photos?after=" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "header": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + LONG + b"\r\n\r\n", 431),
    "name": (b"GET /livez HTTP/1.1\r\n" + LONG + b": x\r\n\r\n", 431),
    "headers": (b"GET /livez HTTP/1.1\r\n" + 100 * (b"X-Many: " + b"a" * 1000 + b"\r\n") + b"\r\n", 431),
    "trailer": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Long: " + LONG + b"\r\n\r\n", 431),
    "nonsense": (b"\x16\x03\x01" + LONG, 400),
}


@pytest.mark.parametrize("piece", [10_000, 1_000_000], ids=["pieces", "whole"])
@pytest.mark.parametrize(("request_", "status"), TOO_LONG.values(), ids=TOO_LONG)
def test_long_heads_are_answered_with_a_problem(connection, request_, status, piece):
    for start in range(0, len(request_), piece):
        connection.receive(request_[start : start + piece])
    assert_refused(connection, status)
    connection.receive(HEAD)
    assert_refused(connection, status)  # what follows is read, so that the answer arrives, but not answered
    assert not connection.transport.aborted


def test_whoever_goes_on_after_a_refusal_is_dropped(connection):
    connection.receive(b"nonsense\r\n\r\n")
    for _ in range(100):
        connection.receive(LONG)
    assert connection.transport.aborted


def test_whoever_stays_after_a_refusal_is_dropped(connection):
    connection.receive(b"nonsense\r\n\r\n")
    connection.loop.pass_(9)
    assert not connection.transport.aborted
    connection.loop.pass_(2)
    assert connection.transport.aborted


def test_a_long_head_within_the_limit_is_answered(connection):
    connection.receive(b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\nX-Long: " + b"a" * 30_000 + b"\r\n\r\n")
    assert len(connection.loop.tasks) == 1
    assert connection.transport.sent == b""


def test_many_requests_on_a_connection_have_a_head_each(connection):
    for _ in range(10):
        connection.receive(b"GET /livez HTTP/1.1\r\nX-Long: " + b"a" * 30_000 + b"\r\n\r\n")
        connection.answered()
    assert len(connection.loop.tasks) == 10


def test_a_body_may_be_larger_than_a_head(connection):
    connection.receive(POST + b"Content-Length: 200000\r\n\r\n")
    for _ in range(200):
        connection.receive(b"a" * 1000)
    assert connection.transport.sent == b""
    assert not connection.transport.is_closing()


@pytest.mark.parametrize(
    ("chunk", "refused"), [(b"8\r\naaaaaaaa\r\n", False), (b"1\r\na\r\n", True), (b"1;an=extension\r\na\r\n", True)]
)
def test_the_frames_of_a_chunked_body_are_in_proportion_to_it(connection, chunk, refused):
    connection.receive(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(20_000):
        if connection.transport.ended:
            break
        connection.receive(chunk)
    assert connection.transport.ended == refused


def test_timers_end_with_the_connection(connection):
    stalled(connection, 1000)
    connection.protocol.connection_lost(None)
    connection.loop.pass_(1000)
    assert not connection.transport.aborted
