"""The parts of bench/gpu.py: everything that a device may do, timed, with the same code on a CPU."""

import asyncio
import io
import json
import platform
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import list_photos
from measurements.exact_search import measure_search
from measurements.http_load import search_request, send_many
from measurements.indexing import make_pictures, small_model
from measurements.process import latencies_ms
from measurements.running_service import KEY, service
from measurements.service_load import answer_figures
from training.base.artifacts import write_text
from training.base.machine import processors
from training.fit.recipe import Recipe
from training.fit.run import fit
from training.inference.runners import Precision, Runner, build_runner
from training.model.bundle import Bundle, load_bundle
from training.model.devices import resolve_device
from training.model.starter import STARTER_MODEL

__all__ = ["measure_device"]


class Scale(NamedTuple):
    """How much there is to do.

    Attributes:
        vectors: numbers of vectors to search.
        dim: coordinates of each.
        dimensions: to search with.
        photos: photos to index, of ``pixels`` pixels.
        clients: numbers of clients that search at the same time, for ``seconds`` seconds.
        batches: of images, to encode.
        classes: of ``images`` sketches and photos each, to train on.
        recipe: how to train.
    """

    vectors: tuple[int, ...]
    dim: int
    dimensions: tuple[int, ...]
    photos: int
    pixels: int
    clients: tuple[int, ...]
    seconds: float
    batches: tuple[int, ...]
    classes: int
    images: int
    recipe: dict[str, Any]


SCALES = {
    "full": Scale(
        (1_000_000, 10_000_000), 512, (64, 128, 256, 512), 4000, 500, (1, 16, 64), 6, (1, 4, 16, 64), 10, 32,
        {"epochs": 2, "validation": 0, "quantize": False},
    ),
    "tiny": Scale(
        (3000,), 32, (8, 32), 24, 96, (1, 2), 0.5, (1, 3), 4, 6,
        {"epochs": 1, "backbone": "test_efficientnet", "image_size": 64, "training_size": 32, "dim": 8,
         "batch_size": 8, "multi_scale": False},
    ),
}  # fmt: skip


def measure_device(options: Namespace) -> None:
    """Writes the figures of every part that was asked for, and prints them."""
    device, scale = resolve_device(options.device), SCALES[options.scale]
    report: dict[str, Any] = _facts(device) | {"scale": options.scale}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model = STARTER_MODEL if options.scale == "full" else small_model(root / "model", scale.dim)
        parts: dict[str, Callable[[], Iterator[Any]]] = {
            "encoders": lambda: _encoders(model, device, scale),
            "indexing": lambda: _indexing(root, model, device, scale),
            "service": lambda: _service(root, model, device, scale),
            "search": lambda: _search(device, scale),
            "training": lambda: _training(root, model, device, scale),
        }
        for part in options.parts:
            for rows in _tried(parts[part]):
                report[part] = rows
                report["seconds"] = time.perf_counter() - started
                write_text(options.out, _as_json(report))  # so that an interruption loses no more than a row
    print(_as_json(report))


