"""One request's view of all shards: what the service reads of a gallery, put together from the shards' answers."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from index.errors import DimensionsError
from index.gallery.generations import GenerationManifest
from index.gallery.palette import PALETTE
from index.gallery.photos import KnownContent, Photo
from index.gallery.searcher import Choices, Hit, check_page
from index.shards.layout import global_ids, local_ids, shard_folder, shard_of
from index.shards.searching import merge
from service.engine.serving import Serving
from service.errors import RequestProblem
from service.shards.fleet import Fleet, check_answered
from service.shards.shard import Found, Wanted
from training.model.gallery_order import GalleryOrder

__all__ = ["Heard", "ShardsCatalogue", "ShardsSearcher", "ShardsServing", "shard_and_id"]


def shard_and_id(identifier: int, shards: int) -> tuple[int, int]:
    """The shard of a photo, and its id there."""
    return identifier % shards, identifier // shards


class Heard(NamedTuple):
    """What the shards have said to one request, whoever has asked them.

    Attributes:
        missing: numbers of the shards that have not answered.
        photos: facts of photos that came with hits, by id among all shards.
    """

    missing: set[int]
    photos: dict[int, Photo]

    @classmethod
    def nothing(cls) -> Self:
        """At the beginning of a request."""
        return cls(set(), {})


class _View:
    """What a request has asked the shards for.

    Args:
        fleet: the shards.
        heard: what they have said.
    """

    def __init__(self, fleet: Fleet, heard: Heard) -> None:
        self.fleet = fleet
        self.heard = heard

    def ask(self, calls: Mapping[int, tuple[Any, ...]], **options: Any) -> dict[int, Any]:
        answers = self.fleet.ask_all(calls, **options)
        self.heard.missing.update(calls.keys() - answers.keys())
        return answers

    def by_shard(self, ids: Sequence[int]) -> dict[int, list[int]]:
        """The ids in their shards of photos, by shard; shards without any are left out."""
        wanted = np.array(ids, np.int64)
        shards = {identifier % len(self.fleet) for identifier in ids}
        return {shard: local_ids(wanted, shard, len(self.fleet)).tolist() for shard in sorted(shards)}


class ShardsSearcher(_View):
    """Searches all shards; see ``Searcher``."""

    def __init__(self, fleet: Fleet, heard: Heard, order: GalleryOrder) -> None:
        super().__init__(fleet, heard)
        self._order = order

    @property
    def order(self) -> GalleryOrder:
        """See ``Searcher.order``."""
        return self._order

    @property
    def manifest(self) -> GenerationManifest:
        """That of the first shard that has photos."""
        return self._manifests[0]

    @property
    def changes(self) -> Sequence[int]:
        """As many numbers as there are changes since the generations of the shards were published."""
        return range(sum(facts.changes for facts in self.fleet.facts.values()))

    @property
    def dim(self) -> int:
        """See ``Searcher.dim``."""
        return self.manifest.dim

    @property
    def count(self) -> int:
        """Number of photos in all shards, also those that do not answer."""
        return sum(facts.photos for facts in self.fleet.facts.values())

    @property
    def generation(self) -> int:
        """The sum of the shards' generations, which grows whenever one of them does."""
        return sum(manifest.generation for manifest in self._manifests)

    def search(
        self,
        queries: NDArray[np.float32],
        limit: int,
        *,
        dimensions: int | None = None,
        offset: int = 0,
        score_threshold: float | None = None,
        **choices: Unpack[Choices],
    ) -> list[list[Hit]]:
        """See ``Searcher.search``; ``ids`` is what ``ShardsCatalogue.select`` has returned.

        Raises:
            RequestProblem: 503 if no shard answers.
        """
        check_page(limit, offset)
        if dimensions is not None and not 1 <= dimensions <= self.dim:
            raise DimensionsError(dimensions, self.dim)
        without = self.by_shard(choices.get("without", ()))
        calls = {
            shard: ("search", queries, offset + limit, choices.get("ids"), without.get(shard, []))
            for shard in range(len(self.fleet))
        }
        answers = self.ask(
            calls,
            dimensions=dimensions,
            score_threshold=score_threshold,
            recall=choices.get("recall"),
            unique=choices.get("unique", False),
        )
        check_answered(answers)
        count = len(self.fleet)
        hits = [[_hits(found, shard, count) for found in answer.found] for shard, answer in answers.items()]
        sent = [_among_all(photo, shard, count) for shard, answer in answers.items() for photo in answer.photos]
        self.heard.photos.update((photo.id, photo) for photo in sent)
        return [merge(lists, limit, offset) for lists in zip(*hits, strict=True)]

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """See ``Searcher.vectors``.

        Raises:
            RequestProblem: 503 if a shard that has some of them does not answer any more.
        """
        groups = self.by_shard(ids)
        answers = self.ask({shard: ("vectors", some) for shard, some in groups.items()})
        _demand(groups, answers)
        found, wanted = np.empty((len(ids), self.dim), np.float32), np.array(ids, np.int64)
        for shard, vectors in answers.items():
            found[wanted % len(self.fleet) == shard] = vectors
        return found

    @property
    def _manifests(self) -> list[GenerationManifest]:
        known = sorted(self.fleet.facts.items())
        return [facts.manifest for _, facts in known if facts.manifest is not None]


