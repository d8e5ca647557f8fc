"""Load on a running service: throughput, latency, what a search costs, behaviour over the limit, memory.

    python bench/service_load.py --gallery GALLERY --sketches DIR [load] [swap] [flood] [soak]

Starts the service on a copy of the gallery, on a port of its own, and stops it. Measures what is named, everything but
the soak if nothing is:

    load       --clients clients that search without pause, in turns with the encoder alone: the service's own threads,
               runtime and preprocessing in this process, fed from memory. Then one client, and what the encoder does
               in batches, and in PyTorch one sketch at a time, as a plain handler would
    swap       the same load while photos are added, found and removed, and generations are switched
    flood      --flood connections at once on a service that answers 16, then one: how soon is it well again?
    soak       load for --soak seconds; memory over that time, drawn to --plot

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
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import matplotlib
import numpy as np
import torch
from http_load import Answer, search_request, send_many, send_until
from PIL import Image

from service.encoding.inference import build_runner
from service.encoding.model import EncodingModel
from service.encoding.plan import make_plan
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings
from training.base.cache import default_cache_directory
from training.model.bundle import load_bundle
from training.model.images import IMAGE_SUFFIXES, open_image

matplotlib.use("agg")
from matplotlib import pyplot

KEY = "a-key-for-the-benchmark"
ROUNDS = 4


def sketches_below(folder: Path, count: int = 200) -> list[bytes]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    return [file.read_bytes() for file in random.Random(0).sample(files, min(count, len(files)))]


class Encoder:
    """The encoder as the service runs it, without the service."""

    def __init__(self, gallery: Path) -> None:
        self.settings = ServiceSettings(gallery=gallery, device="cpu")
        self.bundle = load_bundle(gallery / "model", "cpu")
        self.plan = make_plan(self.settings, self.bundle.device)
        torch.set_num_threads(self.plan.threads)
        self.model = EncodingModel(self.bundle, self.settings, Metrics())
        self.model.warm_up()

    def bare(self, sketches: Sequence[bytes], seconds: float) -> dict[str, float]:
        """Sketches embedded from their bytes by as many threads as the service has workers."""
        watches = [Stopwatch() for _ in range(self.plan.workers)]
        end = time.perf_counter() + seconds

        def work(watch: Stopwatch) -> None:
            for sketch in cycle(sketches):
                if time.perf_counter() >= end:
                    return
                self.model.embed(sketch, "sketch", watch)

        threads = [threading.Thread(target=work, args=(watch,)) for watch in watches]
        started, cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed, cpu = time.perf_counter() - started, time.process_time() - cpu
        stages = [stage for watch in watches for stage in watch.stages]
        done = sum(stage.name == "encode" for stage in stages)
        median = {
            f"{name}_ms": 1000 * float(np.median([stage.seconds for stage in stages if stage.name == name]))
            for name in ("decode", "encode")
        }
        return {"per_second": done / passed, "cpu_ms": 1000 * cpu / done} | median

    def alternatives(self, sketches: Sequence[bytes], seconds: float) -> dict[str, float]:
        """Images a second, preprocessed beforehand: all cores on one batch, and PyTorch one by one."""
        preprocess = self.bundle.sketch.preprocessing
        images = torch.stack([preprocess(open_image(sketch)) for sketch in sketches[:16]])
        cache = default_cache_directory() / "onnx"
        runner = build_runner(self.bundle, self.bundle.sketch, "onnx", cache, self.plan.cores)
        figures = {}
        for size in (1, 4, 16):
            figures[f"batch_of_{size}"] = self._rate(lambda size=size: runner(images[:size]), size, seconds)
        torch.set_num_threads(self.plan.cores)
        figures["pytorch"] = self._rate(lambda: self.bundle.encode(self.bundle.sketch, images[:1]), 1, seconds)
        torch.set_num_threads(self.plan.threads)
        return figures

    @staticmethod
    def _rate(encode: Any, size: int, seconds: float) -> float:
        encode()
        done, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            encode()
            done += size
        return done / passed


class Service:
    """A running service.

    Attributes:
        url: of it.
        pid: of its process.
    """

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def memory_mb(self) -> float:
        """Resident memory, without the pages of files that the system may drop."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(status["RssAnon"].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """Processor time of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def service(gallery: Path, folder: Path, **options: Any) -> Iterator[Service]:
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
        yield Service(url, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def figures(log: Sequence[Answer], seconds: float) -> dict[str, Any]:
    good = [answer for answer in log if answer.status == 200]
    times = 1000 * np.array([answer.seconds for answer in good])
    elsewhere = [sum(answer.stages[name] for name in ("queue", "encode", "search")) for answer in good]
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "requests": len(log),
        "statuses": dict(Counter(str(answer.status) for answer in log)),
        "per_second": len(good) / seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "p99_over_p50": p99 / p50,
        "beyond_queue_encode_search_p50_ms": float(np.median(times - elsewhere)),
        "stages_p50_ms": {name: np.median([answer.stages[name] for answer in good]) for name in good[0].stages},
    }


def send(running: Service, requests: Sequence[bytes], clients: int, seconds: float) -> dict[str, Any]:
    cpu = running.cpu_seconds()
    log = asyncio.run(send_many(running.url, requests, clients, seconds))
    return figures(log, seconds) | {"cpu_ms": 1000 * (running.cpu_seconds() - cpu) / len(log)}


