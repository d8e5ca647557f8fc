"""The phases of a load test; see bench/service_load.py."""

import asyncio
import io
import json
import os
import random
import shutil
import tempfile
import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from measurements.bare_encoder import BareEncoder
from measurements.command import BenchmarkError
from measurements.decoders import measure_decoders
from measurements.http_load import Answer, search_request, send_many, send_until
from measurements.process import cpu_seconds, private_memory
from measurements.running_service import KEY, RunningService, service
from measurements.vectors import image_files

__all__ = ["answer_figures", "measure_service"]

ROUNDS = 4
FLOODS = 5


def measure_service(options: Namespace) -> None:
    """Runs the phases that were chosen and prints their figures as JSON."""
    files = image_files(options.sketches)
    sketches = [file.read_bytes() for file in random.Random(0).sample(files, min(200, len(files)))]
    requests = [search_request(sketch, KEY) for sketch in sketches]
    clients, seconds, phases = options.clients, options.seconds, options.phases
    report: dict[str, Any] = {"cores": os.cpu_count(), "clients": clients, "seconds": seconds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gallery = shutil.copytree(options.gallery, folder / "gallery")
        if {"load", "swap", "soak"}.intersection(phases):
            with service(gallery, folder, live_changes=20) as running:
                _send(running, requests, clients, 2)
                if "load" in phases:
                    report["load"] = _load(BareEncoder(gallery), running, sketches, clients, seconds)
                if "swap" in phases:
                    report["swap"] = asyncio.run(_swap(running, requests, clients, seconds / 3))
                if "soak" in phases:
                    report["soak"] = _soak(running, requests, clients, options.soak, options.plot)
        if "decoders" in phases:
            report["decoders"] = measure_decoders(gallery, sketches)
        if "flood" in phases:
            with service(gallery, folder, max_concurrent=16) as running:
                _send(running, requests, 8, 2)
                report["flood"] = _flood(running, sketches, options.flood)
    print(json.dumps(report, indent=2, default=lambda value: round(float(value), 3)))


def answer_figures(log: Sequence[Answer], seconds: float) -> dict[str, Any]:
    statuses = Counter(str(answer.status) for answer in log)
    good = [answer for answer in log if answer.status == 200]
    if not good:
        raise BenchmarkError(f"no search was answered; statuses of all: {dict(statuses)}")
    times = 1000 * np.array([answer.seconds for answer in good])
    elsewhere = [sum(answer.stages[name] for name in ("queue", "encode", "search")) for answer in good]
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "requests": len(log),
        "statuses": dict(statuses),
        "per_second": len(good) / seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "p99_over_p50": p99 / p50,
        "beyond_queue_encode_search_p50_ms": float(np.median(times - elsewhere)),
        "stages_p50_ms": {name: np.median([answer.stages[name] for answer in good]) for name in good[0].stages},
    }


def _send(running: RunningService, requests: Sequence[bytes], clients: int, seconds: float) -> dict[str, Any]:
    cpu = cpu_seconds(running.pid)
    log = asyncio.run(send_many(running.url, requests, clients, seconds))
    return answer_figures(log, seconds) | {"cpu_ms": 1000 * (cpu_seconds(running.pid) - cpu) / len(log)}


def _load(
    encoder: BareEncoder, running: RunningService, sketches: list[bytes], clients: int, seconds: float
) -> dict[str, Any]:
    """Measures the encoder alone and the service in turns, so that other work on the machine affects both equally."""
    requests = [search_request(sketch, KEY) for sketch in sketches]
    encoder.throughput(sketches, 1)
    rounds = []
    for _ in range(ROUNDS):
        bare = encoder.throughput(sketches, seconds / ROUNDS)
        rounds.append({"bare": bare, "service": _send(running, requests, clients, seconds / ROUNDS)})
    alternatives = encoder.alternatives(sketches, seconds / 16)
    share = [row["service"]["per_second"] / row["bare"]["per_second"] for row in rounds]
    return {
        "rounds": rounds,
        "of_bare_encoder": np.median(share),
        "of_pytorch_one_by_one": np.median([row["service"]["per_second"] for row in rounds]) / alternatives["pytorch"],
        "encoder_otherwise_per_second": alternatives,
        "one_client": _send(running, requests, 1, seconds / 8),
    }


