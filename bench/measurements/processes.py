"""Services of several processes; see bench/processes.py."""

import asyncio
import json
import os
import random
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from measurements.command import BenchmarkError
from measurements.http_load import search_request, send_many
from measurements.process import cpu_seconds, family, shared_memory
from measurements.running_service import KEY, service
from measurements.vectors import image_files

__all__ = ["measure_processes"]

WARM_UP = 3.0  # seconds


def measure_processes(options: Namespace) -> None:
    """Runs services in turns, and prints the figures as JSON."""
    files = image_files(options.sketches)
    chosen = random.Random(0).sample(files, min(200, len(files)))
    requests = [search_request(file.read_bytes(), KEY) for file in chosen]
    rows: dict[int, list[dict[str, Any]]] = {count: [] for count in options.processes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gallery = shutil.copytree(options.gallery, folder / "gallery")
        for _ in range(options.rounds):
            for count in options.processes:
                with service(gallery, folder, processes=count) as running:
                    rows[count].append(_figures(running.url, running.pid, requests, options))
    report = {"cores": os.cpu_count(), "clients": options.clients, "rounds": rows, "median": _medians(rows)}
    text = json.dumps(report, indent=2, default=lambda value: round(float(value), 3))
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def _figures(url: str, pid: int, requests: Sequence[bytes], options: Namespace) -> dict[str, Any]:
    asyncio.run(send_many(url, requests, options.clients, WARM_UP))
    before = cpu_seconds(pid)
    log = asyncio.run(send_many(url, requests, options.clients, options.seconds))
    spent = cpu_seconds(pid) - before
    times = [1000 * answer.seconds for answer in log if answer.status == 200]
    if len(times) < len(log) or not times:
        raise BenchmarkError(f"{len(log) - len(times)} of {len(log)} searches failed")
    return {
        "per_second": len(times) / options.seconds,
        "cpu_ms": 1000 * spent / len(times),
        "p50_ms": np.percentile(times, 50),
        "p99_ms": np.percentile(times, 99),
        "memory_mb": sum(map(shared_memory, family(pid))) / 1024**2,
    }


def _medians(rows: dict[int, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    return {
        str(count): {name: float(np.median([row[name] for row in some])) for name in some[0]}
        for count, some in rows.items()
    }
