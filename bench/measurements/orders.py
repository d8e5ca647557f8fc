"""mAP@all of truncated searches, in several orders of coordinates."""

from argparse import Namespace
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from measurements.command import BenchmarkError
from measurements.labelled import Labelled, embedded
from training.evaluation.metrics import average_precision, rank_relevance
from training.model.bundle import Bundle, load_bundle
from training.model.canonical import canonical_form
from training.model.gallery_order import SecondMoment, gallery_order

__all__ = ["compare_orders"]

Array = NDArray[np.float32]
_DIMENSIONS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
_FOLDS = 5


def compare_orders(options: Namespace) -> None:
    """Prints the table."""
    bundle = load_bundle(options.model, "auto")
    sketches, photos = embedded(bundle, options.data, options.cache)
    known = np.flatnonzero(np.isin(sketches.labels, photos.labels))
    chosen = np.random.default_rng(0).permutation(known)[: options.sketches]
    if len(chosen) < _FOLDS:
        raise BenchmarkError(f"{options.data} has fewer than {_FOLDS} sketches of classes that have photos")
    sketches = Labelled(sketches.vectors[chosen], sketches.labels[chosen])
    dimensions = sorted({min(d, bundle.dim) for d in _DIMENSIONS})
    print(f"{len(chosen)} sketches of {len(set(sketches.labels))} classes, {len(photos.labels)} photos, mAP@all\n")
    print(f"| order | {' | '.join(map(str, dimensions))} |\n|{' --- |' * (len(dimensions) + 1)}")
    errors = []
    for name, maps in _orders(bundle, sketches, photos):
        found = np.array([_precisions(maps, sketches, photos, d) for d in dimensions])
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in found.mean(axis=1))} |", flush=True)
        errors.append(found.std(axis=1).max() / np.sqrt(found.shape[1]))
    print(f"\nThe standard error of a figure is at most {max(errors):.3f}; differences in a column are paired.")


_Maps = list[tuple[NDArray[np.int64], Callable[[Array], Array], Callable[[Array], Array]]]


def _orders(bundle: Bundle, sketches: Labelled, photos: Labelled) -> Iterator[tuple[str, _Maps]]:
    """Yields orders: for each group of queries its rows, and the maps of sketches and of photos."""
    every, moment = np.arange(len(sketches.vectors)), SecondMoment(bundle.dim)
    moment.add(photos.vectors)
    yield "the model's", [(every, lambda f: f, lambda g: g)]
    alone = canonical_form(*[moment.products / moment.count] * 2).transform_f.T.astype(np.float32)
    yield "photos alone", [(every, lambda f: f @ alone, lambda g: g @ alone)]
    order = gallery_order(moment, bundle.spectrum)
    yield "(S, B)", [(every, order.sketches, order.photos)]
    shuffled = np.random.default_rng(1).permutation(every)
    classes = np.random.default_rng(1).permutation(np.unique(sketches.labels))
    by_class = [np.flatnonzero(np.isin(sketches.labels, part)) for part in np.array_split(classes, _FOLDS)]
    for name, folds in (("learned", np.array_split(shuffled, _FOLDS)), ("learned, others", by_class)):
        maps: _Maps = []
        for queries in folds:
            drawn = SecondMoment(bundle.dim)
            drawn.add(np.delete(sketches.vectors, queries, axis=0))
            order = gallery_order(moment, bundle.spectrum, drawn)
            maps.append((queries, order.sketches, order.photos))
        yield name, maps


def _precisions(maps: _Maps, sketches: Labelled, photos: Labelled, dimensions: int) -> NDArray[np.float64]:
    """Average precision of each sketch."""
    parts = []
    for queries, of_sketches, of_photos in maps:
        f, g = of_sketches(sketches.vectors[queries]), of_photos(photos.vectors)
        relevance = sketches.labels[queries][:, None] == photos.labels
        parts.append(average_precision(rank_relevance(f[:, :dimensions] @ g[:, :dimensions].T, relevance)))
    return np.concatenate(parts)
