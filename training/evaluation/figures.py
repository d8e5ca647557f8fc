"""Figures of retrieval with given embeddings, at full dimension and truncated.

Every function takes arrays, whichever method made them. Photos are ranked for a few sketches at a time, so that memory
is bounded whatever the size of the gallery.

Example:
    >>> from training.data.relevance import same_label
    >>> sketches, photos = np.eye(2, dtype=np.float32), np.array([[0, 2], [3, 1], [1, 0]], np.float32)
    >>> figures = retrieval_figures(sketches, photos, same_label(["owl", "fox"], ["fox", "owl", "fox"]))
    >>> round(figures.map_all, 3), figures.accuracy[1]
    (0.917, 1.0)
"""

from collections.abc import Iterator
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training.data.relevance import same_label
from training.evaluation.metrics import (
    accuracy_at,
    average_precision,
    average_precision_by_scores,
    interpolated_average_precision,
    precision_at,
    precision_at_min,
    rank_relevance,
)
from training.model.truncation import truncate

__all__ = [
    "CurvePoint",
    "RelevantPairs",
    "RetrievalFigures",
    "average_precisions",
    "curve_dimensions",
    "instance_accuracy",
    "mean_average_precision",
    "retrieval_figures",
    "sufficient_dimensions",
    "truncation_curve",
]

_SCORED, _RANKED = 1 << 25, 1 << 22  # scores computed, and ranked, at once
CUTOFFS = (1, 5, 10, 25, 50, 100, 200)


class RelevantPairs(Protocol):
    """Which photos are relevant to which sketches, ``(queries, gallery)``: a ``Relevance``, or a sparse array."""

    def __getitem__(self, rows: slice) -> Self:
        """The part for some of the sketches."""
        ...

    def toarray(self) -> NDArray[np.generic]:
        """Every pair; non-zero where a photo is relevant to a sketch."""
        ...


class CurvePoint(BaseModel):
    """One point of a truncation curve.

    Attributes:
        dimensions: number of dimensions kept.
        most: mAP@all with the first, most significant dimensions.
        least: mAP@all with the last, least significant dimensions.
    """

    model_config = ConfigDict(frozen=True)

    dimensions: int
    most: float
    least: float


class RetrievalFigures(BaseModel):
    """Figures of retrieval, each a mean over all queries; the keys of the mappings are K.

    Attributes:
        map_all: mAP@all, the standard average precision over the whole gallery.
        map_200: mAP@200, the average precision of the first 200 results, divided by min(200, positives).
        map_interpolated: mAP@all with optimistically interpolated precision, which is higher.
        precision: P@K, the number of relevant photos among the first K results, divided by K.
        precision_min: the same number divided by min(K, positives).
        accuracy: acc@K, the share of queries with a relevant photo among the first K results.
        curve: truncation curve, in the order of the coordinates given.
        queries: number of sketches.
        gallery: number of photos.
    """

    model_config = ConfigDict(frozen=True)

    map_all: float
    map_200: float
    map_interpolated: float
    precision: dict[int, float]
    precision_min: dict[int, float]
    accuracy: dict[int, float]
    curve: list[CurvePoint]
    queries: int
    gallery: int


def retrieval_figures(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], relevance: RelevantPairs
) -> RetrievalFigures:
    """Computes every figure of the zero-shot protocol.

    Args:
        sketches: embeddings of the queries, ``(queries, dim)``; each must have at least one relevant photo.
        photos: embeddings of the gallery, ``(gallery, dim)``.
        relevance: which photos are relevant to which sketches.
    """
    totals: dict[str, float] = {}

    def add(name: str, values: NDArray[np.float64]) -> None:
        totals[name] = totals.get(name, 0.0) + float(values.sum()) / len(sketches)

    cutoffs = [k for k in CUTOFFS if k <= len(photos)]
    for ranked in _ranked_blocks(sketches, photos, relevance):
        add("map_all", average_precision(ranked))
        add("map_200", average_precision(ranked, 200))
        add("map_interpolated", interpolated_average_precision(ranked))
        for k in cutoffs:
            add(f"precision {k}", precision_at(ranked, k))
            add(f"precision_min {k}", precision_at_min(ranked, k))
            add(f"accuracy {k}", accuracy_at(ranked, k))
    return RetrievalFigures(
        map_all=totals["map_all"],
        map_200=totals["map_200"],
        map_interpolated=totals["map_interpolated"],
        precision={k: totals[f"precision {k}"] for k in cutoffs},
        precision_min={k: totals[f"precision_min {k}"] for k in cutoffs},
        accuracy={k: totals[f"accuracy {k}"] for k in cutoffs},
        curve=truncation_curve(sketches, photos, relevance),
        queries=len(sketches),
        gallery=len(photos),
    )


