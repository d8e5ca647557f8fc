"""Fits relevance to what searches with held-out classes find, and measures how far it can be trusted.

What is fitted and measured are results as a search serves them: the first photos of each sketch, with the neighbours
that an index takes in. A gallery may hold no
photo of what was drawn, so every search is made a second time among the photos of other classes, where no result is
relevant. Relevance is therefore the probability that a result is right if every other search has something to find.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from training.data.relevance import Relevance
from training.features.paired import FeatureSet, head_embeddings
from training.model.calibration import Calibration, Coefficients, score_spread
from training.model.encoders import PairedEncoders
from training.model.gallery_order import order_of_photos
from training.model.neighbours import with_neighbours

__all__ = ["Found", "calibration_error", "fit_calibration", "found_by_sketches", "reliability"]

FEWEST_CLASSES = 10  # fewer say too little about classes to come
_GRID = (16, 32, 64, 128, 256)  # numbers of dimensions to fit; the model's own is added
_SHOWN = 20  # results of a search, as many as the service gives by default
_SKETCHES = 1000  # queries of a search; more would hardly change three coefficients
_SHARES = (1.0, 0.25)  # parts of each gallery, so that several sizes are seen
_BLOCK = 1 << 24  # scores computed at once
_BINS = 10
_PENALTY = 1e-3  # weight of the squared coefficients, which keeps them finite where the classes are separable


class Found(NamedTuple):
    """Results of searches, one in each position of the arrays.

    Attributes:
        deviations: score minus the query's baseline, ``(n,)``.
        spreads: the query's standard deviation of scores, ``(n,)``.
        photos: size of the gallery, ``(n,)``.
        relevant: whether the result is right, ``(n,)``.
    """

    deviations: NDArray[np.float64]
    spreads: NDArray[np.float64]
    photos: NDArray[np.float64]
    relevant: NDArray[np.bool_]

    def relevance(self, calibration: Calibration, dimensions: int) -> NDArray[np.float64]:
        """The relevance that the calibration gives these results, ``(n,)``."""
        found = np.empty(len(self.deviations))
        for size in np.unique(self.photos):
            rows = self.photos == size
            found[rows] = calibration.relevance(self.deviations[rows] / self.spreads[rows], 1.0, dimensions, int(size))
        return found


def fit_calibration(
    features: FeatureSet, encoders: PairedEncoders, spectrum: Sequence[float], classes: Collection[str]
) -> Calibration | None:
    """Fits relevance to searches with the sketches of held-out classes.

    Args:
        features: features of photos to search, those of the held-out classes included.
        encoders: encoders in canonical form.
        spectrum: their spectrum, ``(dim,)``.
        classes: the held-out classes, whose sketches are the queries.

    Returns:
        The calibration; None if there are too few classes, or no search finds a relevant photo.
    """
    used = sorted({group.label for group in features.data.groups} & set(classes))
    if len(used) < FEWEST_CLASSES:
        return None
    grid = [number for number in _GRID if number < len(spectrum)] + [len(spectrum)]
    found = found_by_sketches(features, encoders, spectrum, classes, grid)
    if not all(results.relevant.any() for results in found.values()):
        return None
    queries = sum(len(group.sketches) for group in features.select(used).data.groups)
    fitted = tuple(_coefficients(number, results) for number, results in found.items())
    return Calibration(coefficients=fitted, classes=len(used), queries=min(queries, _SKETCHES))


def found_by_sketches(
    features: FeatureSet,
    encoders: PairedEncoders,
    spectrum: Sequence[float],
    classes: Collection[str],
    dimensions: Sequence[int],
) -> dict[int, Found]:
    """Searches with the sketches of classes, among all photos and among those of the classes alone, and parts of both.

    Args:
        features: see ``fit_calibration``; encoders, spectrum and classes likewise.
        encoders: encoders.
        spectrum: spectrum.
        classes: classes of the queries.
        dimensions: numbers of dimensions to compare.

    Returns:
        By number of dimensions, the first results of every search, with and without the photos that are relevant.
    """
    results: dict[int, list[Found]] = {number: [] for number in dimensions}
    for sketches, photos, relevance in _galleries(features, encoders, classes):
        photos = with_neighbours(photos)
        order = order_of_photos(photos, spectrum)
        f, g = order.sketches(sketches), order.photos(photos)
        for number, parts in results.items():
            spreads = score_spread(order, f, number)
            parts.extend(_search(f[:, :number], g[:, :number], relevance, spreads))
    return {
        number: Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        for number, parts in results.items()
    }


def _galleries(
    features: FeatureSet, encoders: PairedEncoders, classes: Collection[str]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], Relevance]]:
    """Queries, photos, and which are relevant to which; one after the other."""
    generator = np.random.default_rng(0)
    for part in (features, features.select(classes)):
        rows = sorted({row for group in part.data.groups if group.label in classes for row in group.sketches})
        chosen = np.sort(generator.permutation(rows)[:_SKETCHES])
        sketches = head_embeddings(encoders.sketch, part.x[chosen])
        photos, relevance = head_embeddings(encoders.photo, part.y), part.relevance()[chosen]
        for share in _SHARES:
            kept = np.sort(generator.permutation(len(photos))[: max(2, round(share * len(photos)))])
            yield sketches, photos if len(kept) == len(photos) else photos[kept], relevance.among(kept)


def _search(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], relevance: Relevance, spreads: NDArray[np.float64]
) -> Iterator[Found]:
    """The first results of sketches that have a relevant photo: among all photos, and among those not relevant."""
    having = np.flatnonzero(relevance.is_found)
    step = max(1, _BLOCK // len(photos))
    for rows in (having[start : start + step] for start in range(0, len(having), step)):
        scores = sketches[rows] @ photos.T
        relevant = relevance[rows].toarray()
        for absent in (False, True):
            shown = np.where(relevant, -np.inf, scores) if absent else scores
            first = np.array([_best(row) for row in shown])
            deviations = np.take_along_axis(shown, first, axis=1).astype(np.float64)
            there = np.isfinite(deviations)
            sizes = len(photos) - (relevant.sum(axis=1) if absent else np.zeros(len(rows)))
            yield Found(
                deviations[there],
                np.repeat(spreads[rows, None], first.shape[1], axis=1)[there],
                np.repeat(sizes[:, None], first.shape[1], axis=1)[there],
                np.take_along_axis(relevant, first, axis=1)[there] & (not absent),
            )


def _best(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The positions of the first results, best first; the earlier position, where scores are equal."""
    least = np.partition(scores, -_SHOWN)[-_SHOWN] if len(scores) > _SHOWN else -np.inf
    candidates = np.flatnonzero(scores >= least)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:_SHOWN]


