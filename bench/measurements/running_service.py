"""Starts a service for a benchmark and stops it afterwards."""

import hashlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from measurements.command import BenchmarkError

__all__ = ["KEY", "RunningService", "service"]

KEY = "a-key-for-the-benchmark"


class RunningService(NamedTuple):
    """The address and the process of a service."""

    url: str
    pid: int

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.url.rsplit(":", 1)[1])


@contextmanager
def service(gallery: Path, folder: Path, **options: object) -> Iterator[RunningService]:
    """Serves a gallery with these options until the block ends; log and keys are written to a folder."""
    keys = folder / "keys"
    keys.write_text(f"bench write {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    with socket.socket() as held:  # not listening: nobody else gets the port, and the service can listen at it
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        command = [sys.executable, "-m", "service", f"--gallery={gallery}", f"--port={port}", f"--keys={keys}", *flags]
        with (folder / "service.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, folder / "service.log")
            yield RunningService(url, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:  # it hangs, as an attack may have it do
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise BenchmarkError(f"the service did not start: {log.read_text().strip()[-500:]}")
