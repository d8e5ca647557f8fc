"""Attackers: each misuses a service in one way for as long as it is let, and counts what it got."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing.connection import Connection

from measurements.hostile_files import costly_drawing, many_scans, many_tiles, tall_strips

__all__ = ["ATTACKS", "attack"]

ADDRESS = "127.0.2.1"
NICENESS = 10
_PAUSE = 0.5  # seconds between two bytes of someone who is slow

Attack = Callable[[int, Counter[str]], Awaitable[None]]


def attack(name: str, port: int, photos: Sequence[int], pipe: Connection) -> None:
    """The attacker's process: attacks until something comes over the pipe, then sends what it counted."""
    os.nice(NICENESS)
    counts: Counter[str] = Counter()
    run = ATTACKS[name](photos)
    pipe.send("prepared")
    asyncio.run(_until_told(run(port, counts), pipe))
    pipe.send(dict(counts))


async def _until_told(running: Awaitable[None], pipe: Connection) -> None:
    task = asyncio.ensure_future(running)
    await asyncio.to_thread(pipe.recv)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _request(method: str, path: str, body: bytes = b"", kind: str = "application/json", more: str = "") -> bytes:
    length = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: bench\r\n{length}{more}\r\n".encode() + body


def _json(path: str, value: object) -> bytes:
    return _request("POST", path, json.dumps(value, separators=(",", ":")).encode())


def _image(content: bytes, kind: str) -> bytes:
    return _request("POST", "/v1/search", content, kind)


def _chunked(size: int) -> bytes:
    """A search whose body comes in chunks of one byte."""
    head = "Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n"
    return _request("POST", "/v1/search", more=head) + b"1\r\nx\r\n" * size + b"0\r\n\r\n"


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(ADDRESS, 0))


def _many(connections: int, client: Attack) -> Attack:
    """So many clients at once; each starts again when it was thrown out."""

    async def again(port: int, counts: Counter[str]) -> None:
        while True:
            try:
                await client(port, counts)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                counts["thrown out"] += 1
                await asyncio.sleep(0.01)

    async def run(port: int, counts: Counter[str]) -> None:
        await asyncio.gather(*(again(port, counts) for _ in range(connections)))

    return run


def _asking(connections: int, *requests: bytes) -> Attack:
    """Clients that send requests without pause and read the answers."""

    async def client(port: int, counts: Counter[str]) -> None:
        reader, writer = await _connect(port)
        try:
            while True:
                for request in requests:
                    writer.write(request)
                    counts[await _answer(reader)] += 1
        finally:
            writer.close()

    return _many(connections, client)


async def _answer(reader: asyncio.StreamReader) -> str:
    """Reads an answer; returns its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            left = int(line.split(b":")[1])
            while left:
                part = await reader.read(min(left, 1 << 20))
                if not part:
                    raise ConnectionResetError
                left -= len(part)
    return head[9:12].decode()


def _dripping(connections: int, start: bytes) -> Attack:
    """Clients that begin a request and send a byte now and then."""

    async def client(port: int, counts: Counter[str]) -> None:
        reader, writer = await _connect(port)
        counts["begun"] += 1
        try:
            writer.write(start)
            while not reader.at_eof():
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(_PAUSE)
            raise ConnectionResetError  # a server that hangs up politely throws out all the same
        finally:
            writer.close()

    return _many(connections, client)


def _deaf(connections: int, requests: bytes, *, ends: bool = False) -> Attack:
    """Clients that send requests and read no answer; they may also say that they will send no more."""

    async def client(port: int, counts: Counter[str]) -> None:
        _, writer = await _connect(port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        counts["begun"] += 1
        try:
            writer.write(requests)
            await writer.drain()
            if ends:
                writer.write_eof()
            for _ in range(60):
                await asyncio.sleep(_PAUSE)
                if writer.is_closing():
                    return
        finally:
            writer.transport.abort()

    return _many(connections, client)


async def _churn(port: int, counts: Counter[str]) -> None:
    _, writer = await _connect(port)
    counts["begun"] += 1
    writer.transport.abort()


def _costly_filter() -> dict[str, object]:
    names = [f"metadata.{'a.' * 90}{number}" for number in range(31)]
    return {name: {"ne": "x" * 2000} for name in names} | {"sha256": {"gte": ""}}


async def _quiet(port: int, counts: Counter[str]) -> None:
    await asyncio.Event().wait()


def _pages(photos: Sequence[int]) -> list[bytes]:
    return [
        _request("GET", f"/v1/photos/{photo}/thumbnail?size={size}") for size in range(700, 1025) for photo in photos
    ]


_SEARCH = {"photo_id": 1, "limit": 1000}
_PART = {"photo_id": 1, "limit": 312}  # of a batch that asks for nearly as many photos as one may

ATTACKS: dict[str, Callable[[Sequence[int]], Attack]] = {
    "nobody": lambda photos: _quiet,
    "slow heads": lambda photos: _dripping(300, b"GET /livez HTTP/1.1\r\nHost: bench\r\nX-Slow: "),
    "slow bodies": lambda photos: _dripping(
        300, b"POST /v1/search HTTP/1.1\r\nHost: bench\r\nContent-Type: image/png\r\nContent-Length: 9000000\r\n\r\n"
    ),
    "answers not read": lambda photos: _deaf(300, 20 * _request("GET", "/v1/photos?limit=1000")),
    "half-closed": lambda photos: _deaf(300, _json("/v1/search", _SEARCH), ends=True),
    "big arrays": lambda photos: _asking(8, _json("/v1/embeddings", {"input": [1] * 9_000_000})),
    "unknown fields": lambda photos: _asking(8, _json("/v1/search", {f"{number}": 1 for number in range(24_000)})),
    "many scans": lambda photos: _asking(8, _image(many_scans(), "image/jpeg")),
    "tiles of a pixel": lambda photos: _asking(8, _image(many_tiles(), "image/tiff")),
    "strips of a row": lambda photos: _asking(8, _image(tall_strips(), "image/tiff")),
    "costly drawings": lambda photos: _asking(8, _image(costly_drawing(), "image/svg+xml")),
    "thumbnails of huge photos": lambda photos: _asking(8, *_pages(photos)),
    "amplifying batches": lambda photos: _asking(8, _json("/v1/search/batch", {"searches": [_PART] * 32})),
    "costly filters": lambda photos: _asking(8, _json("/v1/search", {**_SEARCH, "filter": _costly_filter()})),
    "small requests": lambda photos: _asking(200, _json("/v1/search", {"photo_id": 1, "limit": 1})),
    "connections": lambda photos: _many(50, _churn),
    "huge headers": lambda photos: _asking(50, _request("GET", "/livez", more=f"X-Long: {'a' * 60_000}\r\n")),
    "long queries": lambda photos: _asking(50, _request("GET", f"/livez?{'%41=%42&' * 7000}")),
    "small chunks": lambda photos: _asking(8, _chunked(300_000)),
    "upgrades": lambda photos: _asking(
        50, _request("GET", "/", more="Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n")
    ),
    "ranges": lambda photos: _asking(
        50, _request("GET", "/v1/photos/1/image", more=f"Range: bytes={','.join(f'{n}-' for n in range(9000))}\r\n")
    ),
}
