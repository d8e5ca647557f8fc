"""Starts services and jobs within milliseconds: a process of its own imports everything once, and forks itself.

The process of the tests has threads and must not be forked. This file is also what that other process runs.
"""

import json
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parent.parent.parent


class Child:
    """A process that the nursery started; it leads a group, which its own children belong to."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    def kill(self) -> None:
        """Ends the process without warning, and waits until it has ended."""
        self._send(signal.SIGKILL)
        self.wait(60)

    def stop(self) -> None:
        """Asks the process to end, and waits until it has."""
        self._send(signal.SIGTERM)
        assert self.wait(60), "the process did not end when it was asked to"

    def wait(self, seconds: float) -> bool:
        """Waits until the process has ended; returns whether it has."""
        return bool(select.select([self._handle], [], [], seconds)[0])

    def is_alive(self) -> bool:
        return not self.wait(0)

    def _send(self, number: signal.Signals) -> None:
        if self.is_alive():
            signal.pidfd_send_signal(self._handle, number)


class Nursery:
    """Starts processes of the project until the block ends, which kills those that still run."""

    def __enter__(self) -> Self:
        self._children: list[Child] = []
        command = [sys.executable, "-m", "tests.hostile.nursery"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.kill()
        self._process.communicate()

    def start(self, work: str, log: Path, **options: Any) -> Child:
        """Starts a piece of work, one of ``WORK``, whose output goes to a file.

        Args:
            work: its name.
            log: file to append its output to.
            options: what it takes; they have to be JSON.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"work": work, "log": str(log), "options": options}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        child = Child(int(self._process.stdout.readline()))
        self._children.append(child)
        return child


def serve(**options: Any) -> None:
    from service.server import serve
    from service.settings import ServiceSettings

    serve(settings=ServiceSettings(**options))


def compact(gallery: str) -> None:
    from index.gallery.directory import Gallery
    from index.jobs import compact

    with closing(Gallery.open(Path(gallery), write=True)) as opened:
        compact(opened)


def publish(gallery: str) -> None:
    from index.gallery.directory import Gallery

    with closing(Gallery.open(Path(gallery), write=True)) as opened, opened.writing():
        opened.publish()


def add(gallery: str, photos: str) -> None:
    from index.gallery.directory import Gallery
    from index.jobs import index_photos
    from index.sources import list_photos

    with closing(Gallery.open(Path(gallery), write=True)) as opened:
        index_photos(opened, list_photos(Path(photos)), "cpu")


WORK: dict[str, Callable[..., None]] = {function.__name__: function for function in (serve, compact, publish, add)}


def _run(order: dict[str, Any]) -> None:
    """What a forked process does."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    with Path(order["log"]).open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.close(0)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    WORK[order["work"]](**order["options"])


def _main() -> None:
    import index.jobs  # noqa: F401 - so that the processes forked from this one have them already
    import service.server  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for the exit status
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            _run(json.loads(line))
            return
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    os._exit(0)  # without the seconds that the interpreter takes to put everything away


if __name__ == "__main__":
    _main()
