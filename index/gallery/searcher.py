"""Top-k retrieval over a gallery's current generation and the changes since: arrays in, ids and scores out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from index.accelerators.candidates import candidates
from index.accelerators.recall import effort_for
from index.errors import DimensionsError, PageError
from index.gallery.bases import Base, Place
from index.gallery.generations import Generation, GenerationManifest, load_generation
from training.model.devices import resolve_device
from training.model.gallery_order import GalleryOrder
from training.model.truncation import truncate

__all__ = ["MAX_HITS", "Change", "Choices", "Hit", "Searcher", "check_page"]

MAX_HITS = 10_000  # results of one search, skipped ones included: a deep page costs as much as all pages before it
_FEW = 4096  # photos; up to this number they are compared directly, without the index


class Hit(NamedTuple):
    """A photo's id and its score.

    The score is the inner product of the truncated embeddings, in the gallery's coordinates, plus the query's baseline;
    see ``GalleryOrder``.
    """

    id: int
    score: float


class Change(NamedTuple):
    """A photo that was added, given another vector, or removed after a generation was published.

    Attributes:
        revision: revision of the catalogue that contains the change.
        id: id of the photo.
        content: content key of its bytes; see ``index.gallery.catalogue.content_key``.
        vector: ``(dim,)`` in the model's coordinates; None if the photo was removed.
    """

    revision: int
    id: int
    content: int
    vector: NDArray[np.float32] | None


class Choices(TypedDict, total=False):
    """Which photos a search is among, and how exact it is; see ``Searcher.search``."""

    recall: float | None
    ids: NDArray[np.int64] | None
    unique: bool
    without: Sequence[int]


def check_page(limit: int, offset: int) -> None:
    """Checks that a page can be searched.

    Raises:
        PageError: if the limit or the offset is out of range.
    """
    if limit < 1 or offset < 0 or offset + limit > MAX_HITS:
        raise PageError(limit, offset, MAX_HITS)


class Searcher:
    """An immutable view of one generation and the changes since. One object may be used from many threads.

    Args:
        generation: the generation to search.

    Attributes:
        changes: the changes since the generation was published, oldest first.
    """

    def __init__(self, generation: Generation) -> None:
        self.changes: tuple[Change, ...] = ()
        self._published = generation
        self._current = generation
        self._latest: dict[
            int, tuple[Change, NDArray[np.float32]]
        ] = {}  # by id, with the vector in the gallery's coordinates

    @classmethod
    def open(
        cls, gallery: Path, device: str = "auto", *, half: bool = False, previous: "Searcher | None" = None
    ) -> "Searcher":
        """Loads the current generation of a gallery.

        Args:
            gallery: the gallery's folder.
            device: see ``resolve_device``. A GPU holds the vectors in its own memory, dimension by dimension.
            half: keep 16 bits per coordinate on a GPU. The originals stay in main memory, and results stay exact.
            previous: a searcher that is open. If its generation has the same base, the two share it in memory.

        Raises:
            GalleryError: if there is no gallery, or it is damaged.
        """
        shared = None if previous is None else previous.base
        return cls(load_generation(gallery, Place(resolve_device(device), half), shared))

    @property
    def manifest(self) -> GenerationManifest:
        """The manifest of the generation, as it was published."""
        return self._published.manifest

    @property
    def base(self) -> Base | None:
        """The part of the generation that later generations may share; None if it was not read from files."""
        return self._published.base

    @property
    def order(self) -> GalleryOrder:
        """The maps from the model's coordinates to those that ``dimensions`` counts."""
        return self._published.order

    @property
    def dim(self) -> int:
        """Number of embedding coordinates."""
        return self.manifest.dim

    @property
    def count(self) -> int:
        """Number of photos, including the changes."""
        return self._current.positions.count

    @property
    def generation(self) -> int:
        """Number of the generation."""
        return self.manifest.generation

    def with_changes(self, changes: Iterable[Change]) -> "Searcher":
        """Returns a searcher with more changes. If a photo changed several times, the last change counts."""
        changes = tuple(changes)
        if not changes:
            return self
        changed = Searcher(self._published)
        changed.changes = (*self.changes, *changes)
        vectors = [np.zeros(self.dim, np.float32) if change.vector is None else change.vector for change in changes]
        ordered = self.order.photos(np.array(vectors, np.float32).reshape(-1, self.dim))
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
        without: Sequence[int] = (),
    ) -> list[list[Hit]]:
        """Finds the photos with the largest inner product, best first; photos with equal scores come in order of id.

        Args:
            queries: sketch embeddings ``(n, dim)``, as the model gives them.
            limit: largest number of hits for each query.
            dimensions: number of leading coordinates to compare, in the gallery's order; all when omitted.
            offset: number of hits to skip, for pagination; ``offset + limit`` is at most ``MAX_HITS``.
            score_threshold: leave out hits with a lower score.
            recall: share of the true best photos to aim at; 1 is exact. The gallery's target is used when omitted.
                Searches among given ``ids`` or ``unique`` photos are always exact.
            ids: search only these photos.
            unique: keep one of each set of identical files, the photo with the smallest id.
            without: ids of photos to leave out. If ``unique``, all files identical to one of them are left out too.

        Raises:
            DimensionsError: if the gallery does not have this number of dimensions.
            PageError: if the limit or the offset is out of range.
            ValueError: if another argument is not valid.
        """
        dimensions = self.dim if dimensions is None else dimensions
        recall = self.manifest.target if recall is None else recall
        self._check(queries, dimensions, limit, offset, recall)
        baselines = self.order.baseline(queries)
        queries = self.order.sketches(queries, dimensions)
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
            self._page(prefix, baseline, positions[positions >= 0], slice(offset, k), score_threshold)
            for prefix, baseline, positions in zip(truncate(queries, dimensions), baselines, found, strict=True)
        ]

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Returns vectors ``(n, dim)``, in the gallery's coordinates, of ``(n,)`` different photos that were hits."""
        positions = self._current.positions.of_ids(np.array(ids, np.int64))
        rows = {identifier: row for row, identifier in enumerate(self._current.positions.ids_at(positions).tolist())}
        return self._current.accelerator.gather(positions)[[rows[identifier] for identifier in ids]]

    def _check(self, queries: NDArray[np.float32], dimensions: int, limit: int, offset: int, recall: float) -> None:
        if not 1 <= dimensions <= self.dim:
            raise DimensionsError(dimensions, self.dim)
        check_page(limit, offset)
        if not 0 < recall <= 1:
            raise ValueError(f"recall must be over 0 and at most 1, not {recall}")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries must be (n, {self.dim}), not {queries.shape}")

    def _allowed(self, ids: NDArray[np.int64] | None, unique: bool, without: Sequence[int]) -> NDArray[np.bool_] | None:
        """Mask of the positions to search; None means all of them."""
        if ids is None and not unique and not without:
            return None
        positions = self._current.positions
        if ids is None:
            allowed = (positions.firsts if unique else positions.alive).copy()
        else:
            chosen = positions.of_ids(ids)
            allowed = np.zeros(positions.size, np.bool_)
            allowed[positions.first_of_each(chosen) if unique else chosen] = True
        if without:
            left_out = positions.of_ids(np.unique(without))
            contents = np.unique(positions.contents_at(left_out))
            allowed[positions.of_contents(contents) if unique else left_out] = False
        return allowed

    def _page(
        self,
        prefix: NDArray[np.float32],
        baseline: float,
        positions: NDArray[np.int64],
        page: slice,
        threshold: float | None,
    ) -> list[Hit]:
        """Scores the candidates with one order of summation, so that equal photos score equal, and cuts out a page."""
        vectors = truncate(self._current.accelerator.gather(positions), len(prefix)).astype(np.float64)
        scores = (vectors * prefix).sum(axis=1).astype(np.float32)
        ids = self._current.positions.ids_at(positions)
        order = np.lexsort((ids, -scores))[page]
        hits = [Hit(int(ids[position]), float(scores[position] + baseline)) for position in order]  # exact: no new ties
        return hits if threshold is None else [hit for hit in hits if hit.score >= threshold]
