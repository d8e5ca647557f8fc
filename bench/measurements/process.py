"""What a measurement needs to know of processes and clocks."""

import ctypes
import gc
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = ["cpu_seconds", "latencies_ms", "peak_memory", "private_memory", "rate", "resident_memory"]


def resident_memory() -> int:
    """Bytes of this process in memory, mapped files included, once it has given back what it can."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_memory() -> int:
    """The most bytes that this process ever had in memory, mapped files included."""
    return _status("self", "VmHWM")


def private_memory(pid: int) -> int:
    """Bytes of a process in memory, without the pages of files that the system may drop."""
    return _status(str(pid), "RssAnon")


def _status(process: str, field: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(dict(line.split(":", 1) for line in lines)[field].split()[0])


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and all its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def latencies_ms(call: Callable[[int], object], count: int) -> np.ndarray:
    """Milliseconds of ``call(0)``, ``call(1)`` and so on, one after the other, ``(count,)``."""
    times = np.empty(count)
    for number in range(count):
        started = time.perf_counter()
        call(number)
        times[number] = 1000 * (time.perf_counter() - started)
    return times


def rate(call: Callable[[], object], seconds: float) -> float:
    """Calls a second, over at least so many seconds and one call, after one that is not counted."""
    call()
    done, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds or not done:
        call()
        done += 1
    return done / passed