def _facts(device: torch.device) -> dict[str, Any]:
    packages = ("svdraw", "torch", "torchvision", "faiss-gpu", "onnxruntime", "timm")
    facts = {"device": device.type, "cores": processors(), "platform": platform.platform()}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        facts |= {"card": card.name, "card_memory": card.total_memory, "cuda": torch.version.cuda}
    return facts | {"versions": {name: _version(name) for name in packages}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def _tried(part: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """What there is of a part after each of its rows; a part that fails ends with its error."""
    rows = []
    try:
        for row in part():
            rows.append(row)
            yield rows
    except Exception as error:  # a card is lent for minutes; the other parts are still wanted
        print(f"a part failed: {error!r}", file=sys.stderr)
        yield [*rows, {"error": repr(error)}]


def _as_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2, default=lambda value: round(float(value), 3)) + "\n"


def _encoders(model: Path, device: torch.device, scale: Scale) -> Iterator[dict[str, Any]]:
    """Batches that come from main memory and whose embeddings go back there."""
    bundle = load_bundle(model, str(device))
    size = bundle.sketch.preprocessing.size
    for name, encode in _ways(bundle).items():
        for count in scale.batches:
            batch = torch.rand(count, 3, size, size)
            latencies_ms(lambda _, batch=batch, encode=encode: encode(batch), 3)
            times = latencies_ms(lambda _, batch=batch, encode=encode: encode(batch), 30)
            milliseconds = float(sorted(times)[len(times) // 2])
            yield {"way": name, "batch": count, "ms": milliseconds, "per_second": 1000 * count / milliseconds}


def _ways(bundle: Bundle) -> dict[str, Callable[[torch.Tensor], Any]]:
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
    runners: dict[str, Runner] = {each: build_runner(bundle.sketch, precision=each) for each in precisions}
    return {"plain PyTorch": lambda batch: bundle.encode(bundle.sketch, batch), **runners}


def _indexing(root: Path, model: Path, device: torch.device, scale: Scale) -> Iterator[dict[str, Any]]:
    make_pictures(root / "photos", scale.photos, scale.pixels, broken=0.0)
    with closing(Gallery.create(root / "gallery", model)) as gallery:
        started = time.perf_counter()
        report = index_photos(gallery, list_photos(root / "photos"), str(device))
        whole = time.perf_counter() - started
    yield {
        "photos": report.encoded,
        "per_second": report.encoded / report.seconds,
        "seconds": report.seconds,
        "seconds_with_publishing": whole,
    }


def _service(root: Path, model: Path, device: torch.device, scale: Scale) -> Iterator[dict[str, Any]]:
    gallery = root / "gallery"
    if not gallery.is_dir():  # what it holds hardly matters to a search
        list(_indexing(root, model, device, scale._replace(photos=scale.photos // 10)))
    requests = [search_request(_drawing(number), KEY) for number in range(200)]
    most = max(scale.clients)
    with service(gallery, root, device=device, max_concurrent=most, max_concurrent_per_client=most) as running:
        asyncio.run(send_many(running.url, requests, most, scale.seconds))  # a warm-up
        for clients in scale.clients:
            log = asyncio.run(send_many(running.url, requests, clients, scale.seconds))
            yield {"clients": clients, **answer_figures(log, scale.seconds)}


def _drawing(seed: int) -> bytes:
    """A few crooked lines, as a page sends them."""
    random = np.random.default_rng(seed)
    image = Image.new("L", (256, 256), 255)
    for _ in range(8):
        points = np.cumsum(random.normal(0, 12, (30, 2)), axis=0) + random.uniform(50, 206, 2)
        ImageDraw.Draw(image).line([tuple(point) for point in points], fill=0, width=4, joint="curve")
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _search(device: torch.device, scale: Scale) -> Iterator[dict[str, Any]]:
    for count in scale.vectors:
        yield from measure_search(count, scale.dim, scale.dimensions, device)


def _training(root: Path, model: Path, device: torch.device, scale: Scale) -> Iterator[dict[str, Any]]:
    """Time of the last epoch of the last stage of a run, when everything is warm."""
    for number in range(2 * scale.classes):
        folder = root / "pairs" / ("sketch", "photo")[number % 2] / f"class{number // 2}"
        make_pictures(folder, scale.images, scale.pixels, broken=0.0, seed=number)
    recipe = Recipe(start=model, **scale.recipe)
    fit(root / "pairs", root / "run", recipe, split=None, cache=root / "cache", device=device)
    last = json.loads((root / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    images = scale.classes * scale.images
    steps = -(-images // recipe.batch_size)
    yield {
        "batch": recipe.batch_size,
        "size": recipe.training_size,
        "steps_per_second": steps / last["seconds"],
        "pairs_per_second": images / last["seconds"],
    }
