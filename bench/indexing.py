"""Throughput of an indexing job against the bare encoder's, on the same threads, with some of the pictures broken.

    python bench/indexing.py [--model MODEL] [--count 2000] [--pixels 512] [--broken 0.01] [--device auto]

Without --model, an untrained network of a few layers at 64 px stands in, which shows what reading, decoding and storing
cost at most. The bare encoder embeds one preprocessed batch of 32 over and over for as many pictures. Pictures are JPEG
files of smooth random colours; broken ones are cut in half, and the job must list exactly those.
"""

import argparse
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import list_photos
from training.model.backbones import build_backbone
from training.model.bundle import load_bundle, save_bundle
from training.model.encoders import EncoderConfig, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing

BATCH = 32


def make_pictures(folder: Path, count: int, pixels: int, broken: float) -> set[str]:
    """Writes the pictures and returns the paths of the broken ones."""
    random = np.random.default_rng(0)
    cut = set(random.choice(count, round(broken * count), replace=False).tolist())
    paths = set()
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        colours = random.integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((pixels, 3 * pixels // 4), Image.Resampling.BICUBIC).save(path, quality=90)
        if number in cut:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            paths.add(str(path))
    return paths


def small_model(folder: Path) -> Path:
    encoder = EncoderConfig(preprocessing=Preprocessing(size=64), head=HeadConfig(features=256, dim=16))
    config = PairedEncodersConfig(backbone="test_efficientnet", sketch=encoder, photo=encoder)
    encoders = build_encoders(config, build_backbone(config.backbone, multi_scale=False))
    save_bundle(folder, encoders, [1 / (mode + 1) for mode in range(16)])
    return folder


def bare_throughput(model: Path, count: int, device: str) -> float:
    bundle = load_bundle(model, device)
    size = bundle.photo.preprocessing.size
    batch = torch.rand(BATCH, 3, size, size)
    bundle.encode(bundle.photo, batch)
    started = time.perf_counter()
    for _ in range(-(-count // BATCH)):
        bundle.encode(bundle.photo, batch)
    return BATCH * -(-count // BATCH) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--broken", type=float, default=0.01)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "photos").mkdir()
        broken = make_pictures(root / "photos", options.count, options.pixels, options.broken)
        model = options.model or small_model(root / "model")
        bare = bare_throughput(model, min(options.count, 1000), options.device)
        with closing(Gallery.create(root / "gallery", model)) as gallery:
            report = index_photos(gallery, list_photos(root / "photos"), options.device)
            assert gallery.problems() == []
        rejects = {json.loads(line)["uri"] for line in (root / "gallery" / "rejects.jsonl").read_text().splitlines()}
        bare = (bare + bare_throughput(model, min(options.count, 1000), options.device)) / 2
        rate = (report.encoded + report.rejected) / report.seconds
    print(report)
    print(f"rejects are exactly the broken pictures: {rejects == broken}")
    print(f"job {rate:.1f} images/s, bare encoder {bare:.1f} images/s, ratio {rate / bare:.2f}")


if __name__ == "__main__":
    main()
