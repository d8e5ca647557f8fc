"""``svdraw serve``: one process, or several that share a port, with a parent that starts and stops them.

The parent loads neither the gallery nor PyTorch. It holds the listening socket, so that no connection is lost while a
process is replaced: the others take what waits. One process, the leader, does for all what is done once: it publishes
live changes and has bases built. It accepts connections from the start; the others do so when it and they can answer.
"""

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from contextlib import closing
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event

from service.errors import ServiceError
from service.http.listening import SharedListener, listen
from service.settings import ServiceSettings
from training.base.command_line import Options, log_to_stderr
from training.base.errors import SvdrawError

__all__ = ["serve"]

logger = logging.getLogger("svdraw.processes")

_FIRST_PAUSE = 0.5  # seconds before a process is replaced; it doubles with every one that ends soon
_LONGEST_PAUSE = 60.0
_SOON = 60.0
_GRACE = 15.0  # seconds beyond those for running requests that a process may take to end
_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads


def serve(*, settings: Options[ServiceSettings]) -> None:
    """Serves until SIGINT or SIGTERM, then lets running requests finish; until the gallery is loaded, requests get 503.

    Raises:
        GalleryError: if the gallery cannot be served.
        AddressInUse: if the port is already in use.
        KeysError: if the file of API keys cannot be used.
        ServiceError: if the service did not start for another reason.
    """
    if settings.processes > 1:
        with tempfile.TemporaryDirectory(prefix="svdraw-metrics-") as folder:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read when prometheus_client is first imported
            os.environ["PYTHONSAFEPATH"] = "1"  # a file in the folder of the start must not take a package's place
            with closing(listen(settings.host, settings.port)) as listener:
                _Family(settings, listener).run()
        return
    from service.server import serve as serve_alone  # it imports PyTorch, which the parent of several does not need

    serve_alone(settings=settings)


class _Member:
    """One of the processes, and those that have taken its place before."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: SpawnProcess | None = None
        self.messages: Connection | None = None
        self.born = 0.0
        self.due = 0.0  # when the next one is started
        self.ended = 0
        self.pause = 0.0


class _Family:
    """The processes of a service."""

    def __init__(self, settings: ServiceSettings, listener: socket.socket) -> None:
        from service.http.metrics import Metrics
        from service.http.observability import JsonFormatter

        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
        self._settings = settings
        self._listener = listener
        self._metrics: Metrics = Metrics()
        self._members = [_Member(number) for number in range(settings.processes)]
        self._leader_is_ready = _SPAWN.Event()

    def run(self) -> None:
        host, port = self._listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        logger.info("%d processes serve %s at %s", len(self._members), self._settings.gallery, address)
        try:
            while True:
                self._start_those_due()
                self._wait()
        except KeyboardInterrupt:  # also SIGTERM
            logger.info("stopping %d processes", len(self._members))
        finally:
            self._stop()

    def _start_those_due(self) -> None:
        for member in self._members:
            if member.process is None and time.monotonic() >= member.due:
                self._start(member)

    def _start(self, member: _Member) -> None:
        member.messages, theirs = _SPAWN.Pipe(duplex=False)
        late = member.number > 0 or member.ended > 0
        arguments = (self._settings, self._listener, theirs, member.number == 0, late, self._leader_is_ready)
        member.process = _SPAWN.Process(target=_serve_share, args=arguments, name=f"svdraw {member.number}")
        member.process.start()
        member.born = time.monotonic()
        theirs.close()

    def _wait(self) -> None:
        """Waits until a process has ended, or is to be started."""
        running = {member.process.sentinel: member for member in self._members if member.process}
        due = [member.due for member in self._members if member.process is None]
        seconds = max(0.0, min(due) - time.monotonic()) if due else None
        for ended in wait(list(running), seconds):
            self._lay_out(running[ended])  # type: ignore[index]

    def _lay_out(self, member: _Member) -> None:
        """Sees what a process has died of, and when the next one is started.

        Raises:
            ServiceError: if it could not begin to serve, and would not a second time.
        """
        assert member.process is not None
        assert member.messages is not None
        member.process.join()
        pid, status = member.process.pid, member.process.exitcode
        problem = _message(member.messages)
        member.process, first = None, member.ended == 0
        self._metrics.bury(pid or 0)
        if problem is not None and first:
            raise ServiceError(problem)
        lived = time.monotonic() - member.born
        member.pause = _FIRST_PAUSE if lived > _SOON or not member.pause else min(2 * member.pause, _LONGEST_PAUSE)
        member.due = time.monotonic() + member.pause
        member.ended += 1
        reason = problem or f"status {status}"
        logger.error("process %d has ended (%s); another starts in %g s", member.number, reason, member.pause)

    def _stop(self) -> None:
        """Has every process finish its requests, and kills those that do not end."""
        running = [member.process for member in self._members if member.process]
        for process in running:
            process.terminate()
        end = time.monotonic() + self._settings.drain_seconds + _GRACE
        for process in running:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                logger.error("%s does not end, and is killed", process.name)
                process.kill()
                process.join()


def _message(messages: Connection) -> str | None:
    """What a process has said was wrong before it ended."""
    with messages:
        try:
            return str(messages.recv()) if messages.poll() else None
        except EOFError:
            return None


def _serve_share(
    settings: ServiceSettings,
    listener: socket.socket,
    messages: Connection,
    leads: bool,
    late: bool,
    leader_is_ready: Event,
) -> None:
    """What each process does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    log_to_stderr()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        from service.server import serve_share

        shared = SharedListener(listener.family, listener.type, listener.proto, fileno=listener.detach())
        serve_share(settings, shared, leads=leads, late=late, leader_is_ready=leader_is_ready)
    except KeyboardInterrupt:
        return
    except SvdrawError as error:
        messages.send(str(error))
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    """Stops this process like its parent would, if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
