"""One answer from all shards: each finds its best photos, and the best of these are the best of all."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from index.errors import GalleryDamaged
from index.gallery.directory import Gallery
from index.gallery.photos import Photo
from index.gallery.searcher import Hit, Searcher, check_page
from index.shards.layout import global_ids, local_ids, read_shards, shard_folder
from training.model.gallery_order import GalleryOrder

__all__ = ["Shards", "merge"]


class Shards:
    """All shards of a collection, open for searches in this process. Ids are those among all shards.

    Args:
        galleries: by number of the shard; None where a shard holds no photo.
        searchers: the same.
    """

    def __init__(self, galleries: Sequence[Gallery | None], searchers: Sequence[Searcher | None]) -> None:
        self._galleries = galleries
        self._searchers = searchers
        self._there = [searcher for searcher in searchers if searcher is not None]

    @classmethod
    def open(cls, path: Path, device: str = "auto") -> Self:
        """Opens the shards in a folder.

        Args:
            path: folder of the shards.
            device: see ``Searcher.open``.

        Raises:
            GalleryError: if there are no shards, or one cannot be used.
            GalleryDamaged: if the shards differ in their model or their order of coordinates.
        """
        manifest = read_shards(path)
        galleries, searchers = list[Gallery | None](), list[Searcher | None]()
        with ExitStack() as opened:
            for shard in range(manifest.shards):
                gallery = opened.enter_context(closing(Gallery.open(shard_folder(path, shard))))
                is_empty = not gallery.catalogue.has_others([])
                galleries.append(None if is_empty else gallery)
                searchers.append(None if is_empty else Searcher.open(gallery.path, device))
            shards = cls(galleries, searchers)
            shards._check(path, manifest.model)
            opened.pop_all()
        return shards

    def close(self) -> None:
        """Closes the galleries."""
        for gallery in self._galleries:
            if gallery is not None:
                gallery.close()

    @property
    def count(self) -> int:
        """Number of photos."""
        return sum(searcher.count for searcher in self._there)

    @property
    def order(self) -> GalleryOrder:
        """The maps from the model's coordinates to those that ``dimensions`` counts."""
        return self._there[0].order

    @property
    def model_directory(self) -> Path:
        """Folder of the model bundle of the first shard; all shards have the same."""
        return next(gallery for gallery in self._galleries if gallery is not None).model_directory

    def search(
        self,
        queries: NDArray[np.float32],
        limit: int,
        *,
        offset: int = 0,
        ids: NDArray[np.int64] | None = None,
        without: Sequence[int] = (),
        **options: Any,
    ) -> list[list[Hit]]:
        """Finds the photos with the largest inner product, as ``Searcher.search`` does in one gallery.

        Args:
            queries: sketch embeddings ``(n, dim)``, as the model gives them.
            limit: largest number of hits for each query.
            offset: number of hits to skip.
            ids: search only these photos.
            without: ids of photos to leave out.
            options: the other options of ``Searcher.search``.

        Raises:
            DimensionsError: if the shards do not have this number of dimensions.
            PageError: if the limit or the offset is out of range.
            ValueError: if another argument is not valid.
        """
        check_page(limit, offset)
        count, left_out = len(self._searchers), np.array(without, np.int64)
        found = []
        for shard, searcher in enumerate(self._searchers):
            if searcher is None:
                continue
            hits = searcher.search(
                queries,
                offset + limit,
                ids=None if ids is None else local_ids(ids, shard, count),
                without=local_ids(left_out, shard, count).tolist(),
                **options,
            )
            found.append([[Hit(hit.id * count + shard, hit.score) for hit in some] for some in hits])
        return [merge(lists, limit, offset) for lists in zip(*found, strict=True)]

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Returns vectors ``(n, dim)``, in the shards' coordinates, of ``(n,)`` different photos that were hits."""
        count, wanted = len(self._searchers), np.array(ids, np.int64)
        found = np.empty((len(wanted), self._there[0].dim), np.float32)
        for shard, searcher in enumerate(self._searchers):
            own = wanted % count == shard
            if searcher is not None and own.any():
                found[own] = searcher.vectors(local_ids(wanted, shard, count).tolist())
        return found

    def select(self, wanted: Mapping[str, Any], seconds: float | None = None) -> NDArray[np.int64]:
        """Returns the ids ``(n,)``, ascending, of the photos that match a filter; see ``Catalogue.select``.

        A filter on ``id`` compares ids in the shards.

        Raises:
            FilterError: if the filter is not valid.
            QueryTimeout: if a shard takes longer than ``seconds``.
        """
        count = len(self._galleries)
        found = [
            global_ids(gallery.catalogue.select(wanted, seconds), shard, count)
            for shard, gallery in enumerate(self._galleries)
            if gallery is not None
        ]
        return np.sort(np.concatenate(found))

    def photos(self, ids: Sequence[int]) -> dict[int, Photo]:
        """Returns those photos among the ids that exist, by id."""
        count, wanted, found = len(self._galleries), np.array(ids, np.int64), dict[int, Photo]()
        for shard, gallery in enumerate(self._galleries):
            if gallery is not None:
                for photo in gallery.catalogue.photos(local_ids(wanted, shard, count).tolist()).values():
                    identifier = photo.id * count + shard
                    found[identifier] = photo._replace(id=identifier)
        return found

    def _check(self, path: Path, model: str) -> None:
        if not self._there:
            raise GalleryDamaged(f"no shard in {path} holds a photo; build the shards again")
        for searcher in self._there:
            same = all(np.array_equal(a, b) for a, b in zip(searcher.order, self.order, strict=True))
            if searcher.manifest.model != model or not same:
                raise GalleryDamaged(f"the shards in {path} differ in their model or order; build them again")


def merge(found: Sequence[Sequence[Hit]], limit: int, offset: int = 0) -> list[Hit]:
    """Merges what several shards found for one query, best first; photos with equal scores come in order of id.

    Args:
        found: by shard, the best ``offset + limit`` hits or all there are, with ids among all shards.
        limit: largest number of hits.
        offset: number of best hits to skip.
    """
    hits = sorted((hit for some in found for hit in some), key=lambda hit: (-hit.score, hit.id))
    return hits[offset : offset + limit]
