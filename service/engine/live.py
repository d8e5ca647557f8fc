"""A generation and what has changed since it was published, searched as one."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import DimensionsError
from index.gallery.searcher import Hit, Searcher
from training.model.truncation import truncate

__all__ = ["Change", "LiveSearcher"]


class Change(NamedTuple):
    """A photo that was added, replaced or removed.

    Attributes:
        revision: of the catalogue with the change.
        id: of the photo.
        vector: ``(dim,)``; None if it was removed.
        known: whether the photo was there before.
    """

    revision: int
    id: int
    vector: NDArray[np.float32] | None
    known: bool


class LiveSearcher:
    """Immutable; one object may be used from many threads.

    Args:
        base: over the published generation.
        changes: since then, oldest first.
    """

    def __init__(self, base: Searcher, changes: Iterable[Change] = ()) -> None:
        self.base = base
        self.changes = tuple(changes)
        latest = {change.id: change for change in self.changes}
        self._hidden = frozenset(latest)  # in the generation, if they are there at all
        vectors = {change.id: change.vector for change in latest.values() if change.vector is not None}
        self._ids = list(vectors)
        self._vectors = base.order.apply(np.array(list(vectors.values()), np.float32).reshape(len(vectors), base.dim))
        self.count = base.count + sum((change.vector is not None) - change.known for change in self.changes)

    @property
    def dim(self) -> int:
        """Number of embedding coordinates."""
        return self.base.dim

    @property
    def generation(self) -> int:
        """Number of the published generation."""
        return self.base.generation

    def with_changes(self, changes: Iterable[Change]) -> "LiveSearcher":
        """The same generation with more changes."""
        return LiveSearcher(self.base, (*self.changes, *changes))

    def search(
        self,
        query: NDArray[np.float32],
        limit: int,
        *,
        offset: int = 0,
        dimensions: int | None = None,
        score_threshold: float | None = None,
        recall: float | None = None,
        only: NDArray[np.int64] | None = None,
        without: Collection[int] = (),
    ) -> list[Hit]:
        """The photos with the largest inner product, best first, equal scores by id.

        Args:
            query: ``(dim,)``.
            limit: at most so many hits.
            offset: skip so many.
            dimensions: compare only so many leading coordinates of the gallery's order; all when omitted.
            score_threshold: leave out lower scores.
            recall: share of the published photos' true best to aim at; the gallery's own target when omitted.
            only: ids to choose from; all when omitted.
            without: ids to leave out.

        Raises:
            DimensionsError: if the gallery has no such number of dimensions.
        """
        dimensions = self.dim if dimensions is None else dimensions
        if not 1 <= dimensions <= self.dim:
            raise DimensionsError(dimensions, self.dim)

        needed, skipped = offset + limit, self._hidden.union(without)
        if only is not None:
            chosen = np.setdiff1d(only, list(skipped))
            published = self.base.search(query[None], needed, dimensions=dimensions, ids=chosen)[0]
        else:
            published = self._published(query, needed, dimensions, recall, skipped)
        fresh = self._fresh(query, dimensions, only, without)
        hits = sorted([*published, *fresh], key=lambda hit: (-hit.score, hit.id))[offset : offset + limit]
        return hits if score_threshold is None else [hit for hit in hits if hit.score >= score_threshold]

    def _published(
        self,
        query: NDArray[np.float32],
        needed: int,
        dimensions: int,
        recall: float | None,
        skipped: Collection[int],
    ) -> list[Hit]:
        """The best hits of the generation that are not skipped; asks for more until there are enough, or no more."""
        fetch = needed if not skipped else 2 * needed + 16
        while True:
            hits = self.base.search(query[None], fetch, dimensions=dimensions, recall=recall)[0]
            kept = [hit for hit in hits if hit.id not in skipped]
            if len(kept) >= needed or fetch >= self.base.count:
                return kept
            fetch = min(4 * fetch, self.base.count)

    def _fresh(
        self,
        query: NDArray[np.float32],
        dimensions: int,
        only: NDArray[np.int64] | None,
        without: Collection[int],
    ) -> list[Hit]:
        """All that was added since, scored by the summation order of ``Searcher``, so that equal photos score equal."""
        prefix = truncate(self.base.order.apply(query[None], dimensions), dimensions)
        scores = (truncate(self._vectors, dimensions).astype(np.float64) * prefix).sum(axis=1).astype(np.float32)
        allowed = np.ones(len(self._ids), bool) if only is None else np.isin(self._ids, only)
        return [
            Hit(identifier, float(score))
            for identifier, score, is_allowed in zip(self._ids, scores, allowed, strict=True)
            if is_allowed and identifier not in without
        ]
