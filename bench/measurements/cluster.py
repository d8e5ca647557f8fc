"""What ``bench/cluster.py`` measures: an embedding job on a cluster, undisturbed and disturbed."""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import parquet

from measurements.command import BenchmarkError
from measurements.nodes import Cluster, command, kill_node, parts_by_node, started_cluster
from training.model.images import IMAGE_SUFFIXES
from training.model.starter import STARTER_MODEL

__all__ = ["measure_cluster"]

_PAUSE = 0.05  # seconds between two looks at the parts


def measure_cluster(options: Namespace) -> None:
    """Runs the jobs, and prints and writes the figures.

    Raises:
        BenchmarkError: if a job fails, or the parts of the cluster are not those of one process.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        broken = _copy_photos(options, root / "photos")
        words = ["index", "embed", "--photos", root / "photos", "--model", options.model or STARTER_MODEL]
        words += ["--part-size", options.part_size, "--device", "cpu"]
        report: dict[str, Any] = {"photos": options.count, "broken": broken, "cores": os.cpu_count()}
        report["seconds alone"] = _seconds([*words, "--out", root / "alone"], os.environ.copy())
        with started_cluster(2, 1) as cluster:
            on_cluster = [*words, "--ray", cluster.address]
            report["seconds, two actors"] = _seconds([*on_cluster, "--out", root / "two"], cluster.environment)
        with started_cluster(2, 2) as cluster:
            on_cluster = [*words, "--ray", cluster.address, "--out", root / "disturbed"]
            report["disturbed"] = _disturbed(cluster, on_cluster, root / "disturbed")
        for name in ("two", "disturbed"):
            report[f"largest difference, {name}"] = _difference(root / "alone", root / name, options.count, broken)
    report["throughput, two actors / alone"] = report["seconds alone"] / report["seconds, two actors"]
    text = json.dumps(report, indent=2, default=lambda value: round(float(value), 9))
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def _copy_photos(options: Namespace, folder: Path) -> int:
    """Copies photos, and cuts off every so-manieth; returns how many were."""
    files = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise BenchmarkError(f"{options.photos} has no photos")
    folder.mkdir()
    broken = round(options.broken * options.count)
    for number, path in enumerate(itertools.islice(itertools.cycle(files), options.count)):
        target = folder / f"{number:06d}{path.suffix}"
        shutil.copyfile(path, target)
        if number * broken // options.count != (number + 1) * broken // options.count:
            os.truncate(target, 100)
    return broken


def _seconds(words: list[object], environment: dict[str, str]) -> float:
    started = time.monotonic()
    _finish(words, environment)
    return time.monotonic() - started


def _finish(words: list[object], environment: dict[str, str]) -> None:
    done = subprocess.run(command(*words), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"a job has failed: {done.stderr[-1000:]}")


def _disturbed(cluster: Cluster, words: list[object], parts: Path) -> dict[str, int]:
    """A job that loses a node and then its command, and is run again; the numbers of parts at these times."""
    with subprocess.Popen(command(*words), env=cluster.environment, stderr=subprocess.DEVNULL) as job:
        _await(job, lambda: min(parts_by_node(parts)) > 0)
        kill_node(cluster.nodes[1])
        first = sum(parts_by_node(parts))
        _await(job, lambda: sum(parts_by_node(parts)) > first + 5)
        job.kill()
    second = sum(parts_by_node(parts))
    _finish(words, cluster.environment)
    return {"node killed": first, "command killed": second, "in the end": sum(parts_by_node(parts))}


def _await(job: subprocess.Popen[bytes], is_there: Callable[[], bool]) -> None:
    while not is_there():
        if job.poll() is not None:
            raise BenchmarkError("the job has ended too soon; take more photos")
        time.sleep(_PAUSE)


def _difference(expected: Path, found: Path, count: int, broken: int) -> float:
    """The largest difference between vectors, after a look whether every photo is there once."""
    one, other = _rows(expected), _rows(found)
    rejected = [uri for uri, row in other if row is None]
    if [uri for uri, _ in one] != [uri for uri, _ in other] or len(other) != count or len(rejected) != broken:
        raise BenchmarkError(f"{found}: {len(other)} rows, {len(rejected)} of them rejected")
    pairs = zip(one, other, strict=True)
    return max(float(np.abs(np.subtract(a, b)).max()) for (_, a), (_, b) in pairs if a is not None and b is not None)


def _rows(parts: Path) -> list[tuple[str, list[float] | None]]:
    tables = [parquet.read_table(part, columns=["uri", "vector"]) for part in parts.glob("part-*")]
    return sorted(
        ((row["uri"], row["vector"]) for table in tables for row in table.to_pylist()), key=lambda row: row[0]
    )
