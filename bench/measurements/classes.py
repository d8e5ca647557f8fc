"""Trains the closed form on more and more classes or pictures, and measures it on held-out classes."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from measurements.command import BenchmarkError
from measurements.runs import CPU
from measurements.synonyms import other_classes
from training.base.cache import default_cache_directory
from training.data.instances import own_photos, with_instances
from training.data.pairs import PairedData, load_data
from training.data.splits import hold_out, load_split
from training.evaluation.figures import instance_accuracy, mean_average_precision
from training.features.paired import FeatureSet, head_embeddings, paired_features
from training.fit.beginning import first_encoders
from training.fit.recipe import Recipe
from training.fit.run_log import RunLog
from training.fit.stage import Stage
from training.model.neighbours import with_neighbours

__all__ = ["measure_classes"]

_HELD_OUT = 0.2


class _Figures(NamedTuple):
    map_all: float
    neighbours: float
    instance_1: float
    instance_10: float


@dataclass(frozen=True)
class _ClosedForm:
    """Fits frozen features and measures the result."""

    recipe: Recipe
    ridge: float
    folder: Path

    def figures(self, training: FeatureSet, queries: FeatureSet) -> _Figures:
        pairs = replace(training, data=with_instances(training.data, self.recipe.instances))
        encoders = first_encoders(self.recipe, len(pairs.data.groups)).eval()
        Stage("closed form", self.folder, "", self.recipe, encoders, RunLog(self.folder)).refit(pairs, self.ridge)
        f, g = head_embeddings(encoders.sketch, queries.x), head_embeddings(encoders.photo, queries.y)
        instance = instance_accuracy(f, g, own_photos(queries.data))
        relevance = queries.relevance()
        return _Figures(
            mean_average_precision(f, g, relevance),
            mean_average_precision(f, with_neighbours(g), relevance),
            instance.get(1, np.nan),
            instance.get(10, np.nan),
        )


def measure_classes(options: Namespace) -> None:
    """Prints a Markdown table of the figures by number of classes and of pictures, as means over the draws."""
    data = load_data(options.data)
    seen = data.select(load_split(options.split, data.classes).seen)
    largest = len(hold_out(seen.classes, _HELD_OUT, 0).seen)
    if max(options.counts) > largest:
        raise BenchmarkError(f"{largest} classes are left to train on; choose smaller --counts")
    recipe = Recipe(tune="none", image_size=options.image_size, pooling=options.pooling)
    features = _features(seen, recipe, options)
    wider = None
    if options.wider:
        others = load_data(options.wider)
        kept = other_classes(others.classes, data.classes)
        if not kept:
            raise BenchmarkError(f"{options.wider} has no class that {options.data} lacks")
        wider = _features(others.select(kept), recipe, options)
    with TemporaryDirectory() as folder:
        _print_table(options, features, wider, _ClosedForm(recipe, options.ridge, Path(folder)))


def _features(data: PairedData, recipe: Recipe, options: Namespace) -> FeatureSet:
    encoders = first_encoders(recipe, len(data.groups)).eval()
    return paired_features(data, encoders, options.cache or default_cache_directory(), CPU)


def _print_table(options: Namespace, features: FeatureSet, wider: FeatureSet | None, closed_form: _ClosedForm) -> None:
    print("| classes | mAP@all | with the gallery's neighbours | acc@1, instance | acc@10, instance |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for count in options.counts:
        _print_row(str(count), [closed_form.figures(*_draw(features, count, draw)) for draw in range(options.draws)])
    for pictures in options.pictures:
        count, rows = max(options.counts), []
        for draw in range(options.draws):
            training, queries = _draw(features, count, draw)
            rows.append(closed_form.figures(_thinned(training, pictures, draw), queries))
        _print_row(f"{count}, {pictures} photos and sketches of each", rows)
    if wider:
        count, rows = max(options.counts), []
        for draw in range(options.draws):
            training, queries = _draw(features, count, draw)
            rows.append(closed_form.figures(_joined(training, wider), queries))
        _print_row(f"{count} + {len(wider.data.classes)}", rows)


def _draw(features: FeatureSet, count: int, draw: int) -> tuple[FeatureSet, FeatureSet]:
    """Features of the first ``count`` classes, in an order of the draw's own, and of the held-out classes."""
    held_out = hold_out(features.data.classes, _HELD_OUT, draw)
    order = np.random.default_rng(draw).permutation(held_out.seen).tolist()
    return features.select(order[:count]), features.select(held_out.unseen)


def _thinned(features: FeatureSet, count: int, draw: int) -> FeatureSet:
    """So many photos and so many sketches of each class, drawn at random."""
    random = np.random.default_rng(draw)
    sketches, photos = set[int](), set[int]()
    for group in features.data.groups:
        sketches.update(random.permutation(group.sketches)[count:].tolist())
        photos.update(random.permutation(group.photos)[count:].tolist())
    return features.without(sketches, photos)


def _joined(first: FeatureSet, second: FeatureSet) -> FeatureSet:
    """Both sets as one; their classes are different."""
    sketches, photos = len(first.data.sketches), len(first.data.photos)
    moved = [
        replace(group, sketches=_moved(group.sketches, sketches), photos=_moved(group.photos, photos))
        for group in second.data.groups
    ]
    data = replace(
        first.data,
        sketches=first.data.sketches + second.data.sketches,
        photos=first.data.photos + second.data.photos,
        groups=(*first.data.groups, *moved),
    )
    return FeatureSet(data, np.concatenate([first.x, second.x]), np.concatenate([first.y, second.y]))


def _moved(rows: Sequence[int], by: int) -> tuple[int, ...]:
    return tuple(row + by for row in rows)


def _print_row(name: str, draws: Sequence[_Figures]) -> None:
    cells = " | ".join("-" if np.isnan(value) else f"{value:.3f}" for value in np.mean(draws, axis=0))
    print(f"| {name} | {cells} |", flush=True)