def truncation_curve(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], relevance: RelevantPairs
) -> list[CurvePoint]:
    """mAP@all at 1, 2, 4, ... dimensions; the arguments are those of ``retrieval_figures``."""
    curve = []
    for dimensions in curve_dimensions(sketches.shape[1]):
        ends = (slice(None, dimensions), slice(sketches.shape[1] - dimensions, None))
        most, least = (mean_average_precision(sketches[:, end], photos[:, end], relevance) for end in ends)
        curve.append(CurvePoint(dimensions=dimensions, most=most, least=least))
    return curve


def instance_accuracy(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], own: NDArray[np.int64]
) -> dict[int, float]:
    """acc@K of instance retrieval: the share of sketches whose exact match is among the first K results.

    Args:
        sketches: embeddings of the queries, ``(queries, dim)``.
        photos: embeddings of the gallery, ``(gallery, dim)``.
        own: ``(queries,)``, position of the photo that each sketch depicts; -1 where it is not known, and the sketch is
            left out.

    Returns:
        acc@K by K; empty if no sketch has a known match.
    """
    known = np.flatnonzero(own >= 0)
    if not len(known):
        return {}
    cutoffs = [k for k in CUTOFFS if k <= len(photos)]
    found = np.zeros(len(cutoffs))
    for ranked in _ranked_blocks(sketches[known], photos, same_label(own[known], np.arange(len(photos)))):
        found += [accuracy_at(ranked, k).sum() for k in cutoffs]
    return {k: float(count) / len(known) for k, count in zip(cutoffs, found, strict=True)}


def mean_average_precision(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], relevance: RelevantPairs
) -> float:
    """mAP@all alone; the arguments are those of ``retrieval_figures``."""
    return float(average_precisions(sketches, photos, relevance).mean())


def average_precisions(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], relevance: RelevantPairs
) -> NDArray[np.float64]:
    """The average precision of each query, ``(queries,)``; the arguments are those of ``retrieval_figures``."""
    return np.concatenate(
        [average_precision_by_scores(*scored) for scored in _scored_blocks(sketches, photos, relevance)]
    )


def sufficient_dimensions(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], relevance: RelevantPairs, share: float = 0.99
) -> int:
    """The fewest dimensions that keep a share of mAP@all at full dimension.

    They are found by bisection, which assumes that mAP does not fall as dimensions are added. Where it does, fewer
    dimensions might suffice, but those returned keep the share.

    Args:
        sketches: see ``retrieval_figures``.
        photos: see ``retrieval_figures``.
        relevance: see ``retrieval_figures``.
        share: the share to keep, between 0 and 1.
    """
    target = share * mean_average_precision(sketches, photos, relevance)
    too_few, enough = 0, int(sketches.shape[1])
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if mean_average_precision(truncate(sketches, middle), truncate(photos, middle), relevance) >= target:
            enough = middle
        else:
            too_few = middle
    return enough


def curve_dimensions(dim: int) -> list[int]:
    """The numbers of dimensions of a truncation curve: 1, 2, 4, ... and ``dim`` itself."""
    return sorted({*(2**power for power in range(dim.bit_length())), dim})


def _ranked_blocks(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], relevance: RelevantPairs
) -> Iterator[NDArray[np.bool_]]:
    step = max(1, _RANKED // len(photos))
    for scores, relevant in _scored_blocks(sketches, photos, relevance):
        for start in range(0, len(scores), step):
            yield rank_relevance(scores[start : start + step], relevant[start : start + step])


def _scored_blocks(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], relevance: RelevantPairs
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Scores of some sketches with all photos, and which of these are relevant, ``(sketches, photos)``."""
    step = max(1, _SCORED // len(photos))
    for start in range(0, len(sketches), step):
        block = slice(start, start + step)
        yield sketches[block] @ photos.T, relevance[block].toarray() != 0
