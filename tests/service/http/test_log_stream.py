import io
import logging
import os

import pytest

from service.http import log_stream
from service.http.log_stream import LogStream


@pytest.fixture
def pipe():
    """A pipe, and a stream that writes to it."""
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as reader, os.fdopen(write, "w") as writer:
        yield reader, writer


def test_lines_come_out_as_they_went_in(pipe):
    reader, writer = pipe
    stream = LogStream(writer, lambda: None)
    handler = logging.StreamHandler(stream)
    for number in range(100):
        handler.emit(logging.makeLogRecord({"msg": f"line {number}, \ud800"}))
    assert stream.drain(60)
    assert reader.read(100_000).decode().splitlines() == [f"line {number}, \\ud800" for number in range(100)]


def test_a_reader_that_does_not_read_keeps_nobody_waiting(pipe, monkeypatch):
    monkeypatch.setattr(log_stream, "_LINES", 10)
    reader, writer = pipe
    dropped = []
    stream = LogStream(writer, lambda: dropped.append(1))
    for _ in range(30):
        stream.write("x" * 65_535 + "\n")
    assert len(dropped) >= 18  # one is being written, one may be in the pipe
    assert not stream.drain(0)
    received = b""
    while len(received) < 65_536:
        received += reader.read(65_536)
    assert set(received) <= set(b"x\n")
    before = len(dropped)
    while stream.write("it works again\n") and len(dropped) > before:  # there is room once the thread has gone on
        before = len(dropped)
    while b"it works again\n" not in received:
        received = received[-100:] + reader.read(65_536)


def test_a_reader_that_has_gone_is_no_error(pipe):
    reader, writer = pipe
    dropped = []
    stream = LogStream(writer, lambda: dropped.append(1))
    reader.close()
    for _ in range(3):
        stream.write("lost\n")
    assert stream.drain(60)
    assert len(dropped) == 3


def test_a_stream_without_a_file():
    with pytest.raises(io.UnsupportedOperation):
        LogStream(io.StringIO(), lambda: None)
