"""A load generator with little overhead: HTTP/1.1 over persistent connections, written and read as bytes."""

import asyncio
import random
import re
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
_TIMING = re.compile(rb"\r\nserver-timing: *([^\r]*)", re.I)
_RETRY = re.compile(rb"\r\nretry-after: *\d", re.I)


class Answer(NamedTuple):
    """An answer: seconds, status (0 for a broken connection), milliseconds by stage, and whether it had Retry-After."""

    seconds: float
    status: int
    stages: dict[str, float]
    retry_after: bool


def search_request(image: bytes, key: str) -> bytes:
    head = f"POST /v1/search HTTP/1.1\r\nHost: bench\r\napi-key: {key}\r\nContent-Type: image/png\r\n"
    return f"{head}Content-Length: {len(image)}\r\n\r\n".encode() + image


async def send_until(
    url: str,
    requests: Sequence[bytes],
    end: float,
    log: list[Answer],
    address: str | None = None,
    patience: float | None = None,
) -> None:
    """Acts as one client: sends each request when the last one is answered, until ``time.perf_counter`` is ``end``.

    Args:
        url: of the service.
        requests: to choose from.
        end: when to stop.
        log: takes the answers.
        address: of this machine, to come from.
        patience: seconds after which an answer counts as a broken connection.
    """
    host, port = urlsplit(url).hostname, urlsplit(url).port
    writer: asyncio.StreamWriter | None = None
    while time.perf_counter() < end:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(patience):
                if writer is None:
                    here = None if address is None else (address, 0)
                    reader, writer = await asyncio.open_connection(host, port, local_addr=here)
                writer.write(random.choice(requests))
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                assert length, head
                await reader.readexactly(int(length[1]))
        except (OSError, asyncio.IncompleteReadError):
            log.append(Answer(time.perf_counter() - started, 0, {}, False))
            if writer is not None:
                writer.close()
                writer = None
            continue
        log.append(Answer(time.perf_counter() - started, int(head[9:12]), _stages(head), bool(_RETRY.search(head))))
    if writer is not None:
        writer.close()


def _stages(head: bytes) -> dict[str, float]:
    timing = _TIMING.search(head)
    parts = timing[1].decode().split(", ") if timing else []
    return {name: float(value) for name, value in (part.split(";dur=") for part in parts)}


async def send_many(url: str, requests: Sequence[bytes], clients: int, seconds: float) -> list[Answer]:
    """Runs ``clients`` clients at the same time."""
    log: list[Answer] = []
    end = time.perf_counter() + seconds
    await asyncio.gather(*(send_until(url, requests, end, log) for _ in range(clients)))
    return log
