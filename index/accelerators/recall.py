"""Recall measured against an exact search, and the search effort that reaches a wanted recall."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from index.accelerators.brute_force import compare_all
from index.accelerators.candidates import candidates
from index.accelerators.interface import FLOAT_NOISE, Accelerator
from training.model.truncation import truncate

__all__ = [
    "QUERIES",
    "K",
    "RecallPoint",
    "calibrate",
    "effort_for",
    "is_refuted",
    "measured_recall",
    "probe_queries",
]

K = 10
QUERIES = 200  # queries that recall is measured with
_RISK = 0.001  # probability of reporting a recall below its target although it is not
_CHUNK = 1 << 15
_ENOUGH = 0.9995


class RecallPoint(BaseModel):
    """Recall@10 at one setting of the search, measured against an exact search.

    Attributes:
        dimensions: number of leading coordinates that were compared.
        effort: see ``Accelerator.search``; None stands for the exact search.
        recall: share of the true 10 best that were found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimensions: int
    effort: int | None
    recall: float


def probe_queries(photos: NDArray[np.float32]) -> NDArray[np.float32]:
    """Makes queries that resemble sketches: sums of two photos, scaled to the second moments of one.

    Args:
        photos: embeddings of photos, ``(2 * n, dim)``, in random order.

    Returns:
        The queries, ``(n, dim)``.
    """
    half = len(photos) // 2
    mixed: NDArray[np.float32] = (photos[:half] + photos[half : 2 * half]) / np.sqrt(2, dtype=np.float32)
    return mixed


def measured_recall(
    accelerator: Accelerator,
    queries: NDArray[np.float32],
    truth: NDArray[np.float32],
    dimensions: int,
    effort: int | None,
    count: int,
) -> float:
    """Measures the share of the true best that a search finds. Any of several vectors with equal scores counts.

    Args:
        accelerator: the vector index to measure.
        queries: the queries, ``(n, dim)``.
        truth: the best scores of each query by exact search, ``(n, k)``.
        dimensions: number of leading coordinates that are compared.
        effort: see ``Accelerator.search``.
        count: number of vectors.
    """
    k = truth.shape[1]
    positions = candidates(accelerator, queries, k, dimensions, reachable=count, effort=effort)
    hits = 0
    for query, row, wanted in zip(truncate(queries, dimensions), positions, truth, strict=True):
        scores = truncate(accelerator.gather(row[row >= 0]), dimensions) @ query
        hits += min(k, int((scores >= wanted[-1] - FLOAT_NOISE * abs(wanted[0])).sum()))
    return hits / truth.size


def is_refuted(target: float, recall: float, queries: int) -> bool:
    """Tells whether a sample of queries shows that recall over all queries is below a target.

    The share of its 10 best that a query finds lies between 0 and 1. It is not a count of independent trials, because
    neighbours tend to be missed together. By Hoeffding's inequality, the mean x of n such shares falls below their
    expectation p with P(mean <= x) <= exp(-n KL(x, p)), where KL(x, p) = x log(x/p) + (1-x) log((1-x)/(1-p)). A recall
    that meets the target is refuted in at most 1 of 1000 samples. One miss refutes a search that claims to be exact.

    Args:
        target: the recall that is claimed, above 0 and at most 1.
        recall: the mean recall over the sample.
        queries: number of queries in the sample.
    """
    if recall >= target:
        return False
    if target == 1:
        return True
    divergence = (1 - recall) * math.log((1 - recall) / (1 - target))
    if recall > 0:
        divergence += recall * math.log(recall / target)
    return queries * divergence > -math.log(_RISK)


def calibrate(accelerator: Accelerator, vectors: NDArray[np.float32]) -> list[RecallPoint]:
    """Measures recall at growing efforts, with all, a quarter and a sixteenth of the dimensions.

    Args:
        accelerator: the vector index over ``vectors``.
        vectors: the original vectors ``(n, dim)``, which may be memory-mapped.
    """
    count, dim = vectors.shape
    chosen = np.random.default_rng(0).integers(count, size=2 * QUERIES)
    queries = probe_queries(np.asarray(vectors[chosen]))
    points = []
    for dimensions in sorted({dim, -(-dim // 4), -(-dim // 16)}):
        blocks = (vectors[start : start + _CHUNK] for start in range(0, count, _CHUNK))
        truth = compare_all(queries, blocks, min(K, count), dimensions)[0]
        efforts: list[int | None] = [None, *_efforts(accelerator.largest_effort)]
        for effort in efforts:
            recall = measured_recall(accelerator, queries, truth, dimensions, effort, count)
            points.append(RecallPoint(dimensions=dimensions, effort=effort, recall=recall))
            if effort is not None and recall >= _ENOUGH:
                break
    return points


def effort_for(points: Sequence[RecallPoint], dimensions: int, recall: float, k: int = K) -> int | None:
    """Chooses the smallest effort that reached a recall at the measured numbers of dimensions next to the wanted one.

    If more results are wanted than were measured, the effort grows in proportion.

    Returns:
        The effort, or None for the exact search if the recall is 1 or no measured effort reached it.
    """
    if recall >= 1:
        return None
    measured = sorted({point.dimensions for point in points})
    above = [one for one in measured if one >= dimensions][:1]
    below = [one for one in measured if one <= dimensions][-1:]
    efforts = []
    for near in {*above, *below}:
        reached = [p.effort for p in points if p.dimensions == near and p.effort is not None and p.recall >= recall]
        if not reached:
            return None
        efforts.append(min(reached))
    return -(-max(efforts) * max(k, K) // K) if efforts else None


def _efforts(largest: int) -> list[int]:
    """The efforts to measure: 1, 2, 3, 4, 6, 8, 12 and so on, up to the largest."""
    steps = sorted({base << shift for base in (2, 3) for shift in range(largest.bit_length())} | {1})
    return [step for step in steps if step < largest] + ([largest] if largest else [])
