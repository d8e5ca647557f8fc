"""Retrieval metrics, as functions of the relevance of each ranked result.

``ranked`` below is ``(queries, gallery)`` bool: whether the result at each rank is relevant, best first.
``positives`` is ``(queries,)``: how many relevant items the gallery holds. Every function returns one value
a query; queries without a relevant item score zero and are best left out beforehand.
"""

from collections.abc import Iterator

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
    ranked = np.zeros(relevant.shape, dtype=np.bool_)
    for row, ranks in enumerate(_relevant_ranks(scores, relevant)):
        ranked[row, ranks] = True
    return ranked


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
    """The average precision of ``rank_relevance``, in less time, for it looks at the ranks of relevant items alone.

    Args:
        scores: see ``rank_relevance``.
        relevant: see ``rank_relevance``.
    """
    found = np.zeros(len(scores))
    for row, ranks in enumerate(_relevant_ranks(scores, relevant)):
        if len(ranks):
            found[row] = np.mean(np.arange(1, len(ranks) + 1) / (ranks + 1))
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


def _relevant_ranks(scores: NDArray[np.float32], relevant: Ranked) -> Iterator[NDArray[np.int64]]:
    """The ranks of the relevant items of each query, ascending from 0.

    Sorting keys is quicker than sorting positions, whether or not many scores are equal.
    """
    for own, items in zip(scores, map(np.flatnonzero, relevant), strict=True):
        keys = _keys(own)
        yield np.searchsorted(np.sort(keys), np.sort(keys[items]))


def _keys(scores: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Numbers ``(n,)``, all different, that ascend as scores descend, and with the position where scores are equal."""
    positions = np.arange(len(scores), dtype=np.uint64)
    if scores.dtype != np.float32:  # of a method elsewhere; sorting positions keeps differences below 32 bits
        keys = np.empty_like(positions)
        keys[np.argsort(-scores, kind="stable")] = positions
        return keys
    bits = (scores + np.float32(0)).view(np.uint32)  # adding zero makes one of its two signs
    descending = np.where(bits >> 31, bits, bits ^ 0x7FFFFFFF)  # larger the more negative; smaller the more positive
    return (descending.astype(np.uint64) << np.uint64(32)) | positions


def _precision(ranked: Ranked) -> Values:
    """Precision at each rank."""
    return np.asarray(np.cumsum(ranked, axis=1) / np.arange(1, ranked.shape[1] + 1), dtype=np.float64)


def _divide(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Values:
    values = np.asarray(numerator, dtype=np.float64)
    np.divide(values, denominator, out=values, where=np.asarray(denominator) > 0)
    return values