def _coefficients(dimensions: int, found: Found) -> Coefficients:
    """Logistic regression with signs that make sense: more score is never worse, more photos never better."""
    inputs = np.stack([found.deviations / found.spreads, np.log(found.photos), np.ones(len(found.photos))], axis=1)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = inputs @ values
        likelihood = np.mean(np.logaddexp(0, logits) - found.relevant * logits)
        gradient = inputs.T @ (0.5 * (1 + np.tanh(logits / 2)) - found.relevant) / len(logits)
        return float(likelihood + _PENALTY * values @ values / 2), gradient + _PENALTY * values

    bounds = ((0, None), (None, 0), (None, None))
    slope, size, offset = minimize(loss, np.zeros(3), jac=True, bounds=bounds, method="L-BFGS-B").x
    return Coefficients(dimensions=dimensions, slope=float(slope), size=float(size), offset=float(offset))


def reliability(relevance: NDArray[np.float64], relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A reliability diagram: results in ten bins by relevance.

    Args:
        relevance: predicted, ``(n,)``.
        relevant: whether the result is right, ``(n,)``.

    Returns:
        For each bin that is not empty: mean relevance, share of relevant results, number of results; ``(bins, 3)``.
    """
    bins = np.minimum((relevance * _BINS).astype(int), _BINS - 1)
    rows = [(relevance[bins == k].mean(), relevant[bins == k].mean(), (bins == k).sum()) for k in np.unique(bins)]
    return np.array(rows, np.float64).reshape(-1, 3)


def calibration_error(relevance: NDArray[np.float64], relevant: NDArray[np.bool_]) -> float:
    """The expected calibration error: the mean distance between relevance and share of relevant results, over bins."""
    predicted, actual, counts = reliability(relevance, relevant).T
    return float(np.abs(predicted - actual) @ counts / counts.sum())
