"""Searches for drawings under every condition and counts how many find their own photo first."""

import random
from argparse import Namespace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from measurements.command import BenchmarkError
from measurements.inks import CONDITIONS, render
from training.data.pairs import Group, PairedData, load_data
from training.model.bundle import Bundle, load_bundle
from training.model.images import open_image
from training.model.starter import STARTER_MODEL
from training.model.truncation import truncate

__all__ = ["measure_conditions"]

_BATCH = 32
Vectors = NDArray[np.float32]


def measure_conditions(options: Namespace) -> None:
    """Prints the share of drawings for which one of their own photos comes first, condition by condition."""
    conditions = options.conditions or list(CONDITIONS)
    if unknown := [name for name in conditions if name not in CONDITIONS]:
        raise BenchmarkError(f"no condition {unknown[0]!r}; there are: {', '.join(CONDITIONS)}")
    bundle, data = load_bundle(options.model or STARTER_MODEL), load_data(options.data)
    photos = truncate(_embedded(bundle, data.photos), bundle.default_dimensions)
    chosen = _chosen(data, options.limit, options.seed)
    print(f"{len(chosen)} drawings, {len(photos)} photos\n\n| drawings | own photo first | of clean |\n|---|---|---|")
    clean = 0
    for name in dict.fromkeys(["clean", *conditions]):
        queries = truncate(_queries(bundle, data, chosen, name, options.seed), bundle.default_dimensions)
        best = (queries @ photos.T).argmax(axis=1)
        found = sum(int(first) in group.photos for first, (_, group) in zip(best, chosen, strict=True))
        clean = clean or found
        print(f"| {name} | {found / len(chosen):.1%} | {found / max(1, clean):.0%} |", flush=True)


def _embedded(bundle: Bundle, files: tuple[Path, ...]) -> Vectors:
    parts = []
    for start in tqdm(range(0, len(files), _BATCH), desc="photos", disable=None):
        batch = [open_image(file, draft=bundle.photo.preprocessing.draft) for file in files[start : start + _BATCH]]
        parts.append(bundle.encode_photos(batch))
    return np.concatenate(parts)


def _queries(bundle: Bundle, data: PairedData, chosen: list[tuple[int, Group]], name: str, seed: int) -> Vectors:
    images = []
    for number, _ in chosen:
        with Image.open(data.sketches[number]) as drawing:
            content = render(drawing, name, seed * len(data.sketches) + number)
        images.append(open_image(content, draft=bundle.sketch.preprocessing.draft))
    return bundle.encode_sketches(images)


def _chosen(data: PairedData, limit: int, seed: int) -> list[tuple[int, Group]]:
    """Drawings and their groups; a second drawing of a group comes only after one of each."""
    chance = random.Random(seed)
    groups = chance.sample(data.groups, len(data.groups))
    rounds = zip_longest(*(chance.sample(group.sketches, len(group.sketches)) for group in groups))
    drawn = [(number, groups[i]) for each in rounds for i, number in enumerate(each) if number is not None]
    return drawn[:limit]
