"""Retrieval metrics, as functions of the relevance of each ranked result.

``ranked`` below is ``(queries, gallery)`` bool: whether the result at each rank is relevant, best first.
``positives`` is ``(queries,)``: how many relevant items the gallery holds. Every function returns one value
a query; queries without a relevant item score zero and are best left out beforehand.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "accuracy_at",
    "average_precision",
    "average_precision_by_scores",
    "interpolated_average_precision",
    "precision_at",
    "precision_at_min",
    "rank_relevance",
]

Ranked = NDArray[np.bool_]
Values = NDArray[np.float64]


def rank_relevance(scores: NDArray[np.float32], relevant: Ranked) -> Ranked:
    """Orders relevance by descending score, ties by position.

    Args:
        scores: ``(queries, gallery)``, higher for a better match.
        relevant: ``(queries, gallery)`` bool.

    Returns:
        ``(queries, gallery)`` bool, best match first.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(relevant, order, axis=1)


def average_precision(ranked: Ranked, cutoff: int | None = None) -> Values:
    """Standard average precision: the mean of precision at the rank of each relevant item.

    Args:
        ranked: see the module's text.
        cutoff: count only the first so many ranks, and divide by min(cutoff, positives): AP@cutoff.
    """
    positives = ranked.sum(axis=1)
    top = ranked[:, :cutoff]
    total = (_precision(top) * top).sum(axis=1)
    return _divide(total, positives if cutoff is None else np.minimum(positives, cutoff))


def average_precision_by_scores(scores: NDArray[np.float32], relevant: Ranked) -> Values:
    """The average precision of ``rank_relevance``, four times as quick, for it finds the ranks of relevant items alone.

    Args:
        scores: see ``rank_relevance``.
        relevant: see ``rank_relevance``.
    """
    costs = -scores
    ascending = np.sort(costs, axis=1)
    found = np.zeros(len(costs))
    for row, own in enumerate(costs):
        items = np.flatnonzero(relevant[row])
        if not len(items):
            continue
        before, upto = (np.searchsorted(ascending[row], own[items], side) for side in ("left", "right"))
        for tied in np.flatnonzero(upto - before > 1):  # the earlier position is the better rank
            before[tied] += np.count_nonzero(own[: items[tied]] == own[items[tied]])
        found[row] = np.mean(np.arange(1, len(items) + 1) / (np.sort(before) + 1))
    return found


def interpolated_average_precision(ranked: Ranked) -> Values:
    """Average precision with optimistic interpolation: precision at a recall is the best at that recall or more."""
    best = np.maximum.accumulate(_precision(ranked)[:, ::-1], axis=1)[:, ::-1]
    return _divide((best * ranked).sum(axis=1), ranked.sum(axis=1))


def precision_at(ranked: Ranked, k: int) -> Values:
    """Relevant results among the first k, divided by k."""
    return _divide(ranked[:, :k].sum(axis=1), np.full(len(ranked), k))


def precision_at_min(ranked: Ranked, k: int) -> Values:
    """Relevant results among the first k, divided by min(k, positives): 1 is attainable for every query."""
    return _divide(ranked[:, :k].sum(axis=1), np.minimum(k, ranked.sum(axis=1)))


def accuracy_at(ranked: Ranked, k: int) -> Values:
    """Whether any of the first k results is relevant (also called recall@k or acc@k)."""
    return np.asarray(ranked[:, :k].any(axis=1), dtype=np.float64)


def _precision(ranked: Ranked) -> Values:
    """Precision at each rank."""
    return np.asarray(np.cumsum(ranked, axis=1) / np.arange(1, ranked.shape[1] + 1), dtype=np.float64)


def _divide(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Values:
    values = np.asarray(numerator, dtype=np.float64)
    np.divide(values, denominator, out=values, where=np.asarray(denominator) > 0)
    return values
