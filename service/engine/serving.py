"""The gallery in service with its model and live changes. They are loaded together and never mixed."""

import logging
from collections.abc import Mapping, Sequence, Sized
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
from numpy.typing import NDArray

from index.errors import GalleryError, ModelMismatch
from index.gallery.catalogue import Catalogue
from index.gallery.directory import Gallery
from index.gallery.expansion import Searchable
from index.gallery.generations import GenerationManifest
from index.gallery.photos import KnownContent, Photo
from index.gallery.precision import photo_precision, recorded_precision
from index.gallery.searcher import Choices, Hit, Searcher
from service.encoding.decoding import Decoder
from service.encoding.model import EncodingModel
from service.engine.drawn import DrawnSketches
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from training.model.bundle import Bundle, load_bundle
from training.model.manifest import read_manifest

__all__ = ["GalleryServing", "Reads", "Searches", "Serving", "open_serving", "open_successor"]

logger = logging.getLogger(__name__)


class Searches(Searchable, Protocol):
    """What finds photos: a ``Searcher``, or one of several shards."""

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
        """See ``Searcher.search``."""

    @property
    def manifest(self) -> GenerationManifest:
        """The manifest of the generation, as it was published."""

    @property
    def changes(self) -> Sized:
        """The changes since."""

    @property
    def dim(self) -> int:
        """Number of embedding coordinates."""

    @property
    def count(self) -> int:
        """Number of photos."""

    @property
    def generation(self) -> int:
        """Number of the generation."""


class Reads(Protocol):
    """What knows the facts of photos: a ``Catalogue``, or those of several shards; see there."""

    def select(self, wanted: Mapping[str, Any], seconds: float | None = None) -> Any:
        """What ``Searches.search`` takes for ``ids``, to search only the photos that match a filter."""

    def photo(self, identifier: int) -> Photo | None:
        """See ``Catalogue.photo``."""

    def photos(self, ids: Sequence[int], *, most: int | None = None) -> dict[int, Photo]:
        """See ``Catalogue.photos``."""

    def page(self, after: int, limit: int, *, most: int | None = None) -> list[Photo]:
        """See ``Catalogue.page``."""

    def same_content(self, sha256: str) -> KnownContent | None:
        """See ``Catalogue.same_content``."""

    def color_names(self) -> list[str]:
        """See ``ColorTable.names``."""


@dataclass(frozen=True)
class Serving:
    """Everything that one request is answered from. It stays the same until the request ends.

    Attributes:
        path: folder of the gallery, or of the shards.
        model: the model that embeds sketches and photos.
        searcher: searches the photos as they were at the beginning of the request.
        catalogue: the facts of the photos.
        drawn: collects what is drawn; None if that is turned off.
    """

    path: Path
    model: EncodingModel
    searcher: Searches
    catalogue: Reads
    drawn: DrawnSketches | None

    @property
    def bundle(self) -> Bundle:
        """The model that embeds sketches and photos."""
        return self.model.bundle

    @property
    def shards(self) -> int:
        """Number of galleries that the photos are split into."""
        return 1

    @property
    def missing_shards(self) -> list[int]:
        """Numbers of the shards that have not answered so far, so that their photos are missing in what was found."""
        return []

    def folder(self, photo: Photo) -> Path:
        """The folder of the gallery that has a photo."""
        return self.path

    def photo(self, identifier: int) -> Photo:
        """Returns a photo by id.

        Raises:
            RequestProblem: 404 if there is no such photo.
        """
        photo = self.catalogue.photo(identifier) if abs(identifier) < 2**63 else None
        if photo is None:
            raise RequestProblem(404, f"the gallery has no photo {identifier}")
        return photo

    def vector(self, photo: Photo) -> NDArray[np.float32]:
        """Returns the embedding of a photo, ``(dim,)``."""
        known = self.catalogue.same_content(photo.sha256)
        if known is None:
            raise RequestProblem(404, f"the gallery no longer has photo {photo.id}")
        return known[2]


