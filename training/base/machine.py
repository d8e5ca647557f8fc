"""What of the machine this process may use: a container's limits count, where they are lower than what there is."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

__all__ = ["memory_limit", "processors"]

_ROOT = Path("/")


def memory_limit(root: Path = _ROOT) -> int:
    """Bytes of memory that this process may use: the machine's, or the smallest limit of a control group around it.

    Args:
        root: of the file system with ``proc`` and ``sys``.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min([machine, *_limits(root, "memory", _memory_v2, _memory_v1)]))


def processors(root: Path = _ROOT) -> int:
    """Processors that this process may keep busy, at least 1: those it may run on, or a control group's share of time.

    A share that is no whole number of processors is rounded up.

    Args:
        root: of the file system with ``proc`` and ``sys``.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([allowed, *_limits(root, "cpu", _processors_v2, _processors_v1)])))


def _limits(
    root: Path,
    controller: str,
    read_v2: Callable[[Path], float | None],
    read_v1: Callable[[Path], float | None],
) -> Iterator[float]:
    """The limits of the control groups that this process is in, of version 2 and of version 1."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, group = line.split(":", 2)
        if not names:
            folders, read = [mount, mount / "unified"], read_v2
        elif controller in names.split(","):
            folders, read = [mount / names, mount / controller], read_v1
        else:
            continue
        for folder in folders:
            for path in _upwards(folder, group):
                if (limit := read(path)) is not None:
                    yield limit


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """Folders of a control group and all around it; in a container only the outermost may be there."""
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _memory_v2(group: Path) -> float | None:
    return _number(_read(group / "memory.max"))


def _memory_v1(group: Path) -> float | None:
    return _number(_read(group / "memory.limit_in_bytes"))  # without a limit it is larger than any memory


def _processors_v2(group: Path) -> float | None:
    quota, _, period = _read(group / "cpu.max").partition(" ")
    return _share(_number(quota), _number(period))


def _processors_v1(group: Path) -> float | None:
    return _share(_number(_read(group / "cpu.cfs_quota_us")), _number(_read(group / "cpu.cfs_period_us")))


def _share(quota: float | None, period: float | None) -> float | None:
    return quota / period if quota and period else None


def _number(text: str) -> float | None:
    """A number that is a limit; ``max`` and -1 are none."""
    text = text.strip()
    return int(text) if text.isdecimal() else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # no control groups here, or none of this kind
        return ""