def load(gallery: Path, running: Service, sketches: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """The encoder alone and the service in turns, so that other work on the machine disturbs both alike."""
    encoder, requests = Encoder(gallery), [search_request(sketch, KEY) for sketch in sketches]
    encoder.bare(sketches, 1)
    rounds = []
    for _ in range(ROUNDS):
        bare = encoder.bare(sketches, seconds / ROUNDS)
        served = send(running, requests, clients, seconds / ROUNDS)
        rounds.append({"bare": bare, "service": served})
    alternatives = encoder.alternatives(sketches, seconds / 16)
    share = [row["service"]["per_second"] / row["bare"]["per_second"] for row in rounds]
    return {
        "rounds": rounds,
        "of_bare_encoder": np.median(share),
        "of_pytorch_one_by_one": np.median([row["service"]["per_second"] for row in rounds]) / alternatives["pytorch"],
        "encoder_otherwise_per_second": alternatives,
        "one_client": send(running, requests, 1, seconds / 8),
    }


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


async def swap(running: Service, sketches: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    log: list[Answer] = []
    outcome: Counter = Counter()
    requests = [search_request(sketch, KEY) for sketch in sketches]
    async with httpx.AsyncClient(base_url=running.url, headers={"api-key": KEY}, timeout=60) as client:
        end = time.perf_counter() + seconds
        searches = [send_until(running.url, requests, end, log) for _ in range(clients)]
        await asyncio.gather(*searches, change_until(client, end, outcome))
    return figures(log, seconds) | {"changes": dict(outcome)}


def flood(running: Service, sketches: list[bytes], connections: int, repeats: int = 5) -> dict[str, Any]:
    """Several floods; memory before and after each, and the seconds until one search succeeds again."""
    requests = [search_request(sketch, KEY) for sketch in sketches]
    memory, recovery, statuses, told = [running.memory_mb()], [], Counter(), True
    for _ in range(repeats):
        log = asyncio.run(send_many(running.url, requests, connections, 4))
        statuses.update(str(answer.status) for answer in log)
        told &= all(answer.retry_after for answer in log if answer.status == 429)
        started = time.perf_counter()
        headers = {"api-key": KEY, "Content-Type": "image/png"}
        while httpx.post(f"{running.url}/v1/search", content=sketches[0], headers=headers).is_error:
            time.sleep(0.01)
        recovery.append(time.perf_counter() - started)
        memory.append(running.memory_mb())
    return {"statuses": dict(statuses), "all_say_retry_after": told, "recovery_s": recovery, "memory_mb": memory}


def soak(running: Service, sketches: list[bytes], clients: int, seconds: float, plot: Path | None) -> dict[str, Any]:
    """Load for long; memory by the second, and its growth over the last half by a straight line."""
    requests, samples, done = [search_request(sketch, KEY) for sketch in sketches], [], threading.Event()

    def sample() -> None:
        started = time.perf_counter()
        while not done.wait(1):
            samples.append((time.perf_counter() - started, running.memory_mb()))

    sampler = threading.Thread(target=sample)
    sampler.start()
    served = send(running, requests, clients, seconds)
    done.set()
    sampler.join()
    times, memory = np.array(samples).T
    half = times > times[-1] / 2
    slope = float(np.polyfit(times[half], memory[half], 1)[0])
    if plot:
        figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
        axes.plot(times / 60, memory)
        axes.set(xlabel="minutes", ylabel="memory, MB", ylim=(0, 1.2 * memory.max()))
        axes.grid(alpha=0.3)
        figure.savefig(plot, dpi=150)
    return served | {"memory_mb": [memory[0], memory.max(), memory[-1]], "growth_mb_per_minute": 60 * slope}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "phases", nargs="*", choices=["load", "swap", "flood", "soak"], default=["load", "swap", "flood"]
    )
    parser.add_argument("--gallery", type=Path, required=True)
    parser.add_argument("--sketches", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--flood", type=int, default=200)
    parser.add_argument("--soak", type=float, default=600)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    sketches, clients = sketches_below(arguments.sketches), arguments.clients
    warm = [search_request(sketch, KEY) for sketch in sketches]
    report: dict[str, Any] = {"cores": os.cpu_count(), "clients": clients, "seconds": arguments.seconds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gallery = shutil.copytree(arguments.gallery, folder / "gallery")
        if {"load", "swap", "soak"}.intersection(arguments.phases):
            with service(gallery, folder, live_changes=20) as running:
                send(running, warm, clients, 2)
                if "load" in arguments.phases:
                    report["load"] = load(gallery, running, sketches, clients, arguments.seconds)
                if "swap" in arguments.phases:
                    report["swap"] = asyncio.run(swap(running, sketches, clients, arguments.seconds / 3))
                if "soak" in arguments.phases:
                    report["soak"] = soak(running, sketches, clients, arguments.soak, arguments.plot)
        if "flood" in arguments.phases:
            with service(gallery, folder, max_concurrent=16) as running:
                send(running, warm, 8, 2)
                report["flood"] = flood(running, sketches, arguments.flood)
    print(json.dumps(report, indent=2, default=lambda value: round(float(value), 3)))


if __name__ == "__main__":
    main()