async def _change_until(client: httpx.AsyncClient, end: float, outcome: Counter[str]) -> None:
    number = 0
    while time.perf_counter() < end:
        number += 1
        buffer = io.BytesIO()
        noise = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(buffer, "PNG")
        added = await client.post("/v1/photos", content=buffer.getvalue(), headers={"Content-Type": "image/png"})
        outcome[f"add {added.status_code}"] += 1
        identifier = added.json()["id"]
        found = await client.post("/v1/search", json={"photo_id": 1, "limit": 1000})
        again = await client.post("/v1/search", json={"photo_id": identifier, "limit": 1})
        outcome["found at once"] += again.status_code == 200
        outcome["listed at once"] += identifier in [result["id"] for result in found.json()["results"]]
        if number % 2:
            removed = await client.delete(f"/v1/photos/{identifier}")
            outcome[f"remove {removed.status_code}"] += 1
        if number % 5 == 0:
            outcome[f"reload {(await client.post('/v1/gallery/reload')).status_code}"] += 1


async def _swap(running: RunningService, requests: Sequence[bytes], clients: int, seconds: float) -> dict[str, Any]:
    log: list[Answer] = []
    outcome: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=running.url, headers={"api-key": KEY}, timeout=60) as client:
        end = time.perf_counter() + seconds
        searches = [send_until(running.url, requests, end, log) for _ in range(clients)]
        await asyncio.gather(*searches, _change_until(client, end, outcome))
    return answer_figures(log, seconds) | {"changes": dict(outcome)}


def _flood(running: RunningService, sketches: list[bytes], connections: int) -> dict[str, Any]:
    """Sends several floods; measures memory before and after each, and the seconds until one search succeeds again."""
    requests = [search_request(sketch, KEY) for sketch in sketches]
    memory, recovery, statuses, told = [_megabytes(running)], [], Counter(), True
    for _ in range(FLOODS):
        log = asyncio.run(send_many(running.url, requests, connections, 4))
        statuses.update(str(answer.status) for answer in log)
        told &= all(answer.retry_after for answer in log if answer.status == 429)
        started = time.perf_counter()
        headers = {"api-key": KEY, "Content-Type": "image/png"}
        while httpx.post(f"{running.url}/v1/search", content=sketches[0], headers=headers).is_error:
            time.sleep(0.01)
        recovery.append(time.perf_counter() - started)
        memory.append(_megabytes(running))
    return {"statuses": dict(statuses), "all_say_retry_after": told, "recovery_s": recovery, "memory_mb": memory}


def _soak(
    running: RunningService, requests: Sequence[bytes], clients: int, seconds: float, plot: Path | None
) -> dict[str, Any]:
    """Sends load for a long time; samples memory, and fits a straight line to its growth over the last half."""
    samples, done = [], threading.Event()
    started = time.perf_counter()

    def sample() -> None:
        samples.append((time.perf_counter() - started, _megabytes(running)))

    def sample_until_done() -> None:
        while not done.wait(1):
            sample()

    sample()
    sampler = threading.Thread(target=sample_until_done)
    sampler.start()
    try:
        served = _send(running, requests, clients, seconds)
    finally:
        done.set()
        sampler.join()
    sample()
    times, memory = np.array(samples).T
    half = times >= times[-1] / 2
    slope = float(np.polyfit(times[half], memory[half], 1)[0]) if half.sum() > 1 else 0.0
    if plot:
        _draw_memory(times, memory, plot)
    return served | {"memory_mb": [memory[0], memory.max(), memory[-1]], "growth_mb_per_minute": 60 * slope}


def _draw_memory(times: np.ndarray, memory: np.ndarray, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(times / 60, memory)
    axes.set(xlabel="minutes", ylabel="memory, MB", ylim=(0, 1.2 * memory.max()))
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=150)


def _megabytes(running: RunningService) -> float:
    return private_memory(running.pid) / 1024**2
