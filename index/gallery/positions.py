"""Which photo lies at which position of an accelerator, and which photos are identical files."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChangedPositions", "Positions"]

Ids = NDArray[np.int64]
Places = NDArray[np.int64]


class Positions:
    """The photos of an accelerator that was built in one go.

    Args:
        ids: ids ``(n,)``, ascending.
        contents: content keys ``(n,)``; identical files have the same key.

    Attributes:
        alive: ``(n,)``; False at positions whose photo was removed, or now lies at another position.
    """

    def __init__(self, ids: Ids, contents: NDArray[np.int64]) -> None:
        self._ids = ids
        self._contents = contents
        self.alive = np.ones(len(ids), np.bool_)

    @property
    def size(self) -> int:
        """Number of positions."""
        return len(self.alive)

    @property
    def count(self) -> int:
        """Number of photos."""
        return len(self._ids)

    def ids_at(self, positions: Places) -> Ids:
        """Returns the ids of the photos at ``positions``, an array of any shape."""
        return np.asarray(self._ids[positions])

    def contents_at(self, positions: Places) -> NDArray[np.int64]:
        """Returns the content keys of the photos at ``positions``, an array of any shape."""
        return np.asarray(self._contents[positions])

    def in_order(self) -> Places:
        """Returns the positions of all photos by ascending id, ``(count,)``."""
        return np.arange(self.size)

    def of_ids(self, ids: Ids) -> Places:
        """Returns the positions of those among ``(m,)`` ids that exist."""
        places = np.minimum(np.searchsorted(self._ids, ids), self.size - 1)
        return places[self._ids[places] == ids] if self.size else places[:0]

    def of_contents(self, contents: NDArray[np.int64]) -> Places:
        """Returns the positions of all photos with one of ``(m,)`` different content keys."""
        first = np.searchsorted(self._contents, contents, sorter=self._by_content)
        sizes = np.searchsorted(self._contents, contents, side="right", sorter=self._by_content) - first
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        found: Places = self._by_content[np.repeat(first, sizes) + within]
        return found

    def first_of_each(self, positions: Places) -> Places:
        """Keeps one of each set of identical files: the photo with the smallest id."""
        positions = positions[np.argsort(self.ids_at(positions))]
        return positions[np.unique(self.contents_at(positions), return_index=True)[1]]

    @cached_property
    def firsts(self) -> NDArray[np.bool_]:
        """``(n,)``; True at the positions that ``first_of_each`` keeps of all photos."""
        ordered = self._contents[self._by_content]
        firsts = np.zeros(self.size, np.bool_)
        firsts[self._by_content[np.diff(ordered, prepend=-1) != 0]] = True
        return firsts

    @cached_property
    def _by_content(self) -> Places:
        return np.argsort(self._contents, kind="stable")


class ChangedPositions(Positions):
    """Positions with changes; added photos lie behind the positions of the base.

    Only ``alive`` is as long as ``base``. Ids and content keys of the base are shared, and lookups ask ``base``, which
    sorts once, however often it changes.

    Args:
        base: the positions to change.
        gone: different ids ``(m,)`` that are removed, or have a new vector among the added ones. Unknown ids are
            ignored.
        ids: different ids ``(k,)`` of the added photos.
        contents: content keys ``(k,)`` of the added photos.
    """

    def __init__(self, base: Positions, gone: Ids, ids: Ids, contents: NDArray[np.int64]) -> None:
        super().__init__(ids, contents)
        self._base = base
        self._gone = base.of_ids(gone)
        self.alive = np.concatenate([base.alive, self.alive])
        self.alive[self._gone] = False

    @property
    def count(self) -> int:
        """Number of photos."""
        return self._base.count - len(self._gone) + len(self._ids)

    def ids_at(self, positions: Places) -> Ids:
        """See ``Positions.ids_at``."""
        return self._at(positions, self._base.ids_at, self._ids)

    def contents_at(self, positions: Places) -> NDArray[np.int64]:
        """See ``Positions.contents_at``."""
        return self._at(positions, self._base.contents_at, self._contents)

    def in_order(self) -> Places:
        """See ``Positions.in_order``."""
        positions = np.flatnonzero(self.alive)
        return positions[np.argsort(self.ids_at(positions), kind="stable")]

    def of_ids(self, ids: Ids) -> Places:
        """See ``Positions.of_ids``."""
        return self._with_added(self._base.of_ids(ids), self._ids, ids)

    def of_contents(self, contents: NDArray[np.int64]) -> Places:
        """See ``Positions.of_contents``."""
        return self._with_added(self._base.of_contents(contents), self._contents, contents)

    @cached_property
    def firsts(self) -> NDArray[np.bool_]:
        """See ``Positions.firsts``; the first photo can only change among copies of changed files."""
        touched = np.unique(np.concatenate([self._base.contents_at(self._gone), self._contents]))
        firsts = np.zeros(self.size, np.bool_)
        firsts[: self._base.size] = self._base.firsts
        firsts[self._base.of_contents(touched)] = False
        firsts[self.first_of_each(self.of_contents(touched))] = True
        return firsts

    def _at(
        self, positions: Places, of_base: Callable[[Places], NDArray[np.int64]], added: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        values = np.empty(positions.shape, np.int64)
        old = positions < self._base.size
        values[old] = of_base(positions[old])
        values[~old] = added[positions[~old] - self._base.size]
        return values

    def _with_added(self, before: Places, values: NDArray[np.int64], wanted: NDArray[np.int64]) -> Places:
        """Those of the given positions that are still alive, and those of added photos whose value is wanted."""
        return np.concatenate([before[self.alive[before]], self._base.size + np.flatnonzero(np.isin(values, wanted))])
