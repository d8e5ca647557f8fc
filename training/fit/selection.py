"""Scores of encoders on classes held out of training, by which a run chooses between candidates."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.instances import own_photos
from training.data.relevance import same_label
from training.evaluation import figures
from training.evaluation.figures import RelevantPairs, mean_average_precision
from training.features.paired import FeatureSet, head_embeddings
from training.model.encoders import PairedEncoders
from training.model.gallery_order import order_of_photos
from training.model.neighbours import with_neighbours

__all__ = ["Dimensions", "choose_dimensions", "climb", "held_out_score"]

_SKETCHES = 2000  # queries of a search; more would hardly change a choice, and take time in proportion to the photos
_TIED = 0.995  # of the best score: fewer dimensions that reach it are as good, and quicker
_NUMBERS = sorted(width << power for width in (2, 3) for power in range(16))  # 2, 3, 4, 6, 8, 12, ...

Vectors = NDArray[np.float32]


class Dimensions(NamedTuple):
    """Numbers of leading dimensions that serve well.

    Attributes:
        best: the fewest of those tried whose score is within 0.5% of the best; it can be far higher than with all.
        sufficient: the fewest that keep 99% of mAP@all with all dimensions, in each search of ``held_out_score``.
    """

    best: int
    sufficient: int


def held_out_score(features: FeatureSet, encoders: PairedEncoders, classes: Collection[str]) -> float:
    """The geometric mean of mAP@all over several searches with the sketches of held-out classes.

    The searches are for photos of the same class and, where instance pairs are known, for the exact match; each among
    all photos and among the photos of the held-out classes alone.

    Args:
        features: features of all seen classes, the held-out ones included.
        encoders: their heads embed the features.
        classes: the held-out classes, whose sketches are the queries; of more than 2,000, so many evenly spaced.
    """
    return _geometric_mean(
        [
            mean_average_precision(sketches, photos, relevance)
            for photos, searches in _galleries(features, encoders, classes)
            for sketches, relevance in searches
        ]
    )


def climb(score: Callable[[float], float], values: Sequence[float]) -> float:
    """Finds the value with the highest score, if scores rise to it and fall after it: about half of them are tried.

    Args:
        score: of a value; it is called once for each that is tried.
        values: ascending.
    """
    position = (len(values) - 1) // 2
    best = score(values[position])
    for step in (1, -1):
        start = position
        while 0 <= position + step < len(values) and (found := score(values[position + step])) > best:
            best, position = found, position + step
        if position != start:
            break
    return values[position]


def choose_dimensions(
    features: FeatureSet, encoders: PairedEncoders, spectrum: Sequence[float], classes: Collection[str]
) -> Dimensions:
    """Chooses numbers of dimensions by the searches of ``held_out_score``.

    The photos have the neighbours and the order that an index of them would have; see ``gallery_order``.

    Args:
        features: features of all seen classes, the held-out ones included.
        encoders: encoders in canonical form.
        spectrum: their spectrum, ``(dim,)``.
        classes: the held-out classes, whose sketches are the queries.
    """
    tried = [number for number in _NUMBERS if number < len(spectrum)] + [len(spectrum)]
    scores: list[list[float]] = [[] for _ in tried]
    sufficient = 1
    for photos, searches in _galleries(features, encoders, classes):
        photos = with_neighbours(photos)
        order = order_of_photos(photos, spectrum)
        photos = order.photos(photos)
        for sketches, relevance in searches:
            sketches = order.sketches(sketches)
            sufficient = max(sufficient, figures.sufficient_dimensions(sketches, photos, relevance))
            for number, found in zip(tried, scores, strict=True):
                found.append(mean_average_precision(sketches[:, :number], photos[:, :number], relevance))
    means = [_geometric_mean(found) for found in scores]
    best = next(number for number, score in zip(tried, means, strict=True) if score >= _TIED * max(means))
    return Dimensions(best, sufficient)


def _geometric_mean(scores: Sequence[float]) -> float:
    return math.exp(sum(math.log(max(score, 1e-12)) for score in scores) / len(scores))


def _galleries(
    features: FeatureSet, encoders: PairedEncoders, classes: Collection[str]
) -> Iterator[tuple[Vectors, list[tuple[Vectors, RelevantPairs]]]]:
    """Yields the photos and the searches among them of ``held_out_score``, as ``mean_average_precision`` takes them.

    Where every class has a single photo, as in a pairs table without classes, the search for the class is also the
    search for the exact match, and is not repeated.
    """
    for part in (features, features.select(classes)):
        queries = sorted({row for group in part.data.groups if group.label in classes for row in group.sketches})
        chosen = np.linspace(0, len(queries) - 1, min(len(queries), _SKETCHES)).astype(int)
        queries = [queries[place] for place in chosen]
        sketches = head_embeddings(encoders.sketch, part.x[queries])
        photos = head_embeddings(encoders.photo, part.y)
        relevance = part.relevance()
        searches: list[tuple[Vectors, RelevantPairs]] = [(sketches, relevance[queries])]
        own = own_photos(part.data)[queries]
        known = np.flatnonzero(own >= 0).tolist()
        if known and not relevance.has_single_photos:
            searches.append((sketches[known], same_label(own[known], np.arange(len(photos)))))
        yield photos, searches
