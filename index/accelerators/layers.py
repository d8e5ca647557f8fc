"""An accelerator together with the photos that changed after it was built, searched as one."""

import numpy as np
from numpy.typing import NDArray

from index.accelerators.interface import Accelerator
from index.accelerators.panorama import PanoramaIndex

__all__ = ["LayeredIndex"]


class LayeredIndex:
    """A base accelerator and changed vectors beside it.

    Positions below ``len(alive)`` belong to the base, those above to the changed photos.

    A base may itself be layered. A published generation consists of a large accelerator and the changes after it was
    built; a running service adds the changes after the generation was published.

    Args:
        base: the accelerator over ``len(alive)`` vectors.
        alive: ``(n,)``; False where the photo was removed, or has a new vector among the changed ones.
        changed: the added or changed vectors, ``(m, dim)``.
    """

    def __init__(self, base: Accelerator, alive: NDArray[np.bool_], changed: NDArray[np.float32]) -> None:
        self.base = base
        self.alive = alive
        self.changed = PanoramaIndex.build(changed)
        self._whole = bool(alive.all())

    @property
    def error(self) -> float:
        """The error of the base; changed vectors are stored exactly."""
        return self.base.error

    @property
    def largest_effort(self) -> int:
        """The largest effort of the base; changed vectors are always all compared."""
        return self.base.largest_effort

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        dimensions: int,
        *,
        effort: int | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See ``Accelerator.search``."""
        size = len(self.alive)
        of_base: NDArray[np.bool_] | None
        of_base, of_changed = (self.alive, None) if allowed is None else (self.alive & allowed[:size], allowed[size:])
        if self._whole and allowed is None:
            of_base = None
        scores, positions = self.base.search(queries, k, dimensions, effort=effort, allowed=of_base)
        new_scores, new_positions = self.changed.search(queries, k, dimensions, allowed=of_changed)
        scores = np.concatenate([scores, new_scores], axis=1)
        positions = np.concatenate([positions, np.where(new_positions < 0, -1, new_positions + size)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        size = len(self.alive)
        old = positions < size
        vectors = np.empty((len(positions), self.changed.index.d), np.float32)
        if old.any():
            vectors[old] = self.base.gather(positions[old])
        if not old.all():
            vectors[~old] = self.changed.gather(positions[~old] - size)
        return vectors
