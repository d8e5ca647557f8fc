"""Answers that are files, sent in pieces as they are read."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from fastapi import Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from service.errors import RequestProblem
from service.http.limits import is_head

__all__ = ["IMAGE_START", "SHOWN_TYPES", "image_type", "local_file", "remote_file"]

IMAGE_START = 64  # bytes of a file that tell what it is

SHOWN_TYPES = frozenset(
    {"image/avif", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp"}
)  # that every browser shows

_SIGNATURES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"II+\0": "image/tiff",
    b"MM\0+": "image/tiff",
    b"\xff\x0a": "image/jxl",
    b"\0\0\0\x0cJXL \r\n\x87\n": "image/jxl",
    **dict.fromkeys((b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM"), "image/x-dcraw"),
}
_BITMAP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes; two letters alone would let text pass for a bitmap
_BRANDS = {
    b"crx ": "image/x-dcraw",
    b"heic": "image/heic",
    b"heix": "image/heic",
    **dict.fromkeys((b"mif1", b"msf1", b"heim", b"heis", b"hevc", b"hevx"), "image/heif"),
}
_PIECE = 1 << 20  # bytes of a remote file that are in memory at once


def image_type(start: bytes) -> str | None:
    """Media type by a file's first ``IMAGE_START`` bytes, of the formats that galleries hold; None of anything else."""
    for signature, media_type in _SIGNATURES.items():
        if start.startswith(signature):
            return media_type
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BITMAP_HEADERS:
        return "image/bmp"
    if start[4:8] == b"ftyp":
        return "image/avif" if b"avif" in start[8:] or b"avis" in start[8:] else _BRANDS.get(start[8:12])
    return None


def local_file(file: BinaryIO, media_type: str, headers: dict[str, str]) -> Response:
    """An open file of this machine, whole or in ranges; closed afterwards."""
    return _LocalFile(file, media_type, headers)


def remote_file(
    request: Request, file: BinaryIO, size: int | None, media_type: str, headers: dict[str, str]
) -> Response:
    """An open file from elsewhere, whole; closed afterwards."""
    if size is not None:
        headers = {**headers, "Content-Length": str(size)}
    if is_head(request.scope):
        file.close()
        return Response(media_type=media_type, headers=headers)
    return StreamingResponse(_pieces(file), media_type=media_type, headers=headers)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE):
            yield piece


class _LocalFile(FileResponse):
    """Reads the very file that was opened, even if another has taken its name since."""

    def __init__(self, file: BinaryIO, media_type: str, headers: dict[str, str]) -> None:
        self._file = file
        path, facts = f"/dev/fd/{file.fileno()}", os.fstat(file.fileno())
        super().__init__(path, headers=headers, media_type=media_type, stat_result=facts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def checked(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                size = self.headers["content-length"]
                detail = f"the file has {size} bytes; the Range asks for others, or is not understood"
                raise RequestProblem(416, detail, {"Content-Range": f"bytes */{size}"})
            await send(message)

        method = "HEAD" if is_head(scope) else scope["method"]
        headers = [(name, value) for name, value in scope["headers"] if name != b"range" or _is_of_bytes(value)]
        with self._file:
            await super().__call__({**scope, "method": method, "headers": headers}, receive, checked)


def _is_of_bytes(value: bytes) -> bool:
    """Whether a range is one of bytes; those of other units must be left aside (RFC 9110, section 14.2)."""
    unit, separator, _ = value.partition(b"=")
    return not separator or unit.strip().lower() == b"bytes"
