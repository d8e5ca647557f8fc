"""Retrieval with and without the neighbours of photos."""

from argparse import Namespace
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from measurements.labelled import Labelled, embedded
from training.data.splits import load_split
from training.evaluation.metrics import accuracy_at, average_precision, rank_relevance
from training.model.bundle import load_bundle
from training.model.neighbours import STRENGTH, gallery_strength, separation, with_neighbours

__all__ = ["compare_neighbours"]

_MOST = (10, 5, 3, 2, 1)  # photos of a class
_DRAWS = 3


def compare_neighbours(options: Namespace) -> None:
    """Prints a table with a row for each gallery."""
    bundle = load_bundle(options.model, "auto")
    sketches, photos = embedded(bundle, options.data, options.cache)
    if options.split:
        unseen = load_split(options.split, np.unique(photos.labels).tolist()).unseen
        sketches, photos = (_chosen(each, np.isin(each.labels, list(unseen))) for each in (sketches, photos))
    rows = np.random.default_rng(0).permutation(len(sketches.labels))[: options.sketches]
    sketches = _chosen(sketches, rows)
    print("| gallery | photos | separation | strength | none: mAP, first | full | the gallery's own |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, galleries in _galleries(photos):
        print(f"| {name} | {_row(sketches, galleries)} |", flush=True)


def _chosen(images: Labelled, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Labelled:
    return Labelled(images.vectors[rows], images.labels[rows])


def _galleries(photos: Labelled) -> Iterator[tuple[str, list[Labelled]]]:
    yield "all", [photos]
    classes, counts = np.unique(photos.labels, return_counts=True)
    for most in (number for number in _MOST if number < counts.max()):
        draws = []
        for draw in range(_DRAWS):
            order = np.random.default_rng(draw).permutation(len(photos.labels))
            kept = [order[photos.labels[order] == each][:most] for each in classes]
            draws.append(_chosen(photos, np.sort(np.concatenate(kept))))
        yield f"at most {most} of a class", draws


def _row(sketches: Labelled, galleries: Sequence[Labelled]) -> str:
    separations = [separation(gallery.vectors) for gallery in galleries]
    strengths = [gallery_strength(gallery.vectors) for gallery in galleries]
    cells = [f"{len(galleries[0].labels)}", f"{np.mean(separations):.3f}", f"{np.mean(strengths):.1f}"]
    for strength in (0.0, STRENGTH, None):
        figures = [_figures(sketches, gallery, strength) for gallery in galleries]
        cells.append(", ".join(f"{figure:.3f}" for figure in np.mean(figures, axis=0)))
    return " | ".join(cells)


def _figures(sketches: Labelled, photos: Labelled, strength: float | None) -> tuple[float, float]:
    known = np.isin(sketches.labels, photos.labels)
    vectors = with_neighbours(photos.vectors, strength=strength)
    ranked = rank_relevance(sketches.vectors[known] @ vectors.T, sketches.labels[known][:, None] == photos.labels)
    return float(average_precision(ranked).mean()), float(accuracy_at(ranked, 1).mean())
