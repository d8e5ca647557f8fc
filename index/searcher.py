"""Top-k retrieval over a gallery's current generation: arrays in, ids and scores out."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.accelerators import Accelerator, DimensionMajorMatrix
from index.errors import DimensionsError
from index.gallery import Generation, GenerationManifest, load_generation
from training.devices import resolve_device
from training.truncation import truncate

__all__ = ["Hit", "Searcher"]

_NOISE = 1e-5  # of the largest score; what rounding can make of equal scores


class Hit(NamedTuple):
    """A photo's id and its score, the inner product of the truncated embeddings."""

    id: int
    score: float


class Searcher:
    """Immutable view of one generation; one object may be used from many threads.

    Args:
        generation: to search.
        accelerator: over its vectors, by position.
    """

    def __init__(self, generation: Generation, accelerator: Accelerator) -> None:
        self.manifest: GenerationManifest = generation.manifest
        self._ids = generation.ids
        self._accelerator = accelerator

    @classmethod
    def open(cls, gallery: Path, device: str = "auto") -> "Searcher":
        """Loads the current generation of a gallery.

        Args:
            gallery: directory.
            device: see ``resolve_device``; on a GPU vectors are kept there, dimension-major.

        Raises:
            GalleryError: if there is no gallery, or it is damaged.
        """
        generation = load_generation(gallery)
        where = resolve_device(device)
        if where.type == "cpu":
            return cls(generation, generation.accelerator)
        return cls(generation, DimensionMajorMatrix(generation.accelerator.vectors(), where))

    @property
    def dim(self) -> int:
        """Number of embedding coordinates."""
        return self.manifest.dim

    @property
    def count(self) -> int:
        """Number of photos."""
        return self.manifest.count

    @property
    def generation(self) -> int:
        """Number of the generation."""
        return self.manifest.generation

    def search(
        self,
        queries: NDArray[np.float32],
        limit: int,
        *,
        dimensions: int | None = None,
        offset: int = 0,
        score_threshold: float | None = None,
    ) -> list[list[Hit]]:
        """The photos with the largest inner product, best first, equal scores by id.

        Args:
            queries: ``(n, dim)`` sketch embeddings.
            limit: at most so many hits a query.
            dimensions: compare only so many leading coordinates; all when omitted.
            offset: skip so many hits, for pagination.
            score_threshold: leave out hits with a lower score.

        Raises:
            DimensionsError: if the gallery has no such number of dimensions.
            ValueError: if ``limit``, ``offset`` or the shape of ``queries`` makes no sense.
        """
        dimensions = self.dim if dimensions is None else dimensions
        if not 1 <= dimensions <= self.dim:
            raise DimensionsError(dimensions, self.dim)
        if limit < 1 or offset < 0:
            raise ValueError(f"limit must be positive and offset not negative, not {limit} and {offset}")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries must be (n, {self.dim}), not {queries.shape}")
        k = min(offset + limit, self.count)
        if k == 0 or not len(queries):
            return [[] for _ in queries]
        candidates = self._candidates(queries, k, dimensions)
        return [
            self._page(prefix, positions, slice(offset, k), score_threshold)
            for prefix, positions in zip(truncate(queries, dimensions), candidates, strict=True)
        ]

    def _candidates(self, queries: NDArray[np.float32], k: int, dimensions: int) -> NDArray[np.int64]:
        """Positions of at least the k best of each query and of all that score the same as the k-th.

        An accelerator's scores differ in the last bits with a vector's place in memory, so which of several equal
        photos it returns is chance, and pages would overlap or miss some.
        """
        fetch = min(k + 1, self.count)
        while True:
            scores, positions = self._accelerator.search(queries, fetch, dimensions)
            noise = _NOISE * np.abs(scores).max(axis=1)
            if fetch == self.count or (scores[:, k - 1] - scores[:, -1] > noise).all():
                return positions
            fetch = min(2 * fetch, self.count)

    def _page(
        self, prefix: NDArray[np.float32], positions: NDArray[np.int64], page: slice, threshold: float | None
    ) -> list[Hit]:
        """Scores candidates by one summation order, so that equal photos score equal, and cuts a page."""
        vectors = truncate(self._accelerator.gather(positions), len(prefix)).astype(np.float64)
        scores = (vectors * prefix).sum(axis=1).astype(np.float32)
        ids = self._ids[positions]
        order = np.lexsort((ids, -scores))[page]
        hits = [Hit(int(ids[position]), float(scores[position])) for position in order]
        return hits if threshold is None else [hit for hit in hits if hit.score >= threshold]
