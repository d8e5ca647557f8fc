"""Honest clients beside attackers; see bench/attacks.py."""

import asyncio
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from measurements.attackers import ATTACKS, attack
from measurements.command import BenchmarkError
from measurements.hostile_files import huge_photo
from measurements.http_load import Answer, search_request, send_until
from measurements.process import private_memory
from measurements.running_service import KEY, RunningService, service
from measurements.vectors import image_files

__all__ = ["measure_attacks"]

PATIENCE = 20.0  # seconds that honest clients wait for an answer
_HEAD = (
    "| attack | searches that succeeded | p50, ms | p99, ms | ratios | memory, MB | answers again after, s |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)
HUGE = 4  # photos that are costly to scale down


def measure_attacks(options: Namespace) -> None:
    """Runs the attacks, prints a table, and writes the figures as JSON.

    Raises:
        BenchmarkError: if there is no such attack.
    """
    names = options.attacks or list(ATTACKS)
    if unknown := sorted(set(names) - set(ATTACKS)):
        raise BenchmarkError(f"no attack is called {unknown[0]!r}; there are: {', '.join(ATTACKS)}")
    files = image_files(options.sketches)
    sketches = [file.read_bytes() for file in random.Random(0).sample(files, min(200, len(files)))]
    requests = [search_request(sketch, "") for sketch in sketches]
    rows = []
    print(_HEAD, flush=True)
    with tempfile.TemporaryDirectory() as name:
        gallery = shutil.copytree(options.gallery, Path(name) / "gallery")
        for each in names:
            with service(gallery, Path(name), anonymous="read") as running:  # so that each finds it as the first did
                rows.append(_beside(each, running, requests, options.clients, options.seconds))
            print(_line(rows[-1]), flush=True)
            if options.json:
                report = {"cores": os.cpu_count(), "clients": options.clients, "seconds": options.seconds}
                options.json.write_text(json.dumps(report | {"attacks": rows}, indent=2))


def _beside(
    name: str, running: RunningService, requests: Sequence[bytes], clients: int, seconds: float
) -> dict[str, Any]:
    """Measures the honest clients alone, then beside an attacker."""
    photos = _add_huge(running) if "thumbnails" in name else []
    asyncio.run(_honest(running, requests, clients, 1))
    alone = _figures(asyncio.run(_honest(running, requests, clients, seconds / 3)))
    before = _memory(running)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=attack, args=(name, running.port, photos, there))
    process.start()
    try:
        here.recv()  # the attacker is prepared
        attacked = _figures(asyncio.run(_honest(running, requests, clients, seconds)))
        after = _memory(running)
        here.send("enough")
        counts = here.recv()
    finally:
        process.kill()
        process.join()
    recovery = _recovery(running, requests)
    memory = {"before": before, "during": after, "afterwards": _memory(running)}
    return {
        "attack": name,
        "alone": alone,
        "attacked": attacked,
        "p50_ratio": attacked["p50_ms"] / alone["p50_ms"],
        "p99_ratio": attacked["p99_ms"] / alone["p99_ms"],
        "recovery_s": recovery,
        "memory_mb": memory,
        "attacker": counts,
    }


def _recovery(running: RunningService, requests: Sequence[bytes]) -> float | None:
    """Seconds until a search succeeds again; None if that takes longer than anyone waits."""
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < PATIENCE:
        if _figures(asyncio.run(_honest(running, requests, 1, 0.1)))["succeeded"] == 1:
            return passed
    return None


async def _honest(running: RunningService, requests: Sequence[bytes], clients: int, seconds: float) -> list[Answer]:
    log: list[Answer] = []
    end = time.perf_counter() + seconds
    sending = (
        send_until(running.url, requests, end, log, address=f"127.0.1.{number + 1}", patience=PATIENCE)
        for number in range(clients)
    )
    await asyncio.gather(*sending)
    return log


def _figures(log: Sequence[Answer]) -> dict[str, Any]:
    """Share of searches that succeeded, and the times of all, for one that failed was waited for too."""
    times = 1000 * np.array([answer.seconds for answer in log])
    p50, p99 = np.percentile(times, [50, 99])
    statuses = {str(status): sum(answer.status == status for answer in log) for status in {a.status for a in log}}
    return {
        "requests": len(log),
        "statuses": statuses,
        "succeeded": statuses.get("200", 0) / len(log),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
    }


def _add_huge(running: RunningService) -> list[int]:
    ids = []
    for seed in range(HUGE):
        headers = {"api-key": KEY, "Content-Type": "image/jpeg"}
        added = httpx.post(f"{running.url}/v1/photos", content=huge_photo(seed=seed), headers=headers, timeout=120)
        if added.is_error:
            raise BenchmarkError(f"a huge photo cannot be added: {added.text}")
        ids.append(added.json()["id"])
    return ids


def _memory(running: RunningService) -> float:
    return private_memory(running.pid, descendants=True) / 1024**2


def _line(row: dict[str, Any]) -> str:
    alone, attacked, memory = row["alone"], row["attacked"], row["memory_mb"]
    recovery = row["recovery_s"]
    cells = [
        row["attack"],
        f"{attacked['succeeded']:.1%}",
        f"{alone['p50_ms']:.0f} → {attacked['p50_ms']:.0f}",
        f"{alone['p99_ms']:.0f} → {attacked['p99_ms']:.0f}",
        f"{row['p50_ratio']:.1f}, {row['p99_ratio']:.1f}",
        " → ".join(f"{memory[when]:.0f}" for when in ("before", "during", "afterwards")),
        "never" if recovery is None else f"{recovery:.1f}",
    ]
    return f"| {' | '.join(cells)} |"