class ShardsCatalogue(_View):
    """Facts of the photos in all shards; see ``Catalogue``."""

    def select(self, wanted: Mapping[str, Any], seconds: float | None = None) -> Wanted:
        """The filter itself, for the shards to evaluate."""
        return Wanted(wanted, seconds)

    def photo(self, identifier: int) -> Photo | None:
        """See ``Catalogue.photo``.

        Raises:
            RequestProblem: 503 if its shard does not answer.
        """
        shard, own = shard_and_id(identifier, len(self.fleet))
        found: dict[int, Photo] = self.fleet.ask(shard, "photos", [own])
        return _among_all(found[own], shard, len(self.fleet)) if own in found else None

    def photos(self, ids: Sequence[int], *, most: int | None = None) -> dict[int, Photo]:
        """See ``Catalogue.photos``; those of shards that do not answer are left out.

        What came with hits is not asked for again, and has its metadata whatever ``most`` says.
        """
        known = {identifier: self.heard.photos[identifier] for identifier in ids if identifier in self.heard.photos}
        groups = self.by_shard([identifier for identifier in ids if identifier not in known])
        answers = self.ask({shard: ("photos", some, most) for shard, some in groups.items()})
        found = [
            _among_all(photo, shard, len(self.fleet)) for shard, some in answers.items() for photo in some.values()
        ]
        return known | {photo.id: photo for photo in found}

    def page(self, after: int, limit: int, *, most: int | None = None) -> list[Photo]:
        """See ``Catalogue.page``.

        Raises:
            RequestProblem: 503 if a shard does not answer.
        """
        count = len(self.fleet)
        share = None if most is None else most // count
        calls = {shard: ("page", (after - shard) // count, limit, share) for shard in range(count)}
        answers = self.ask(calls)
        _demand(calls, answers)
        pages = {shard: [_among_all(photo, shard, count) for photo in photos] for shard, (photos, _) in answers.items()}
        ends = [pages[shard][-1].id for shard, (_, is_last) in answers.items() if not is_last]
        photos = list(heapq.merge(*pages.values(), key=lambda photo: photo.id))
        return [photo for photo in photos if photo.id <= min(ends, default=photo.id)][:limit]

    def same_content(self, sha256: str) -> KnownContent | None:
        """See ``Catalogue.same_content``."""
        found: KnownContent | None = self.fleet.ask(shard_of(sha256, len(self.fleet)), "same_content", sha256)
        return found

    def color_names(self) -> list[str]:
        """Names of the colours that some photo of some shard has."""
        there = {color for facts in self.fleet.facts.values() for color in facts.colors}
        return [color for color in PALETTE if color in there]


@dataclass(frozen=True)
class ShardsServing(Serving):
    """All shards as one request sees them.

    Attributes:
        fleet: the shards.
        heard: what the shards have said to it.
    """

    fleet: Fleet
    heard: Heard

    @property
    def shards(self) -> int:
        """See ``Serving.shards``."""
        return len(self.fleet)

    @property
    def missing_shards(self) -> list[int]:
        """See ``Serving.missing_shards``."""
        return sorted(self.heard.missing)

    def folder(self, photo: Photo) -> Path:
        """See ``Serving.folder``."""
        return shard_folder(self.path, photo.id % self.shards)


def _hits(found: Found, shard: int, shards: int) -> list[Hit]:
    ids = global_ids(found.ids, shard, shards)
    return [Hit(identifier, score) for identifier, score in zip(ids.tolist(), found.scores.tolist(), strict=True)]


def _among_all(photo: Photo, shard: int, shards: int) -> Photo:
    return photo._replace(id=photo.id * shards + shard)


def _demand(wanted: Mapping[int, Any], answers: Mapping[int, Any]) -> None:
    if missing := sorted(wanted.keys() - answers.keys()):
        raise RequestProblem(503, f"shards {missing} do not answer; try again soon", {"Retry-After": "2"})
