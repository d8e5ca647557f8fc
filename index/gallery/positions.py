"""Which photo lies at which position of an accelerator, and which photos are identical files."""

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
        ids: ids by position.
        contents: content keys by position.
        alive: ``(n,)``; False at positions whose photo was removed, or now lies at another position.
    """

    def __init__(self, ids: Ids, contents: NDArray[np.int64]) -> None:
        self.ids = ids
        self.contents = contents
        self.alive = np.ones(len(ids), np.bool_)

    @property
    def count(self) -> int:
        """Number of photos."""
        return len(self.ids)

    def in_order(self) -> Places:
        """Returns the positions of all photos by ascending id, ``(count,)``."""
        return np.arange(len(self.ids))

    def of_ids(self, ids: Ids) -> Places:
        """Returns the positions of those among ``(m,)`` ids that exist."""
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return places[self.ids[places] == ids] if len(self.ids) else places[:0]

    def of_contents(self, contents: NDArray[np.int64]) -> Places:
        """Returns the positions of all photos with one of ``(m,)`` different content keys."""
        first = np.searchsorted(self.contents, contents, sorter=self._by_content)
        sizes = np.searchsorted(self.contents, contents, side="right", sorter=self._by_content) - first
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        found: Places = self._by_content[np.repeat(first, sizes) + within]
        return found

    def first_of_each(self, positions: Places) -> Places:
        """Keeps one of each set of identical files: the photo with the smallest id."""
        positions = positions[np.argsort(self.ids[positions])]
        return positions[np.unique(self.contents[positions], return_index=True)[1]]

    @cached_property
    def firsts(self) -> NDArray[np.bool_]:
        """``(n,)``; True at the positions that ``first_of_each`` keeps of all photos."""
        ordered = self.contents[self._by_content]
        firsts = np.zeros(len(self.ids), np.bool_)
        firsts[self._by_content[np.diff(ordered, prepend=-1) != 0]] = True
        return firsts

    @cached_property
    def _by_content(self) -> Places:
        return np.argsort(self.contents, kind="stable")


class ChangedPositions(Positions):
    """Positions with changes; added photos lie behind the positions of the base.

    Only arrays as long as ``base`` are copied. Lookups ask ``base``, which sorts once, however often it changes.

    Args:
        base: the positions to change.
        gone: different ids ``(m,)`` that are removed, or have a new vector among the added ones. Unknown ids are
            ignored.
        ids: different ids ``(k,)`` of the added photos.
        contents: content keys ``(k,)`` of the added photos.
    """

    def __init__(self, base: Positions, gone: Ids, ids: Ids, contents: NDArray[np.int64]) -> None:
        super().__init__(np.concatenate([base.ids, ids]), np.concatenate([base.contents, contents]))
        self._base = base
        self._gone = base.of_ids(gone)
        self.alive[: len(base.ids)] = base.alive
        self.alive[self._gone] = False

    @property
    def count(self) -> int:
        """Number of photos."""
        return self._base.count - len(self._gone) + len(self.ids) - len(self._base.ids)

    def in_order(self) -> Places:
        """See ``Positions.in_order``."""
        positions = np.flatnonzero(self.alive)
        return positions[np.argsort(self.ids[positions], kind="stable")]

    def of_ids(self, ids: Ids) -> Places:
        """See ``Positions.of_ids``."""
        return self._with_added(self._base.of_ids(ids), self.ids, ids)

    def of_contents(self, contents: NDArray[np.int64]) -> Places:
        """See ``Positions.of_contents``."""
        return self._with_added(self._base.of_contents(contents), self.contents, contents)

    @cached_property
    def firsts(self) -> NDArray[np.bool_]:
        """See ``Positions.firsts``; the first photo can only change among copies of changed files."""
        touched = np.unique(np.concatenate([self.contents[self._gone], self.contents[len(self._base.ids) :]]))
        firsts = np.zeros(len(self.ids), np.bool_)
        firsts[: len(self._base.ids)] = self._base.firsts
        firsts[self._base.of_contents(touched)] = False
        firsts[self.first_of_each(self.of_contents(touched))] = True
        return firsts

    def _with_added(self, before: Places, values: NDArray[np.int64], wanted: NDArray[np.int64]) -> Places:
        """Those of the given positions that are still alive, and those of added photos whose value is wanted."""
        size = len(self._base.ids)
        return np.concatenate([before[self.alive[before]], size + np.flatnonzero(np.isin(values[size:], wanted))])