@dataclass(frozen=True)
class GalleryServing(Serving):
    """A generation of one gallery and the live changes up to the beginning of the request.

    Attributes:
        identity: differs between galleries, even if they replace each other at the same path.
        gallery: the gallery, opened for reading.
        photos: precision of the gallery's photos; see ``recorded_precision``.
    """

    searcher: Searcher
    catalogue: Catalogue
    identity: tuple[Path, int]
    gallery: Gallery
    photos: str | None = None

    def close(self) -> None:
        """Closes the gallery, and the model unless another ``Serving`` shares it."""
        try:
            self.store_drawn()
        except GalleryError as error:
            logger.warning("the order of dimensions does not learn from the last searches: %s", error)
        finally:
            try:
                self.model.close()
            finally:
                self.gallery.close()

    def store_drawn(self) -> None:
        """Stores the sums over the sketches that were drawn, if they are collected; see ``DrawnSketches.store``."""
        if self.drawn is not None:
            self.drawn.store()


def open_serving(
    settings: ServiceSettings, metrics: Metrics, decoder: Decoder, previous: GalleryServing | None = None
) -> GalleryServing:
    """Opens the gallery's current generation and its model.

    Args:
        settings: settings of the service, with gallery, device and limits.
        metrics: metrics of the service.
        decoder: decoder of images.
        previous: what is served now; its model and its base are used again if the gallery has the same ones.

    Raises:
        GalleryError: if the gallery cannot be served; the message says why.
        BundleError: if the gallery's model cannot be loaded.
    """
    path = settings.gallery.resolve()
    identity = (path, _inode(path / "catalogue.sqlite"))
    searcher = Searcher.open(path, settings.device, previous=None if previous is None else previous.searcher)
    digest = searcher.manifest.model
    if read_manifest(path / "model").digest != digest:
        raise ModelMismatch(f"{path} was built with another model than the one it holds; build the gallery again")
    is_new = previous is None or previous.identity != identity
    if is_new and _publish_what_is_missing(path, searcher.manifest.revision):
        searcher = Searcher.open(path, settings.device, previous=searcher)
    with ExitStack() as opened:
        gallery = opened.enter_context(closing(Gallery.open(path)))
        photos = recorded_precision(gallery.catalogue)
        if previous is not None and (previous.bundle.digest, previous.photos) == (digest, photos):
            model = opened.enter_context(closing(previous.model.share()))
        else:
            bundle = load_bundle(path / "model", settings.device)
            precision = photo_precision(gallery.catalogue, bundle)
            model = opened.enter_context(closing(EncodingModel(bundle, settings, metrics, decoder, precision)))
            model.warm_up()
        if previous is None or searcher.base is not previous.searcher.base:
            searcher.search(np.eye(1, searcher.dim, dtype=np.float32), 10)  # warms up the search
        opened.pop_all()
        drawn = _drawn(settings, path, identity, searcher, previous)
        return GalleryServing(path, model, searcher, gallery.catalogue, drawn, identity, gallery, photos)


def open_successor(
    settings: ServiceSettings, metrics: Metrics, decoder: Decoder, old: GalleryServing
) -> GalleryServing:
    """Opens the generation that was published last, with the live changes that it does not contain.

    Raises:
        GalleryError: see ``open_serving``; BundleError likewise.
    """
    new = open_serving(settings, metrics, decoder, old)
    if new.identity != old.identity:
        return new
    published = new.searcher.manifest.revision
    try:
        searcher = new.searcher.with_changes(c for c in old.searcher.changes if c.revision > published)
    except BaseException:
        new.close()
        raise
    return replace(new, searcher=searcher)


def _drawn(
    settings: ServiceSettings,
    path: Path,
    identity: tuple[Path, int],
    searcher: Searcher,
    previous: GalleryServing | None,
) -> DrawnSketches | None:
    """The collector of what is drawn: the one in use, unless the gallery or the model is another."""
    if not settings.learn_queries:
        return None
    model = searcher.manifest.model
    if previous is not None and previous.identity == identity and previous.bundle.digest == model:
        return previous.drawn
    return DrawnSketches(path, model, searcher.dim)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError as error:
        raise GalleryError(f"{path.parent} is not a gallery; make one with `svdraw index build`") from error


def _publish_what_is_missing(path: Path, published: int) -> bool:
    """Publishes live changes that a killed service left unpublished; returns whether there were any."""
    with closing(Gallery.open(path)) as reader:
        if reader.catalogue.revision <= published:
            return False
    try:
        with closing(Gallery.open(path, write=True)) as gallery:
            if gallery.publish_layer() is None:
                raise GalleryError("there are so many that they need a new base; it will be built soon")
    except GalleryError as error:  # if the disk is read-only, the published generation is served
        logger.warning("searches do not yet find the changes since the published generation: %s", error)
        return False
    return True
