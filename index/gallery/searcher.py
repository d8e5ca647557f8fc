"""Top-k retrieval over a gallery's current generation and what changed since: arrays in, ids and scores out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from index.accelerators.candidates import candidates
from index.accelerators.dimension_major import DimensionMajorMatrix
from index.accelerators.recall import effort_for
from index.errors import DimensionsError, PageError
from index.gallery.generations import Generation, GenerationManifest, load_generation
from index.gallery.positions import Positions
from training.model.devices import resolve_device
from training.model.gallery_order import GalleryOrder
from training.model.truncation import truncate

__all__ = ["MAX_HITS", "Change", "Hit", "Searcher", "on_device"]

MAX_HITS = 10_000  # of one search, skipped ones included: a page deeper down would cost as much as all before it
_FEW = 4096  # photos that are compared one by one rather than searched


class Hit(NamedTuple):
    """A photo's id and its score, the inner product of the truncated embeddings."""

    id: int
    score: float


class Change(NamedTuple):
    """A photo that was added, given another vector, or removed after a generation was published.

    Attributes:
        revision: of the catalogue with the change.
        id: of the photo.
        content: of its bytes; see ``index.gallery.catalogue.content_key``.
        vector: ``(dim,)`` in the model's coordinates; None if it was removed.
    """

    revision: int
    id: int
    content: int
    vector: NDArray[np.float32] | None


class Searcher:
    """Immutable view of one generation and what changed since; one object may be used from many threads.

    Args:
        generation: to search.

    Attributes:
        changes: since the generation was published, oldest first.
    """

    def __init__(self, generation: Generation) -> None:
        self.changes: tuple[Change, ...] = ()
        self._published = generation
        self._current = generation
        self._latest: dict[
            int, tuple[Change, NDArray[np.float32]]
        ] = {}  # by id, with the vector in the gallery's order

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
    def manifest(self) -> GenerationManifest:
        """Of the generation, as it was published."""
        return self._published.manifest

    @property
    def order(self) -> GalleryOrder:
        """From the model's coordinates to those that ``dimensions`` counts."""
        return self._published.order

    @property
    def dim(self) -> int:
        """Number of embedding coordinates."""
        return self.manifest.dim

    @property
    def count(self) -> int:
        """Number of photos, changes included."""
        return self._current.positions.count

    @property
    def generation(self) -> int:
        """Number of the generation."""
        return self.manifest.generation

    def with_changes(self, changes: Iterable[Change]) -> "Searcher":
        """The same generation with more changes; of several of one photo the last counts."""
        changes = tuple(changes)
        if not changes:
            return self
        changed = Searcher(self._published)
        changed.changes = (*self.changes, *changes)
        vectors = [np.zeros(self.dim, np.float32) if change.vector is None else change.vector for change in changes]
        ordered = self.order.apply(np.array(vectors, np.float32).reshape(-1, self.dim))
        changed._latest = self._latest | {
            change.id: (change, vector) for change, vector in zip(changes, ordered, strict=True)
        }
        there = [(change, vector) for change, vector in changed._latest.values() if change.vector is not None]
        changed._current = self._published.with_changes(
            gone=np.array(list(changed._latest), np.int64),
            ids=np.array([change.id for change, _ in there], np.int64),
            contents=np.array([change.content for change, _ in there], np.int64),
            vectors=np.array([vector for _, vector in there], np.float32).reshape(-1, self.dim),
        )
        return changed

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
        without: int | None = None,
    ) -> list[list[Hit]]:
        """The photos with the largest inner product, best first, equal scores by id.

        Args:
            queries: ``(n, dim)`` sketch embeddings, as the model gives them.
            limit: at most so many hits a query.
            dimensions: compare only so many leading coordinates of the gallery's order; all when omitted.
            offset: skip so many hits, for pagination; ``offset + limit`` is at most ``MAX_HITS``.
            score_threshold: leave out hits with a lower score.
            recall: share of the true best to aim at, 1 for all of them; the gallery's own target when omitted.
                Among chosen ``ids`` and ``unique`` photos the search is always exact.
            ids: search only these photos.
            unique: of photos with the same bytes only the one with the smallest id.
            without: id of a photo to leave out; if ``unique``, with every one that has the same bytes.

        Raises:
            DimensionsError: if the gallery has no such number of dimensions.
            PageError: if the limit or the offset is out of range.
            ValueError: if another argument makes no sense.
        """
        dimensions = self.dim if dimensions is None else dimensions
        recall = self.manifest.target if recall is None else recall
        self._check(queries, dimensions, limit, offset, recall)
        queries = self.order.apply(queries, dimensions)
        allowed = self._allowed(ids, unique, without)
        reachable = self.count if allowed is None else int(np.count_nonzero(allowed))
        k = min(offset + limit, reachable)
        if k <= offset or not len(queries):
            return [[] for _ in queries]
        if allowed is not None and reachable <= _FEW:
            found = np.broadcast_to(np.flatnonzero(allowed), (len(queries), reachable))
        else:
            effort = effort_for(self.manifest.recall, dimensions, recall, k) if ids is None and not unique else None
            found = candidates(
                self._current.accelerator, queries, k, dimensions, reachable=reachable, effort=effort, allowed=allowed
            )
        return [
            self._page(prefix, positions[positions >= 0], slice(offset, k), score_threshold)
            for prefix, positions in zip(truncate(queries, dimensions), found, strict=True)
        ]

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Vectors ``(n, dim)`` in the gallery's order of ``(n,)`` different photos that hits have named."""
        positions = self._current.positions.of_ids(np.array(ids, np.int64))
        rows = {int(self._current.positions.ids[position]): row for row, position in enumerate(positions)}
        return self._current.accelerator.gather(positions)[[rows[identifier] for identifier in ids]]

    def _check(self, queries: NDArray[np.float32], dimensions: int, limit: int, offset: int, recall: float) -> None:
        if not 1 <= dimensions <= self.dim:
            raise DimensionsError(dimensions, self.dim)
        if limit < 1 or offset < 0 or offset + limit > MAX_HITS:
            raise PageError(limit, offset, MAX_HITS)
        if not 0 < recall <= 1:
            raise ValueError(f"recall must be over 0 and at most 1, not {recall}")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries must be (n, {self.dim}), not {queries.shape}")

    def _allowed(self, ids: NDArray[np.int64] | None, unique: bool, without: int | None) -> NDArray[np.bool_] | None:
        """Positions to search; None is all of them."""
        if ids is None and not unique and without is None:
            return None
        positions = self._current.positions
        if ids is None:
            allowed = (positions.firsts if unique else positions.alive).copy()
        else:
            chosen = positions.of_ids(ids)
            allowed = np.zeros(len(positions.ids), np.bool_)
            allowed[positions.first_of_each(chosen) if unique else chosen] = True
        if without is not None:
            left_out = positions.of_ids(np.array([without]))
            allowed[positions.of_contents(positions.contents[left_out]) if unique else left_out] = False
        return allowed

    def _page(
        self, prefix: NDArray[np.float32], positions: NDArray[np.int64], page: slice, threshold: float | None
    ) -> list[Hit]:
        """Scores candidates by one summation order, so that equal photos score equal, and cuts a page."""
        vectors = truncate(self._current.accelerator.gather(positions), len(prefix)).astype(np.float64)
        scores = (vectors * prefix).sum(axis=1).astype(np.float32)
        ids = self._current.positions.ids[positions]
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
    positions = Positions(ids, generation.positions.contents[generation.positions.in_order()])
    return generation._replace(positions=positions, accelerator=DimensionMajorMatrix(vectors, device, half=half))
