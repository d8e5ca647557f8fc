"""New bases are built in a child process of low priority, so that searches keep their memory and processor time."""

import logging
import os
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process

from index.errors import GalleryError, GalleryLocked
from index.gallery.directory import Gallery
from service.http.metrics import Metrics

__all__ = ["build_base", "should_build_base"]

logger = logging.getLogger(__name__)

_NICENESS = 10  # the system derives the priority on the disk from it as well
_KEPT = 4096  # bytes of the child's messages, of which the last line is reported


def should_build_base(path: Path) -> bool:
    """Tells whether a gallery needs a new base, and no job is writing to it, which would build the base at its end.

    Raises:
        GalleryError: if the gallery cannot be read, or a new base cannot be written.
    """
    with closing(Gallery.open(path)) as reader:
        if not reader.base_is_due():
            return False
    try:
        with closing(Gallery.open(path, write=True)) as gallery, gallery.writing():
            return True
    except GalleryLocked:
        logger.debug("a job is writing to the gallery; it builds the base when it ends")
        return False


async def build_base(gallery: Path, metrics: Metrics) -> None:
    """Runs ``svdraw index publish`` until it ends. If this is cancelled, the child and all its children are killed.

    A kill at any moment leaves the gallery as it was, or with the new base.

    Raises:
        GalleryError: if the child fails; the message is the last line that it wrote.
    """
    process = await anyio.open_process(
        _command(gallery),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    result = "killed"
    metrics.base_builds_running.inc()
    try:
        _lower_priority(process.pid)
        message = await _last_line(process.stderr)
        result = "failed" if await process.wait() else "succeeded"
    finally:
        metrics.base_builds_running.dec()
        metrics.base_builds.labels(result).inc()
        await _end(process)
    if result == "failed":
        raise GalleryError(f"a new base of {gallery} could not be built: {message or f'status {process.returncode}'}")


def _command(gallery: Path) -> list[str]:
    # -P: a file in the folder where the service was started must not take the place of a package
    return [sys.executable, "-P", "-m", "index", "publish", "--gallery", str(gallery)]


def _lower_priority(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, pid, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


async def _last_line(stream: ByteReceiveStream | None) -> str:
    text = b""
    if stream is not None:
        async for part in stream:
            text = (text + part)[-_KEPT:]
    lines = text.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.aclose()
