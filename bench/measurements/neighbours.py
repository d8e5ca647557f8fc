"""Retrieval with and without the neighbours of photos."""

from argparse import Namespace
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from measurements.labelled import Labelled, embedded
from training.evaluation.metrics import accuracy_at, average_precision, rank_relevance
from training.model.bundle import load_bundle
from training.model.neighbours import with_neighbours

__all__ = ["compare_neighbours"]

_TRIED = ((0, 2.0), (5, 1.0), (5, 2.0), (10, 1.0), (10, 2.0), (10, 3.0), (20, 2.0))


def compare_neighbours(options: Namespace) -> None:
    """Prints a table with a row for each number of neighbours and their strength."""
    bundle = load_bundle(options.model, "auto")
    sketches, photos = embedded(bundle, options.data, options.cache)
    chosen = np.random.default_rng(0).permutation(len(sketches.labels))[: options.sketches]
    sketches = Labelled(sketches.vectors[chosen], sketches.labels[chosen])
    galleries = dict(_galleries(photos))
    print(f"| neighbours, strength | {' | '.join(f'{name}: mAP, first' for name in galleries)} |")
    print(f"|{' --- |' * (len(galleries) + 1)}")
    for count, strength in _TRIED:
        cells = [_figures(sketches, gallery, count, strength) for gallery in galleries.values()]
        print(f"| {f'{count}, {strength:g}' if count else 'none'} | {' | '.join(cells)} |", flush=True)


def _galleries(photos: Labelled) -> Iterator[tuple[str, Labelled]]:
    yield f"all {len(photos.labels)}", photos
    order = np.random.default_rng(0).permutation(len(photos.labels))
    for most in (2, 1):
        kept: list[NDArray[np.int64]] = [
            order[photos.labels[order] == each][:most] for each in np.unique(photos.labels)
        ]
        rows = np.concatenate(kept)
        yield f"{len(rows)}, at most {most} of a class", Labelled(photos.vectors[rows], photos.labels[rows])


def _figures(sketches: Labelled, photos: Labelled, count: int, strength: float) -> str:
    known = np.isin(sketches.labels, photos.labels)
    vectors = with_neighbours(photos.vectors, count, strength)
    ranked = rank_relevance(sketches.vectors[known] @ vectors.T, sketches.labels[known][:, None] == photos.labels)
    return f"{average_precision(ranked).mean():.3f}, {accuracy_at(ranked, 1).mean():.3f}"
