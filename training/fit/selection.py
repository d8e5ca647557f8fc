"""Scores of encoders on classes held out of training, by which a run chooses between candidates."""

import math
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from training.data.instances import own_photos
from training.evaluation import figures
from training.evaluation.figures import mean_average_precision
from training.features.paired import FeatureSet, head_embeddings
from training.model.encoders import PairedEncoders
from training.model.gallery_order import order_of_photos

__all__ = ["held_out_score", "sufficient_dimensions"]


def held_out_score(features: FeatureSet, encoders: PairedEncoders, classes: Collection[str]) -> float:
    """The geometric mean of mAP@all over several searches with the sketches of held-out classes.

    The searches are for photos of the same class and, where instance pairs are known, for the exact match; each among
    all photos and among the photos of the held-out classes alone.

    Args:
        features: features of all seen classes, the held-out ones included.
        encoders: their heads embed the features.
        classes: the held-out classes, whose sketches are the queries.
    """
    scores = [mean_average_precision(*search) for search in _searches(features, encoders, classes)]
    return math.exp(sum(math.log(max(score, 1e-12)) for score in scores) / len(scores))


def sufficient_dimensions(features: FeatureSet, encoders: PairedEncoders, classes: Collection[str]) -> int:
    """The fewest dimensions that keep 99% of mAP@all in each of the searches of ``held_out_score``.

    Dimensions are counted in the order of the gallery searched; see ``gallery_order``.

    Args:
        features: features of all seen classes, the held-out ones included.
        encoders: encoders in canonical form.
        classes: the held-out classes, whose sketches are the queries.
    """
    counts = []
    for sketches, photos, relevance in _searches(features, encoders, classes):
        order = order_of_photos(photos, (photos.astype(np.float64) ** 2).mean(axis=0).tolist())
        counts.append(figures.sufficient_dimensions(order.apply(sketches), order.apply(photos), relevance))
    return max(counts)


def _searches(
    features: FeatureSet, encoders: PairedEncoders, classes: Collection[str]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], csr_array]]:
    """Yields the searches of ``held_out_score``, as arguments of ``mean_average_precision``.

    Where every group has a single photo, as in a pairs table, the search for the class is also the search for the exact
    match, and is not repeated.
    """
    for part in (features, features.select(classes)):
        queries = sorted({row for group in part.data.groups if group.label in classes for row in group.sketches})
        sketches = head_embeddings(encoders.sketch, part.x[queries])
        photos = head_embeddings(encoders.photo, part.y)
        yield sketches, photos, part.relevance()[queries]
        if all(len(group.photos) == 1 for group in part.data.groups):
            continue
        own = own_photos(part.data)[queries]
        if known := np.flatnonzero(own >= 0).tolist():
            cells = (np.ones(len(known)), (np.arange(len(known)), own[known]))
            yield sketches[known], photos, csr_array(cells, shape=(len(known), len(photos)))
