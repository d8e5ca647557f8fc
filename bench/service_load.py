"""Load on a running service, from this process: throughput, latency, behaviour over the limit, memory.

    python bench/service_load.py --gallery GALLERY --sketches DIR [--clients 16] [--seconds 60] [--flood 200]

Starts the service on the gallery, on a port of its own, and stops it. Measures, one after the other:

    bare       the encoder alone, in the service's runtime, in batches of --max-batch
    unbatched  PyTorch as the training package runs it, one sketch at a time: what a plain handler would do
    load       --clients clients that search without pause for --seconds
    swap       the same while photos are added, found and removed, and generations are switched
    flood      --flood connections at once on a service that answers 16, then one: how soon is it well again?
    soak       with --soak N: load for so many more seconds; memory at the beginning and at the end

Clients, service and encoder share the machine's cores, so figures are of the whole.
"""

import argparse
import asyncio
import hashlib
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image

from service.inference import build_runner
from training.bundle import load_bundle
from training.features import default_cache_directory
from training.images import IMAGE_SUFFIXES, open_image

KEY = "a key for the benchmark"


def sketches_below(folder: Path, count: int = 200) -> list[bytes]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    return [file.read_bytes() for file in random.Random(0).sample(files, min(count, len(files)))]


def images_per_second(encode: Callable[[torch.Tensor], Any], batch: torch.Tensor, seconds: float) -> float:
    encode(batch)
    done, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        encode(batch)
        done += len(batch)
    return done / passed


def encoder_figures(gallery: Path, sketches: list[bytes], batch: int, seconds: float) -> dict[str, float]:
    bundle = load_bundle(gallery / "model", "cpu")
    runner = build_runner(bundle, bundle.sketch, "auto", default_cache_directory() / "onnx")
    images = torch.stack([bundle.sketch.preprocessing(open_image(sketch)) for sketch in sketches[:batch]])
    return {
        "bare_per_second": images_per_second(runner, images, seconds),
        "bare_one_by_one_per_second": images_per_second(runner, images[:1], seconds),
        "unbatched_eager_per_second": images_per_second(
            lambda one: bundle.encode(bundle.sketch, one), images[:1], seconds
        ),
    }


@contextmanager
def service(gallery: Path, folder: Path, **options: Any):
    keys = folder / "keys"
    keys.write_text(f"bench write {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "service", f"--gallery={gallery}", f"--port={port}", f"--keys={keys}", *flags]
    with (folder / "service.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        while process.poll() is None:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def search_until(client: httpx.AsyncClient, sketches: list[bytes], end: float, log: list[tuple]) -> None:
    while time.perf_counter() < end:
        started = time.perf_counter()
        try:
            answer = await client.post(
                "/v1/search", content=random.choice(sketches), headers={"Content-Type": "image/png"}
            )
            log.append((time.perf_counter() - started, answer.status_code, answer.headers.get("server-timing", "")))
        except httpx.TransportError as error:
            log.append((time.perf_counter() - started, type(error).__name__, ""))


def connect(url: str, connections: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=url, headers={"api-key": KEY}, limits=limits, timeout=60)


def figures(log: list[tuple], seconds: float) -> dict[str, Any]:
    times = 1000 * np.array([entry[0] for entry in log if entry[1] == 200])
    beyond = []
    for duration, status, timing in log:
        if status == 200:
            stages = dict(part.split(";dur=") for part in timing.split(", "))
            beyond.append(1000 * duration - float(stages["encode"]) - float(stages["search"]))
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "requests": len(log),
        "statuses": dict(Counter(str(entry[1]) for entry in log)),
        "per_second": len(times) / seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "p99_over_p50": p99 / p50,
        "beyond_encode_and_search_p50_ms": float(np.median(beyond)),
    }


async def load(url: str, sketches: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    log: list[tuple] = []
    async with connect(url, clients) as client:
        await asyncio.gather(*(client.get("/livez") for _ in range(clients)))
        end = time.perf_counter() + seconds
        await asyncio.gather(*(search_until(client, sketches, end, log) for _ in range(clients)))
    return figures(log, seconds)


async def change_until(client: httpx.AsyncClient, end: float, outcome: Counter) -> None:
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


async def swap(url: str, sketches: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    log: list[tuple] = []
    outcome: Counter = Counter()
    async with connect(url, clients + 1) as client:
        end = time.perf_counter() + seconds
        searches = [search_until(client, sketches, end, log) for _ in range(clients)]
        await asyncio.gather(*searches, change_until(client, end, outcome))
    return figures(log, seconds) | {"changes": dict(outcome)}


async def flood(url: str, sketches: list[bytes], connections: int, pid: int) -> dict[str, Any]:
    log: list[tuple] = []
    before = memory_mb(pid)
    async with connect(url, connections) as client:
        end = time.perf_counter() + 5
        await asyncio.gather(*(search_until(client, sketches, end, log) for _ in range(connections)))
        started = time.perf_counter()
        while (await client.post("/v1/search", content=sketches[0], headers={"Content-Type": "image/png"})).is_error:
            await asyncio.sleep(0.01)
        recovery = time.perf_counter() - started
    statuses = dict(Counter(str(entry[1]) for entry in log))
    return {"statuses": statuses, "recovery_s": recovery, "memory_mb": [before, memory_mb(pid)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=Path, required=True)
    parser.add_argument("--sketches", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--flood", type=int, default=200)
    parser.add_argument("--soak", type=float, default=0)
    parser.add_argument("--max-batch", type=int, default=16)
    arguments = parser.parse_args()
    sketches = sketches_below(arguments.sketches)
    report: dict[str, Any] = {"cores": os.cpu_count(), "clients": arguments.clients, "seconds": arguments.seconds}
    report["encoder"] = encoder_figures(arguments.gallery, sketches, arguments.max_batch, arguments.seconds / 6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gallery = shutil.copytree(arguments.gallery, folder / "gallery")
        with service(gallery, folder, max_batch=arguments.max_batch, live_changes=20) as (url, pid):
            asyncio.run(load(url, sketches, arguments.clients, 3))  # warm
            report["load"] = asyncio.run(load(url, sketches, arguments.clients, arguments.seconds))
            report["swap"] = asyncio.run(swap(url, sketches, arguments.clients, arguments.seconds / 3))
            if arguments.soak:
                start = memory_mb(pid)
                soak = asyncio.run(load(url, sketches, arguments.clients, arguments.soak))
                report["soak"] = soak | {"memory_mb": [start, memory_mb(pid)]}
        with service(gallery, folder, max_concurrent=16) as (url, pid):
            asyncio.run(load(url, sketches, 8, 3))
            report["flood"] = asyncio.run(flood(url, sketches, arguments.flood, pid))
    report["load"]["of_bare_encoder"] = report["load"]["per_second"] / report["encoder"]["bare_per_second"]
    report["load"]["of_unbatched_eager"] = (
        report["load"]["per_second"] / report["encoder"]["unbatched_eager_per_second"]
    )
    print(json.dumps(report, indent=2, default=lambda value: round(float(value), 3)))


if __name__ == "__main__":
    main()
