"""A program that forks decoders: processes that decode one image after another within limits, and may be killed.

The service has threads, so it must not fork. It starts this program once, which loads what decoders need and then only
forks: a new decoder is ready in milliseconds and shares most of its memory. All of them end with the service, however
that ends: the program when its socket closes, and the decoders with the program.

Over the socket come requests of 8 bytes, a command and a number, each answered by 4 bytes:

    FORK    with a socket: forks a decoder that serves it; the answer is the process's id, or minus the error's number
    END     and an id: kills that process if it still runs; the answer is its status, as ``os.waitpid`` gives it
"""

import ctypes
import gc
import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from service.encoding.messages import receive, send
from service.encoding.pictures import Task, perform

__all__ = ["ANSWER", "END", "FORK", "REQUEST"]

REQUEST = struct.Struct("!ii")
ANSWER = struct.Struct("!i")
FORK, END = 1, 2

_OPTIONAL = ("pi_heif", "pillow_jxl", "rawpy", "resvg_py")
_LIFETIME = 1000  # images that a decoder serves, lest a leak in a library fills its memory
_HARMLESS = 1000  # what the system adds to a decoder's badness when memory runs out: it goes first
_PR_SET_PDEATHSIG = 1


def _main() -> None:
    for name in (signal.SIGINT, signal.SIGTERM):  # the service says when to end
        signal.signal(name, signal.SIG_IGN)
    Image.init()
    for package in _OPTIONAL:
        if find_spec(package) is not None:
            import_module(package)
    gc.collect()
    gc.freeze()  # so that the collector does not touch, and thereby copy, what is shared
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _answer(control)


def _answer(control: socket.socket) -> None:
    children: set[int] = set()
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, 1)
        if len(request) < REQUEST.size:
            return
        command, pid = REQUEST.unpack(request)
        if command == FORK:
            answer = _fork(control, descriptors[0])
            if answer > 0:
                children.add(answer)
        else:
            answer = _end(pid) if pid in children else 0
            children.discard(pid)
        control.sendall(ANSWER.pack(answer))


def _fork(control: socket.socket, descriptor: int) -> int:
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(descriptor)
        return -(error.errno or 1)
    if pid:
        os.close(descriptor)
        return pid
    status = 1
    try:
        control.close()
        _confine(parent)
        with socket.socket(fileno=descriptor) as connection:
            _serve(connection)
        status = 0
    finally:
        os._exit(status)


def _end(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)  # it is not yet waited for, so the id is still its own
    return os.waitpid(pid, 0)[1]


def _confine(parent: int) -> None:
    """Binds a decoder to its parent, and takes from it what it does not need."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended before this
            os._exit(1)
    with suppress(OSError):  # where there is no such file, nothing is lost
        Path("/proc/self/oom_score_adj").write_text(str(_HARMLESS))
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # libraries write warnings about images there
        os.dup2(nothing, standard)
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))


def _serve(connection: socket.socket) -> None:
    own = _data_bytes()
    for number in range(1, _LIFETIME + 1):
        try:
            header, content = receive(connection)
        except (EOFError, ConnectionError):
            return
        task = Task.from_header(header)
        _limit_memory(own + len(content) + task.memory)
        signal.setitimer(signal.ITIMER_PROF, task.seconds)  # then SIGPROF ends the process, whatever it is doing
        answer, result = perform(task, content)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _limit_memory(resource.RLIM_INFINITY)
        is_last = number == _LIFETIME or answer.get("error") == "memory"  # which may be a leak's doing
        del content
        send(connection, answer | {"last": is_last}, result)


def _data_bytes() -> int:
    """Bytes of memory that count towards ``RLIMIT_DATA`` already."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:  # another system, which counts otherwise
        return 0
    return pages * resource.getpagesize()


def _limit_memory(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (size, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    _main()
