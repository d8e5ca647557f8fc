"""The gallery in service with its model and live changes. They are loaded together and never mixed."""

import logging
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import GalleryError, ModelMismatch
from index.gallery.directory import Gallery
from index.gallery.photos import Photo
from index.gallery.precision import photo_precision, recorded_precision
from index.gallery.searcher import Searcher
from service.encoding.decoding import Decoder
from service.encoding.model import EncodingModel
from service.engine.drawn import DrawnSketches
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from training.model.bundle import Bundle, load_bundle
from training.model.manifest import read_manifest

__all__ = ["Serving", "open_serving", "open_successor"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """Everything that one request is answered from. It stays the same until the request ends.

    Attributes:
        path: folder of the gallery.
        identity: differs between galleries, even if they replace each other at the same path.
        gallery: the gallery, opened for reading.
        model: the model that embeds sketches and photos.
        searcher: searches the generation and the live changes up to the beginning of the request.
        drawn: collects what is drawn; None if that is turned off.
        photos: precision of the gallery's photos; see ``recorded_precision``.
    """

    path: Path
    identity: tuple[Path, int]
    gallery: Gallery
    model: EncodingModel
    searcher: Searcher
    drawn: DrawnSketches | None
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

    @property
    def bundle(self) -> Bundle:
        """The model that embeds sketches and photos."""
        return self.model.bundle

    def photo(self, identifier: int) -> Photo:
        """Returns a photo by id.

        Raises:
            RequestProblem: 404 if there is no such photo.
        """
        photo = self.gallery.catalogue.photo(identifier) if abs(identifier) < 2**63 else None
        if photo is None:
            raise RequestProblem(404, f"the gallery has no photo {identifier}")
        return photo

    def vector(self, photo: Photo) -> NDArray[np.float32]:
        """Returns the embedding of a photo, ``(dim,)``."""
        known = self.gallery.catalogue.same_content(photo.sha256)
        if known is None:
            raise RequestProblem(404, f"the gallery no longer has photo {photo.id}")
        return known[2]


def open_serving(
    settings: ServiceSettings, metrics: Metrics, decoder: Decoder, previous: Serving | None = None
) -> Serving:
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
        return Serving(path, identity, gallery, model, searcher, drawn, photos)


def open_successor(settings: ServiceSettings, metrics: Metrics, decoder: Decoder, old: Serving) -> Serving:
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
    settings: ServiceSettings, path: Path, identity: tuple[Path, int], searcher: Searcher, previous: Serving | None
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
