"""Top-k retrieval over a gallery's current generation: arrays in, ids and scores out."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.accelerators import Accelerator, DimensionMajorMatrix
from index.errors import DimensionsError
from index.gallery import Gallery, Generation, GenerationManifest
from training.devices import resolve_device

__all__ = ["Hit", "Searcher"]


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
        opened = Gallery.open(gallery)
        try:
            generation = opened.load()
        finally:
            opened.close()
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
        scores, positions = self._accelerator.search(queries, k, dimensions)
        return [
            self._page(row_scores, self._ids[row_positions], offset, score_threshold)
            for row_scores, row_positions in zip(scores, positions, strict=True)
        ]

    @staticmethod
    def _page(scores: NDArray[np.float32], ids: NDArray[np.int64], offset: int, threshold: float | None) -> list[Hit]:
        order = np.lexsort((ids, -scores))[offset:]
        hits = [Hit(int(ids[position]), float(scores[position])) for position in order]
        return hits if threshold is None else [hit for hit in hits if hit.score >= threshold]
