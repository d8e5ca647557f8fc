"""Recall against brute force, and the effort that reaches a wanted one."""

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
QUERIES = 200  # that recall is measured with
_RISK = 0.001  # of refuting what is true
_CHUNK = 1 << 15
_ENOUGH = 0.9995


class RecallPoint(BaseModel):
    """Recall of the first 10, measured against brute force.

    Attributes:
        dimensions: that were compared.
        effort: see ``Accelerator.search``; None is the exact search.
        recall: share of the true 10 best that were found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimensions: int
    effort: int | None
    recall: float


def probe_queries(photos: NDArray[np.float32]) -> NDArray[np.float32]:
    """Queries like sketches: sums of two photos, scaled to the second moments of one.

    Args:
        photos: ``(2 * n, dim)``, in random order.

    Returns:
        ``(n, dim)``.
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
    """Share of the true best that a search finds; any of several equal ones counts.

    Args:
        accelerator: to measure.
        queries: ``(n, dim)``.
        truth: their best scores, ``(n, k)``.
        dimensions: that are compared.
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
    """Whether a sample shows that recall over all queries is below a target.

    What a query finds of its 10 best is a share between 0 and 1, and no count of independent trials, for neighbours are
    missed together. By Hoeffding's inequality the mean x of n such shares is below their expectation p with
    P(mean <= x) <= exp(-n KL(x, p)), where KL(x, p) = x log(x/p) + (1-x) log((1-x)/(1-p)). A recall that meets the
    target is refuted in 1 of 1000 samples at most. One miss refutes a search that claims to be exact.

    Args:
        target: over 0, at most 1.
        recall: mean over the sample.
        queries: size of the sample.
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
    """Measures recall at growing efforts, for all, a quarter and a sixteenth of the dimensions.

    Args:
        accelerator: over the vectors.
        vectors: ``(n, dim)``, may be memory-mapped.
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
    """Smallest effort that reached a recall at the measured numbers of dimensions next to the asked one.

    For more results than were measured it grows in proportion.

    Returns:
        None, which is the exact search, if none did or the recall is 1.
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
    """1, 2, 3, 4, 6, 8, 12, ... up to the largest."""
    steps = sorted({base << shift for base in (2, 3) for shift in range(largest.bit_length())} | {1})
    return [step for step in steps if step < largest] + ([largest] if largest else [])
