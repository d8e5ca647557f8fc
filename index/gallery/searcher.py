"""Top-k retrieval over a gallery's current generation: arrays in, ids and scores out."""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from index.accelerators.candidates import candidates
from index.accelerators.dimension_major import DimensionMajorMatrix
from index.accelerators.recall import effort_for
from index.errors import DimensionsError
from index.gallery.generations import Generation, GenerationManifest, load_generation
from training.model.devices import resolve_device
from training.model.truncation import truncate

__all__ = ["Hit", "Searcher", "on_device"]

_FEW = 4096  # photos that are compared one by one rather than searched


class Hit(NamedTuple):
    """A photo's id and its score, the inner product of the truncated embeddings."""

    id: int
    score: float


class Searcher:
    """Immutable view of one generation; one object may be used from many threads.

    Args:
        generation: to search.

    Attributes:
        manifest: of the generation.
        order: from the model's coordinates to those that ``dimensions`` counts.
    """

    def __init__(self, generation: Generation) -> None:
        self.manifest: GenerationManifest = generation.manifest
        self.order = generation.order
        self._ids = generation.ids
        self._contents = generation.contents
        self._alive = generation.alive
        self._accelerator = generation.accelerator

    @classmethod
    def open(cls, gallery: Path, device: str = "auto", *, half: bool = False) -> "Searcher":
        """Loads the current generation of a gallery.

        Args:
            gallery: directory.
            device: see ``resolve_device``; on a GPU vectors are kept there, dimension-major.
            half: on a GPU, 16 bits a coordinate; the originals stay in main memory, and results stay exact.

        Raises:
            GalleryError: if there is no gallery, or it is damaged.
        """
        generation = load_generation(gallery)
        where = resolve_device(device)
        return cls(generation if where.type == "cpu" else on_device(generation, where, half=half))

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
        recall: float | None = None,
        ids: NDArray[np.int64] | None = None,
        unique: bool = False,
    ) -> list[list[Hit]]:
        """The photos with the largest inner product, best first, equal scores by id.

        Args:
            queries: ``(n, dim)`` sketch embeddings, as the model gives them.
            limit: at most so many hits a query.
            dimensions: compare only so many leading coordinates of the gallery's order; all when omitted.
            offset: skip so many hits, for pagination.
            score_threshold: leave out hits with a lower score.
            recall: share of the true best to aim at, 1 for all of them; the gallery's own target when omitted.
                Among chosen ``ids`` and ``unique`` photos the search is always exact.
            ids: search only these photos.
            unique: of photos with the same bytes only the first.

        Raises:
            DimensionsError: if the gallery has no such number of dimensions.
            ValueError: if another argument makes no sense.
        """
        dimensions = self.dim if dimensions is None else dimensions
        recall = self.manifest.target if recall is None else recall
        self._check(queries, dimensions, limit, offset, recall)
        queries = self.order.apply(queries, dimensions)
        allowed = self._allowed(ids, unique)
        reachable = self.count if allowed is None else int(allowed.sum())
        k = min(offset + limit, reachable)
        if k == 0 or not len(queries):
            return [[] for _ in queries]
        if allowed is not None and reachable <= _FEW:
            found = np.broadcast_to(np.flatnonzero(allowed), (len(queries), reachable))
        else:
            effort = effort_for(self.manifest.recall, dimensions, recall, k) if allowed is None else None
            found = candidates(
                self._accelerator, queries, k, dimensions, reachable=reachable, effort=effort, allowed=allowed
            )
        return [
            self._page(prefix, positions[positions >= 0], slice(offset, k), score_threshold)
            for prefix, positions in zip(truncate(queries, dimensions), found, strict=True)
        ]

    def _check(self, queries: NDArray[np.float32], dimensions: int, limit: int, offset: int, recall: float) -> None:
        if not 1 <= dimensions <= self.dim:
            raise DimensionsError(dimensions, self.dim)
        if limit < 1 or offset < 0:
            raise ValueError(f"limit must be positive and offset not negative, not {limit} and {offset}")
        if not 0 < recall <= 1:
            raise ValueError(f"recall must be over 0 and at most 1, not {recall}")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries must be (n, {self.dim}), not {queries.shape}")

    def _allowed(self, ids: NDArray[np.int64] | None, unique: bool) -> NDArray[np.bool_] | None:
        """Positions to search; None is all of them."""
        if ids is None:
            return self._firsts if unique else None
        chosen = self._alive & np.isin(self._ids, ids)
        return self._first_of_contents(chosen) if unique else chosen

    @cached_property
    def _firsts(self) -> NDArray[np.bool_]:
        return self._first_of_contents(self._alive)

    def _first_of_contents(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        positions = np.flatnonzero(allowed)
        positions = positions[np.argsort(self._ids[positions])]
        first = np.zeros_like(allowed)
        first[positions[np.unique(self._contents[positions], return_index=True)[1]]] = True
        return first

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


def on_device(generation: Generation, device: torch.device, *, half: bool = False) -> Generation:
    """The same photos in a dimension-major matrix on a device."""
    count, dim = generation.manifest.count, generation.manifest.dim
    ids, vectors = np.empty(count, np.int64), np.empty((count, dim), np.float32)
    start = 0
    for some_ids, some_vectors in generation.blocks():
        stop = start + len(some_ids)
        ids[start:stop], vectors[start:stop] = some_ids, some_vectors
        start = stop
    contents = generation.contents[generation.alive][np.argsort(generation.ids[generation.alive])]
    matrix = DimensionMajorMatrix(vectors, device, half=half)
    return Generation(generation.manifest, generation.order, ids, contents, np.ones(len(ids), np.bool_), matrix)
