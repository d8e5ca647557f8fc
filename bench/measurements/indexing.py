"""Indexing jobs, of this version and another, and the usual way to embed photos, in turn on the same pictures."""

import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from measurements.command import BenchmarkError
from measurements.vectors import image_files
from training.model.backbones import build_backbone
from training.model.bundle import load_bundle, save_bundle
from training.model.encoders import EncoderConfig, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.images import open_image
from training.model.preprocessing import Preprocessing

__all__ = ["make_pictures", "measure_indexing", "small_model"]

HERE = Path(__file__).parent
OWN, OTHER, RIVAL = "this version", "the other version", "DataLoader and PyTorch"

_GRAIN = 8  # grey levels of noise, at most
_COMPARED = 8  # large pictures that are decoded in full too

Figures = dict[str, Any]


def measure_indexing(options: Namespace) -> None:
    """Prints the report of the last job, and what each contender took."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photos, broken = options.photos, None
        if options.megapixels:
            if photos is None:
                raise BenchmarkError("--megapixels needs --photos, of which the first --count are enlarged")
            photos = _enlarge(image_files(photos)[: options.count], root / "photos", options.megapixels)
        elif photos is None:
            photos = root / "photos"
            broken = make_pictures(photos, options.count, options.pixels, options.broken)
        model = options.model or small_model(root / "model")
        runs: dict[str, list[Figures]] = {}
        for number in range(options.rounds):
            gallery = root / f"gallery-{number}"
            for contender, command, tree in _contenders(options, model, photos, gallery):
                runs.setdefault(contender, []).append(_run(command, tree))
        rejects = {json.loads(line)["file"] for line in (gallery / "rejects.jsonl").read_text().splitlines()}
        if options.megapixels:
            _print_agreement(model, image_files(photos)[:_COMPARED])
    print(runs[OWN][-1]["report"])
    if broken is not None:
        print(f"rejects are exactly the broken pictures: {rejects == broken}")
    _print(runs)


def _contenders(
    options: Namespace, model: Path, photos: Path, gallery: Path
) -> Iterator[tuple[str, list[object], Path]]:
    """Name, command and sources of whatever is compared."""
    own, job = HERE.parent.parent, HERE / "indexing_job.py"
    yield OWN, [job, model, photos, gallery, options.device], own
    if options.against:
        yield OTHER, [job, model, photos, f"{gallery}-other", options.device], options.against
    if options.rival:
        yield RIVAL, [HERE / "indexing_rival.py", model, photos, options.device], own


def _run(command: list[object], tree: Path) -> Figures:
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"}  # or PyTorch's threads compute nothing at full speed while they wait
    environment = os.environ | waiting | {"PYTHONPATH": str(tree.resolve())}
    run = subprocess.run([sys.executable, *map(str, command)], env=environment, capture_output=True, text=True)
    if run.returncode:
        raise BenchmarkError(f"a job with the sources in {tree} failed: {run.stderr.strip().splitlines()[-1]}")
    figures: Figures = json.loads(run.stdout.splitlines()[-1])
    if problems := figures.get("problems"):
        raise BenchmarkError("; ".join(problems))
    return figures


def _print(runs: dict[str, list[Figures]]) -> None:
    speeds = {name: np.mean([each["done"] / each["seconds"] for each in figures]) for name, figures in runs.items()}
    costs = {name: _milliseconds(figures, [each["processor"] for each in figures]) for name, figures in runs.items()}
    for name, figures in runs.items():
        print(f"{name}: {speeds[name]:.1f} images/s, {costs[name]:.2f} ms of processor time an image", end="")
        stages = {
            stage: _milliseconds(figures, [each["stages"][stage] for each in figures])
            for stage in figures[0].get("stages", {})
        }
        if stages:
            stages["loading, publishing and the rest"] = costs[name] - sum(stages.values())
            print(": " + ", ".join(f"{stage} {cost:.2f}" for stage, cost in stages.items()), end="")
        print()
    for name in list(runs)[1:]:
        print(
            f"{OWN} against {name}: {speeds[OWN] / speeds[name]:.2f} times the images/s, "
            f"{costs[OWN] / costs[name]:.2f} of the processor time"
        )


def _milliseconds(figures: list[Figures], seconds: list[float]) -> float:
    """Of each image."""
    return 1000 * sum(seconds) / sum(each["done"] for each in figures)


def _enlarge(files: Sequence[Path], folder: Path, megapixels: int) -> Path:
    """Writes photos anew with so many million pixels, 4 to 3, and the grain of a sensor."""
    folder.mkdir()
    random = np.random.default_rng(0)
    width = round((megapixels * 4e6 / 3) ** 0.5)
    size = (width, 3 * width // 4)
    for number, file in enumerate(files):
        large = np.asarray(open_image(file).resize(size, Image.Resampling.BICUBIC), np.int16)
        grain = random.integers(-_GRAIN, _GRAIN + 1, (*large.shape[:2], 1), np.int16)
        pixels = np.clip(large + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06d}.jpg", quality=90)
    return folder


def _print_agreement(model: Path, files: Sequence[Path]) -> None:
    """Prints how much it changes embeddings that large pictures are decoded at a reduced scale."""
    bundle = load_bundle(model, "cpu")
    draft = bundle.photo.preprocessing.draft
    scaled, whole = (bundle.encode_photos([open_image(f, draft=d) for f in files]) for d in (draft, None))
    lengths = np.linalg.norm(scaled, axis=1) * np.linalg.norm(whole, axis=1)
    cosines = (scaled * whole).sum(axis=1) / lengths
    print(
        f"decoded at a reduced scale and in full, {len(files)} pictures: cosine {cosines.mean():.4f} in the mean, "
        f"{cosines.min():.4f} at least"
    )


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
