import os

import pytest

from training.base.machine import memory_limit, processors

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
GB = 2**30
NO_LIMIT = 0x7FFFFFFFFFFFF000  # what version 1 says


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)


def tree(root, groups, **files):
    """A file system: the lines of /proc/self/cgroup, and control files below /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{n}": t for n, t in files.items()}}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"memory.max": "1000000"}, 1_000_000),
        ("0::/", {"memory.max": "max"}, MACHINE),
        ("0::/", {"memory.max": str(2**62)}, MACHINE),
        ("0::/a/b", {"memory.max": "max", "a/memory.max": "3000", "a/b/memory.max": "5000"}, 3000),
        ("0::/a/b", {"memory.max": "max", "a/memory.max": "5000", "a/b/memory.max": "3000"}, 3000),
        ("0::/a/b", {"a/memory.max": "max", "a/b/memory.max": "max", "other/memory.max": "7"}, MACHINE),
        ("0::/system.slice/docker-1f.scope", {"memory.max": "4000"}, 4000),  # of the host, of which nothing is seen
        ("0::/../outside", {"memory.max": "4000"}, 4000),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "6000"}, 6000),
        ("4:memory:/", {"memory/memory.limit_in_bytes": str(NO_LIMIT)}, MACHINE),
        (
            "5:cpu,cpuacct:/x\n4:memory:/a/b",
            {
                "memory/memory.limit_in_bytes": str(NO_LIMIT),
                "memory/a/memory.limit_in_bytes": "3000",
                "memory/a/b/memory.limit_in_bytes": "5000",
                "memory/x/memory.limit_in_bytes": "7",
            },
            3000,
        ),
        ("4:memory:/docker/1f", {"memory/memory.limit_in_bytes": "6000"}, 6000),
        ("1:name=systemd:/a\n0::/a", {"unified/a/memory.max": "8000"}, 8000),
        ("3:cpuset:/a", {"a/memory.max": "9000"}, MACHINE),
    ],
)
def test_the_smallest_limit_around_the_process_counts(tmp_path, groups, files, expected):
    assert memory_limit(tree(tmp_path, groups, **files)) == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "10000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "30000 10000", "a/b/cpu.max": "50000 10000"}, 3),
        ("0::/docker/1f", {"cpu.max": "400000 100000"}, 4),
        ("4:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpuacct,cpu:/a", {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "50000"}, 4),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("1:cpuset:/", {"cpu.max": "100000 100000", "cpu/cpu.cfs_quota_us": "100000"}, 8),
    ],
)
def test_shares_of_processors_are_rounded_up(tmp_path, groups, files, expected):
    assert processors(tree(tmp_path, groups, **files)) == expected


def test_no_control_groups(tmp_path):
    assert (memory_limit(tmp_path), processors(tmp_path)) == (MACHINE, 8)


def test_this_machine():
    assert 0 < memory_limit() <= MACHINE
    assert 1 <= processors() <= 8
