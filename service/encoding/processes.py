"""Decoders: processes that the service hands images to, one at a time, and may kill at any moment."""

import array
import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from functools import cache

from service.encoding.messages import Header, receive, send
from service.encoding.nursery import ANSWER, END, FORK, REQUEST
from service.http.metrics import Metrics

__all__ = ["DecoderProcess", "DecoderProcesses", "prepare"]

_NICENESS = 10  # of a decoder that takes long
_SECONDS = 30.0  # in which a decoder takes or gives a message that is ready, and the nursery answers
_SINGLE = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")  # forking wants one thread


class DecoderProcess:
    """A decoder, which has at most one image at a time.

    Attributes:
        is_slow: whether it runs at low priority, from which it cannot come back.
        is_last: whether it ends after this image.
    """

    def __init__(self, nursery: "_Nursery", pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.is_slow = self.is_last = False
        self._nursery = nursery
        self._connection = connection
        self._connection.settimeout(_SECONDS)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def send(self, header: Header, content: bytes) -> None:
        """Hands it an image and what to do with it.

        Raises:
            OSError: if it has ended.
        """
        send(self._connection, header, content)

    def is_ready(self, seconds: float) -> bool:
        """Waits until it has answered, or has ended; returns whether it has."""
        return bool(self._poll.poll(max(0.0, 1000 * seconds)))

    def receive(self) -> tuple[Header, bytes]:
        """What it answers.

        Raises:
            EOFError: if it has ended.
            OSError: likewise.
        """
        answer, content = receive(self._connection)
        self.is_last = bool(answer.pop("last"))
        return answer, content

    def slow_down(self) -> None:
        """Lets others go first."""
        self.is_slow = True
        try:
            os.setpriority(os.PRIO_PROCESS, self.pid, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
        except ProcessLookupError:  # it has ended, and its answer says so
            return

    def kill(self) -> int:
        """Kills it if it still runs; returns the signal that ended it, 0 if none did."""
        return self._nursery.end(self.pid)

    def close(self) -> None:
        """Closes the connection, which no other thread may be using."""
        self._connection.close()


class DecoderProcesses:
    """Decoders that wait for an image. It may be used from many threads.

    Args:
        metrics: metrics that count decoders.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._all: set[DecoderProcess] = set()
        self._idle: list[DecoderProcess] = []
        self._closed = False
        weakref.finalize(self, _end_all, self._all)

    def take(self, *, new: bool = False) -> DecoderProcess:
        """A decoder that waits for an image; a new one if there is none.

        Args:
            new: take a new one anyhow.

        Raises:
            OSError: if none can be started.
            RuntimeError: if the decoders are closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the decoders are closed")
            if self._idle and not new:
                return self._idle.pop()
        process = _nursery().fork()
        with self._lock:
            if not self._closed:
                self._all.add(process)
                self._metrics.decoders.set(len(self._all))
                self._metrics.decoder_starts.inc()
                return process
        process.kill()
        process.close()
        raise RuntimeError("the decoders are closed")

    def give_back(self, process: DecoderProcess) -> None:
        """Lets a decoder that has answered wait for the next image, if it is to serve another one."""
        with self._lock:
            if not (self._closed or process.is_slow or process.is_last):
                self._idle.append(process)
                return
        self.end(process)

    def end(self, process: DecoderProcess) -> int:
        """Ends a decoder; returns the signal that ended it, 0 if none did."""
        with self._lock:
            self._all.discard(process)
            self._metrics.decoders.set(len(self._all))
        try:
            return process.kill()
        finally:
            process.close()

    def close(self) -> None:
        """Kills all decoders, whatever they are doing."""
        with self._lock:
            self._closed = True
            for process in self._all:
                process.kill()
            for process in self._idle:  # the others are closed by the threads that wait for them
                process.close()
            self._idle.clear()
            self._all.clear()
            self._metrics.decoders.set(0)


def prepare() -> None:
    """Starts the program that forks decoders without waiting for it, so that it loads while other things do.

    Raises:
        OSError: if it cannot be started.
    """
    _nursery().start()


def _end_all(processes: set[DecoderProcess]) -> None:
    while processes:
        process = processes.pop()
        process.kill()
        process.close()


class _Nursery:
    """The program that forks decoders. It is started again if it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._pids: set[int] = set()

    def start(self) -> None:
        with self._lock:
            self._started()

    def fork(self) -> DecoderProcess:
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                pid = self._ask(FORK, 0, theirs)
            except (OSError, EOFError):  # somebody has killed it
                self._stop()
                try:
                    pid = self._ask(FORK, 0, theirs)
                except BaseException:
                    ours.close()
                    raise
            if pid < 0:
                ours.close()
                raise OSError(-pid, f"no decoder can be started: {os.strerror(-pid)}")
            self._pids.add(pid)
        return DecoderProcess(self, pid, ours)

    def end(self, pid: int) -> int:
        with self._lock:
            if pid not in self._pids:  # it has ended with the program that forked it
                return signal.SIGKILL
            self._pids.discard(pid)
            try:
                status = self._ask(END, pid)
            except (OSError, EOFError):
                self._stop()
                return signal.SIGKILL
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _ask(self, command: int, number: int, passed: socket.socket | None = None) -> int:
        control = self._started()
        rights = [] if passed is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed.fileno()]))]
        control.sendmsg([REQUEST.pack(command, number)], rights)
        answer = control.recv(ANSWER.size, socket.MSG_WAITALL)
        if len(answer) < ANSWER.size:
            raise EOFError("the program that forks decoders has ended")
        return int(ANSWER.unpack(answer)[0])

    def _started(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair()
            # -P: a file in the folder where the service was started must not take the place of a package
            command = [sys.executable, "-P", "-m", "service.encoding.nursery", str(theirs.fileno())]
            try:
                with theirs:
                    self._program = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                        start_new_session=True,
                        env=os.environ | dict.fromkeys(_SINGLE, "1"),
                    )
            except BaseException:
                ours.close()
                raise
            ours.settimeout(_SECONDS)
            self._control = ours
        return self._control

    def _stop(self) -> None:
        self._pids.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._program is not None:
            self._program.kill()
            self._program.wait()
            self._program = None


@cache
def _nursery() -> _Nursery:
    """The one of this process."""
    nursery = _Nursery()
    atexit.register(nursery.close)
    return nursery
