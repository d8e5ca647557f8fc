"""An indexing job and the encoder alone, on the same pictures."""

import json
import tempfile
import time
from argparse import Namespace
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import list_photos
from measurements.command import BenchmarkError
from measurements.process import latencies_ms
from measurements.vectors import image_files
from training.model.backbones import build_backbone
from training.model.bundle import load_bundle, save_bundle
from training.model.encoders import EncoderConfig, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing

__all__ = ["make_pictures", "measure_indexing", "small_model"]

BATCH = 32


def measure_indexing(options: Namespace) -> None:
    """Prints the result of the job, and both throughputs."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photos, broken = options.photos, None
        if photos is None:
            photos = root / "photos"
            broken = make_pictures(photos, options.count, options.pixels, options.broken)
        count = len(image_files(photos))
        model = options.model or small_model(root / "model")
        bare = _bare_throughput(model, count, options.device)
        with closing(Gallery.create(root / "gallery", model)) as gallery:
            cpu = time.process_time()
            report = index_photos(gallery, list_photos(photos), options.device)
            cpu = time.process_time() - cpu
            if problems := gallery.problems():
                raise BenchmarkError("; ".join(problems))
        bare = (bare + _bare_throughput(model, count, options.device)) / 2
        rejects = {json.loads(line)["file"] for line in (root / "gallery" / "rejects.jsonl").read_text().splitlines()}
    done = report.encoded + report.rejected
    job = done / report.seconds
    print(report)
    if broken is not None:
        print(f"rejects are exactly the broken pictures: {rejects == broken}")
    print(f"job {job:.1f} images/s, bare encoder {bare:.1f} images/s, ratio {job / bare:.2f}")
    print(f"{1000 * cpu / done:.1f} ms of processor time per image, including publishing")
    print(f"a million photos: {1e6 / job / 3600:.1f} h, in proportion to these {done}")


def make_pictures(folder: Path, count: int, pixels: int, broken: float, seed: int = 0) -> set[str]:
    """Writes the pictures and returns the paths of the damaged ones."""
    random = np.random.default_rng(seed)
    cut = set(random.choice(count, round(broken * count), replace=False).tolist())
    paths = set()
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        colours = random.integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
        size = (pixels, max(1, 3 * pixels // 4))
        Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        if number in cut:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            paths.add(str(path))
    return paths


def small_model(folder: Path, dim: int = 16) -> Path:
    """Writes an untrained model of a few layers that embeds pictures of 64 pixels in ``dim`` dimensions."""
    encoder = EncoderConfig(preprocessing=Preprocessing(size=64), head=HeadConfig(features=256, dim=dim))
    config = PairedEncodersConfig(backbone="test_efficientnet", sketch=encoder, photo=encoder)
    encoders = build_encoders(config, build_backbone(config.backbone, multi_scale=False))
    save_bundle(folder, encoders, [1 / (mode + 1) for mode in range(dim)])
    return folder


def _bare_throughput(model: Path, count: int, device: str) -> float:
    """Measures images per second, in batches."""
    bundle = load_bundle(model, device)
    size = bundle.photo.preprocessing.size
    batch = torch.rand(BATCH, 3, size, size)
    bundle.encode(bundle.photo, batch)
    times = latencies_ms(lambda _: bundle.encode(bundle.photo, batch), -(-min(count, 1000) // BATCH))
    return 1000 * BATCH / times.mean()
