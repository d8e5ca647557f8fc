"""Memory, processor time and latency of processes, for measurements."""

import ctypes
import gc
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = [
    "cpu_seconds",
    "family",
    "latencies_ms",
    "peak_memory",
    "private_memory",
    "rate",
    "resident_memory",
    "shared_memory",
]


def resident_memory() -> int:
    """Memory of this process in bytes, including mapped files, after it has released all that it can."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_memory() -> int:
    """Peak memory of this process in bytes, including mapped files."""
    return _status("self", "VmHWM")


def private_memory(pid: int, *, descendants: bool = False) -> int:
    """Memory of a process in bytes, without pages of files that the system may drop; on request with its children's."""
    own = _status(str(pid), "RssAnon")
    return own + (sum(map(_memory_if_alive, _descendants(pid))) if descendants else 0)


def _memory_if_alive(pid: int) -> int:
    try:
        return _status(str(pid), "RssAnon")
    except (FileNotFoundError, ProcessLookupError, KeyError):  # it has just ended
        return 0


def _descendants(pid: int) -> list[int]:
    try:
        files = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):  # a thread or the process has just ended
        return []
    children = [int(word) for text in files for word in text.split()]
    return children + [each for child in children for each in _descendants(child)]


def _status(process: str, field: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(dict(line.split(":", 1) for line in lines)[field].split()[0])


def cpu_seconds(pid: int) -> float:
    """Processor time so far of a process with its threads, and of all processes below it that run, in seconds."""
    total = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all below it."""
    below = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    return [pid, *(each for child in below for each in family(child))]


def shared_memory(pid: int) -> int:
    """Memory of a process in bytes; what several processes share is divided by their number."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return 1024 * int(dict(line.split(":", 1) for line in lines)["Pss"].split()[0])


def latencies_ms(call: Callable[[int], object], count: int) -> np.ndarray:
    """Milliseconds of ``call(0)``, ``call(1)`` and so on, one after the other, ``(count,)``."""
    times = np.empty(count)
    for number in range(count):
        started = time.perf_counter()
        call(number)
        times[number] = 1000 * (time.perf_counter() - started)
    return times


def rate(call: Callable[[], object], seconds: float) -> float:
    """Calls per second, measured over at least ``seconds`` seconds and one call, after an uncounted first call."""
    call()
    done, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds or not done:
        call()
        done += 1
    return done / passed
