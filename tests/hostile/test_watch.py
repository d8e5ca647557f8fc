"""The watch sees a service that misbehaves: each kind of misbehaviour by a server that does just that."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.hostile.exchange import Request, exchange, written
from tests.hostile.watch import FILES, THREADS, Footprint, Misbehaviour, Watch, footprint

KNOWN = written("GET", "/known")
STRANGE = written("GET", "/strange")
PROBLEM = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "this makes no sense"}


class Server:
    """A server that behaves well, but for what ``strange`` does; it is called for requests to /strange."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.ready, self.found = 200, [{"id": 1, "score": 0.5}]
        self.strange: Callable[[BaseHTTPRequestHandler], None] = lambda handler: send(handler, 400, PROBLEM)
        self.port = 0


def send(
    handler: BaseHTTPRequestHandler, status: int, body: object, kind: str = "problem+json", **headers: str
) -> None:
    content = json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": f"application/{kind}", "Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def running(server: Server) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/readyz":
                send(self, server.ready, {"status": "ok"})
            elif self.path == "/known":
                send(self, 200, {"results": server.found})
            else:
                server.strange(self)

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as listening:
        server.port = listening.server_port
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield
        listening.shutdown()
        thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    log = tmp_path / "log"
    log.touch()
    server = Server(log)
    with running(server):
        yield server


@pytest.fixture
def watch(server: Server, tmp_path: Path) -> Watch:
    return Watch(server.port, os.getpid(), server.log, KNOWN, tmp_path / "failures")


def answering(status: int, body: object = PROBLEM, kind: str = "problem+json", **headers: str):
    return lambda server: setattr(server, "strange", lambda handler: send(handler, status, body, kind, **headers))


def hang(server: Server) -> None:
    server.strange = lambda handler: handler.rfile.read(1)  # until the client goes


def drop(server: Server) -> None:
    server.strange = lambda handler: None


def write_a_traceback(server: Server) -> None:
    def strange(handler: BaseHTTPRequestHandler) -> None:
        server.log.write_text('{"time": "", "exception": "Traceback (most recent call last): ZeroDivisionError"}\n')
        send(handler, 400, PROBLEM)

    server.strange = strange


def write_a_warning(server: Server) -> None:
    def strange(handler: BaseHTTPRequestHandler) -> None:
        server.log.write_text("library.py:1: UserWarning: strange picture\n")
        send(handler, 400, PROBLEM)

    server.strange = strange


def become(**state: object):
    def change(server: Server) -> None:
        def strange(handler: BaseHTTPRequestHandler) -> None:
            vars(server).update(state)
            send(handler, 200, {})

        server.strange = strange

    return change


MISBEHAVIOUR = {
    "a 500": (answering(500, {**PROBLEM, "status": 500}), "status 500"),
    "a 502": (answering(502, {**PROBLEM, "status": 502}), "status 502"),
    "503 without an end": (answering(503, {**PROBLEM, "status": 503}), "503 without Retry-After"),
    "an error that is no document": (answering(400, PROBLEM, "json"), "no problem document"),
    "an error of another status": (answering(404, PROBLEM), "no problem document"),
    "an error without words": (answering(400, {**PROBLEM, "detail": ""}), "no problem document"),
    "no end": (hang, r"no end after 0\.5 s"),
    "no answer": (drop, "a whole request got no answer"),
    "a traceback": (write_a_traceback, "a traceback in the log.*ZeroDivisionError"),
    "text in the log": (write_a_warning, "a line in the log that is not JSON: library.py"),
    "not ready": (become(ready=503), "the service is not ready"),
    "other photos": (become(found=[{"id": 2, "score": 0.5}]), "the known search found"),
    "other scores": (become(found=[{"id": 1, "score": 0.6}]), "the known search found"),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_misbehaviour_is_seen(server: Server, watch: Watch, name: str, tmp_path: Path) -> None:
    misbehave, message = MISBEHAVIOUR[name]
    watch.attempt(written("GET", "/fine"))
    misbehave(server)
    if misbehave is hang:
        watch.patience = 0.5  # of what it waits for in vain, and for nothing else
    with pytest.raises(Misbehaviour, match=message) as told:
        watch.attempt(STRANGE)
    assert "nc 127.0.0.1 PORT < " in str(told.value)
    assert (tmp_path / "failures" / "request.http").read_bytes() == STRANGE.content
    assert (tmp_path / "failures" / "before-01.http").read_bytes().startswith(b"GET /fine ")


@pytest.mark.parametrize(
    "behave",
    [
        answering(200, {}),
        answering(400),
        answering(503, {**PROBLEM, "status": 503}, Retry_After="2"),
        answering(507, {**PROBLEM, "status": 507}),
    ],
)
def test_good_behaviour_is_seen(server: Server, watch: Watch, behave) -> None:
    behave(server)
    watch.attempt(STRANGE)
    assert watch.tried == 1


def test_what_is_no_http_need_not_be_answered(server: Server, watch: Watch) -> None:
    drop(server)
    assert watch.attempt(Request(STRANGE.content, is_whole=False)) is None


def test_a_service_that_has_ended_is_seen(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    server = Server(log)
    with running(server):
        watch = Watch(server.port, os.getpid(), log, KNOWN, tmp_path / "failures")
    with pytest.raises(Misbehaviour, match="does not listen any more"):
        watch.attempt(STRANGE)


def test_growth_is_seen() -> None:
    before = Footprint(100, 20, 8)
    assert not Footprint(129, 20 + FILES, 8 + THREADS).exceeds(before)
    assert not Footprint(90, 10, 2).exceeds(before)
    assert Footprint(131, 20, 8).exceeds(before)
    assert Footprint(100, 21 + FILES, 8).exceeds(before)
    assert Footprint(100, 20, 9 + THREADS).exceeds(before)


HOLDER = """
import os, threading
print(flush=True)
input()
held, files = bytearray(b"x" * 400_000_000), [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True)
input()
"""


def test_a_footprint_counts_what_is_held() -> None:
    # another process, because threads of this one come and go with what was tested before
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            holder.stdout.readline()
            before = footprint(holder.pid)
            holder.stdin.write(b"\n")
            holder.stdin.flush()
            holder.stdout.readline()
            now = footprint(holder.pid)
        finally:
            holder.kill()
    assert now.megabytes > before.megabytes + 380
    assert (now.files, now.threads) == (before.files + 10, before.threads + 1)


@pytest.mark.parametrize("reset", [False, True])
def test_answers_come_although_the_request_was_not_read(server: Server, reset: bool) -> None:
    server.strange = lambda handler: send(handler, 413, {**PROBLEM, "status": 413})
    body = bytes(3_000_000) if reset else b""
    answer = exchange(server.port, written("GET", "/strange", body=body), 60)
    assert (answer is None and reset) or answer.status == 413
