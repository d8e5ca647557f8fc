"""Chooses the kind of accelerator for a gallery by measuring the kinds on a sample of its vectors."""

import logging
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.accelerators.interface import Accelerator
from index.accelerators.kinds import Kind, build_kind
from index.accelerators.recall import K, probe_queries
from training.base.machine import memory_limit

__all__ = ["Choice", "choose_kind"]

logger = logging.getLogger(__name__)

_SMALL = 10_000  # vectors; with fewer, every search takes well under a millisecond
_SAMPLE = 50_000
_QUERIES = 20
_ROUNDS = 3  # the quickest counts, because other work disturbs the others


class Choice(NamedTuple):
    """A kind, and the reason for it in a sentence."""

    kind: Kind
    reason: str


def choose_kind(vectors: NDArray[np.float32]) -> Choice:
    """Chooses a kind for ``(n, dim)`` vectors, which may be memory-mapped, and logs the reason.

    Vectors that would not fit into half of the memory stay on disk. Few vectors are simply compared. Otherwise, the
    kind that answers exact searches of all dimensions faster on a sample is chosen.
    """
    choice = _choice(vectors)
    logger.info("kind of index: %s, because %s", choice.kind, choice.reason)
    return choice


def _choice(vectors: NDArray[np.float32]) -> Choice:
    count, dim = vectors.shape
    if 4 * count * dim > memory_limit() // 2:
        return Choice("disk", "the vectors would not fit into half of the memory")
    if count < _SMALL:
        return Choice("exact", f"there are fewer than {_SMALL:,} photos")
    random = np.random.default_rng(0)
    sample = np.asarray(vectors[np.sort(random.permutation(count)[:_SAMPLE])])
    queries = probe_queries(sample[random.permutation(len(sample))[: 2 * _QUERIES]])
    kinds: tuple[Kind, ...] = ("exact", "codes")
    times = {kind: _milliseconds(build_kind(kind, sample), queries) for kind in kinds}
    best, other = sorted(kinds, key=times.__getitem__)
    return Choice(
        best,
        f"an exact search among {len(sample):,} of the photos takes {times[best]:.2f} ms, "
        f"and with {other} {times[other]:.2f} ms",
    )


def _milliseconds(accelerator: Accelerator, queries: NDArray[np.float32]) -> float:
    """Time of one exact search with all dimensions."""
    rounds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for query in queries:
            accelerator.search(query[None], K, queries.shape[1])
        rounds.append(time.perf_counter() - started)
    return 1000 * min(rounds) / len(queries)
