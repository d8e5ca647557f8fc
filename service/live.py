"""A generation and what has changed since it was published, searched as one."""

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import DimensionsError
from index.searcher import Hit, Searcher
from training.truncation import truncate

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
        self._vectors = np.array(list(vectors.values()), dtype=np.float32).reshape(len(vectors), base.dim)
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
        only: Collection[int] | None = None,
        without: Collection[int] = (),
    ) -> list[Hit]:
        """The photos with the largest inner product, best first, equal scores by id.

        Args:
            query: ``(dim,)``.
            limit: at most so many hits.
            offset: skip so many.
            dimensions: compare only so many leading coordinates; all when omitted.
            score_threshold: leave out lower scores.
            only: ids to choose from; all when omitted.
            without: ids to leave out.

        Raises:
            DimensionsError: if the gallery has no such number of dimensions.
        """
        dimensions = self.dim if dimensions is None else dimensions
        if not 1 <= dimensions <= self.dim:
            raise DimensionsError(dimensions, self.dim)

        def wanted(identifier: int) -> bool:
            return identifier not in without and (only is None or identifier in only)

        skipped = self._hidden.union(without)
        if only is None and not skipped:
            published = self.base.search(query[None], offset + limit, dimensions=dimensions)[0]
            return _page(published, offset, limit, score_threshold)
        published = self._published(
            query, offset + limit, dimensions, lambda hit: hit.id not in self._hidden and wanted(hit.id)
        )
        fresh = [hit for hit in self._fresh(query, dimensions) if wanted(hit.id)]
        hits = sorted([*published, *fresh], key=lambda hit: (-hit.score, hit.id))
        return _page(hits, offset, limit, score_threshold)

    def _published(
        self, query: NDArray[np.float32], needed: int, dimensions: int, accept: Callable[[Hit], bool]
    ) -> list[Hit]:
        """The best hits of the generation that are accepted; asks for more until there are enough, or no more."""
        fetch = min(2 * needed + 16, self.base.count)
        while True:
            hits = self.base.search(query[None], max(1, fetch), dimensions=dimensions)[0]
            accepted = [hit for hit in hits if accept(hit)]
            if len(accepted) >= needed or fetch >= self.base.count:
                return accepted
            fetch = min(4 * fetch, self.base.count)

    def _fresh(self, query: NDArray[np.float32], dimensions: int) -> list[Hit]:
        """All that was added since, scored by the summation order of ``Searcher``, so that equal photos score equal."""
        prefix = truncate(query[None], dimensions)
        scores = (truncate(self._vectors, dimensions).astype(np.float64) * prefix).sum(axis=1).astype(np.float32)
        return [Hit(identifier, float(score)) for identifier, score in zip(self._ids, scores, strict=True)]


def _page(hits: list[Hit], offset: int, limit: int, threshold: float | None) -> list[Hit]:
    page = hits[offset : offset + limit]
    return page if threshold is None else [hit for hit in page if hit.score >= threshold]
