"""One shard as whoever searches it has it open: a gallery that keeps up with what is changed and published."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import GalleryError, MetadataError
from index.gallery.catalogue import Catalogue
from index.gallery.directory import Gallery
from index.gallery.generations import GenerationManifest, read_generation
from index.gallery.photos import KnownContent, Photo
from index.gallery.searcher import Searcher
from service.engine.changes import add_photo, changes_after, describe_photo, remove_photo
from service.engine.uploads import Upload
from service.errors import RequestProblem

__all__ = ["Answer", "Found", "Shard", "ShardFacts", "Wanted"]

logger = logging.getLogger(__name__)

_OTHERS_SECONDS = 0.5  # in which another process has made its change; a job takes longer
_SENT = 200  # photos whose facts go with the hits; those of most searches, whatever their page
_SENT_METADATA = 65_536  # bytes of all their metadata; where there are more, whoever has merged the hits asks for them


class Wanted(NamedTuple):
    """A filter, which every shard evaluates for itself, and the seconds that it may take."""

    filter: Mapping[str, Any]
    seconds: float | None


class Found(NamedTuple):
    """Hits of one query: ids in the shard ``(n,)`` and scores ``(n,)``."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]


class Answer(NamedTuple):
    """What a search has found, by query, and the facts of as many of the best hits as are cheap to send."""

    found: list[Found]
    photos: list[Photo]


class ShardFacts(NamedTuple):
    """What a shard says of itself: photos, live changes, colours; an empty one has no manifest."""

    manifest: GenerationManifest | None
    photos: int
    changes: int
    colors: list[str]


