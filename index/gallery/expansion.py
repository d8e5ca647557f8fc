"""Query expansion: a search by what a first search found as well, which finds more photos of a kind."""

from collections.abc import Sequence
from typing import Protocol, Unpack

import numpy as np
from numpy.typing import NDArray

from index.gallery.searcher import Choices, Hit
from training.model.gallery_order import GalleryOrder

__all__ = ["Searchable", "expanded"]

_PHOTOS = 10  # that expand a query


class Searchable(Protocol):
    """What can be searched: one gallery, or several as one."""

    @property
    def order(self) -> GalleryOrder:
        """See ``Searcher.order``."""

    def search(
        self,
        queries: NDArray[np.float32],
        limit: int,
        *,
        dimensions: int | None = None,
        **choices: Unpack[Choices],
    ) -> list[list[Hit]]:
        """See ``Searcher.search``."""

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """See ``Searcher.vectors``."""


def expanded(
    searcher: Searchable,
    query: NDArray[np.float32],
    weight: float,
    *,
    dimensions: int | None = None,
    **choices: Unpack[Choices],
) -> NDArray[np.float32]:
    """Adds to a query the mean of the first ten photos that it finds.

    The photos are taken about the mean of the gallery, and their mean is brought to the length of the query. A
    search by the result is the second of two; it finds fewer exact matches.

    Args:
        searcher: what to search.
        query: ``(dim,)``, as the model gives it.
        weight: how much the photos count, where the query itself counts 1.
        dimensions: see ``Searcher.search``.
        choices: which photos to search, and how exactly; see ``Searcher.search``.

    Returns:
        The expanded query, ``(dim,)``; the query itself if it finds nothing.

    Raises:
        DimensionsError: if the gallery does not have this number of dimensions.
        ValueError: if another argument is not valid.
    """
    [hits] = searcher.search(query[None], _PHOTOS, dimensions=dimensions, **choices)
    if not hits:
        return query
    mean = searcher.vectors([hit.id for hit in hits]).mean(axis=0, dtype=np.float64) @ searcher.order.sketch_map
    length = np.linalg.norm(mean)
    factor = weight * np.linalg.norm(query) / length if length > 0 else 0.0
    return np.asarray(query + factor * mean, np.float32)