class Shard:
    """A shard, open for searches and changes. One object may be used from many threads. Ids are those in the shard.

    Changes that other processes make, such as other replicas of the shard, are taken over before a search begins.

    Args:
        path: the shard's gallery.
        device: see ``Searcher.open``.
        live_changes: number of changes after which a generation is published.

    Raises:
        GalleryError: if the gallery cannot be searched.
    """

    def __init__(self, path: Path, device: str, live_changes: int) -> None:
        self._path = path
        self._device = device
        self._live_changes = live_changes
        self._lock = threading.RLock()  # held while it is decided what searches know of
        self._gallery = Gallery.open(path)
        self._inode = self._catalogue.path.stat().st_ino
        self._searcher: Searcher | None = None
        self._seen = 0  # revision of the catalogue; searches know of what is in it
        self.refresh()

    def close(self) -> None:
        """Closes the gallery."""
        self._gallery.close()

    def facts(self) -> ShardFacts:
        """What the shard holds now."""
        searcher, colors = self._current(), self._catalogue.color_names()
        if searcher is None:
            return ShardFacts(None, 0, 0, colors)
        return ShardFacts(searcher.manifest, searcher.count, len(searcher.changes), colors)

    def search(
        self,
        queries: NDArray[np.float32],
        limit: int,
        among: Wanted | NDArray[np.int64] | None = None,
        without: Sequence[int] = (),
        **options: Any,
    ) -> Answer:
        """Finds photos, as ``Searcher.search`` does.

        The facts of the photos come along, since to ask for those of the best of all shards takes as long again.

        Args:
            queries: see there.
            limit: see there.
            among: the photos to search: a filter, or ids.
            without: see there.
            options: the other options.
        """
        searcher = self._current()
        if searcher is None:
            return Answer([Found(np.empty(0, np.int64), np.empty(0))] * len(queries), [])
        ids = self._catalogue.select(among.filter, among.seconds) if isinstance(among, Wanted) else among
        found = [
            Found(np.array([hit.id for hit in hits], np.int64), np.array([hit.score for hit in hits]))
            for hits in searcher.search(queries, limit, ids=ids, without=without, **options)
        ]
        return Answer(found, self._to_send(found))

    def _to_send(self, found: Sequence[Found]) -> list[Photo]:
        best = dict.fromkeys(identifier for one in found for identifier in one.ids[:_SENT].tolist())
        try:
            return list(self._catalogue.photos(list(best)[:_SENT], most=_SENT_METADATA).values())
        except MetadataError:
            return []

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """See ``Searcher.vectors``."""
        searcher = self._current()
        assert searcher is not None  # else there were no hits
        return searcher.vectors(ids)

    def photos(self, ids: Sequence[int], most: int | None = None) -> dict[int, Photo]:
        """See ``Catalogue.photos``."""
        return self._catalogue.photos(ids, most=most)

    def page(self, after: int, limit: int, most: int | None = None) -> tuple[list[Photo], bool]:
        """Photos as ``Catalogue.page`` returns them, and whether none follow."""
        photos = self._catalogue.page(after, limit, most=most)
        return photos, not photos or not self._catalogue.page(photos[-1].id, 1)

    def same_content(self, sha256: str) -> KnownContent | None:
        """See ``Catalogue.same_content``."""
        return self._catalogue.same_content(sha256)

    def add(self, upload: Upload, patience: float) -> tuple[Photo, bool]:
        """Adds a photo; see ``Engine.add``."""
        if self._current() is None:
            raise RequestProblem(409, "the photo's shard is empty; add photos with `svdraw index build --shards` first")
        with self._writing(patience) as gallery:
            return add_photo(gallery, upload)[0]

    def remove(self, identifier: int, patience: float) -> None:
        """Removes a photo that exists; see ``Engine.remove``."""
        with self._writing(patience) as gallery:
            if (photo := gallery.catalogue.photo(identifier)) is not None:
                remove_photo(gallery, photo)

    def describe(self, identifier: int, changes: dict[str, Any], patience: float) -> Photo | None:
        """Changes the description of a photo, or returns None if it does not exist; see ``Engine.describe``."""
        with self._writing(patience) as gallery:
            photo = gallery.catalogue.photo(identifier)
            return None if photo is None else describe_photo(gallery, photo, changes)[0]

    @property
    def is_replaced(self) -> bool:
        """Whether another gallery has taken the place of the one that is open."""
        return self._catalogue.path.stat().st_ino != self._inode

    def refresh(self) -> None:
        """Switches to a new generation if there is one.

        Raises:
            GalleryError: if the gallery was replaced by another, or cannot be searched.
        """
        with self._lock:
            if self.is_replaced:
                raise GalleryError(f"{self._path} was replaced by another gallery; start what searches it again")
            old = self._searcher
            if old is None and not self._catalogue.has_others([]):
                return
            if old is None or read_generation(self._path) != old.manifest:
                new = Searcher.open(self._path, self._device, previous=old)
                published = new.manifest.revision
                kept = [change for change in (old.changes if old else ()) if change.revision > published]
                self._searcher, self._seen = new.with_changes(kept), max(self._seen, published)
                logger.info("%s: searching generation %d, %d photos", self._path, new.generation, new.count)

    def tend(self) -> None:
        """Switches to a new generation if there is one, and publishes the changes if they are many; see ``refresh``.

        Raises:
            GalleryError: also if the changes need a new base.
        """
        self.refresh()
        with self._lock:
            if self._searcher is not None and len(self._searcher.changes) >= self._live_changes:
                self._publish()

    @property
    def _catalogue(self) -> Catalogue:
        return self._gallery.catalogue

    def _current(self) -> Searcher | None:
        """The searcher, after what others have changed was taken over; a job publishes what it changes."""
        if self._catalogue.revision > self._seen:
            with self._lock:
                if self._searcher is not None and not self._gallery.is_being_written():
                    self._catch_up(self._searcher)
        return self._searcher

    def _catch_up(self, searcher: Searcher) -> None:
        found = changes_after(self._catalogue, self._seen, searcher.dim, self._live_changes)
        if found is None:
            self._publish()
        else:
            changes, self._seen = found
            self._searcher = searcher.with_changes(changes)

    def _publish(self) -> None:
        with closing(Gallery.open(self._path, write=True)) as gallery:
            if gallery.publish_layer() is None:
                raise GalleryError(f"{self._path} needs a new base: run `svdraw index build --parts` again")
        self.refresh()

    @contextmanager
    def _writing(self, patience: float) -> Iterator[Gallery]:
        opened = closing(Gallery.open(self._path, write=True, patience=max(_OTHERS_SECONDS, patience)))
        with opened as gallery, gallery.writing(_OTHERS_SECONDS):
            yield gallery
