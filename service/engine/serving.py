"""What requests are answered from: a gallery, its model and what has changed live. Loaded together and never mixed."""

import logging
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import GalleryError, ModelMismatch
from index.gallery.catalogue import Photo
from index.gallery.directory import Gallery
from index.gallery.searcher import Searcher
from service.encoding.decoding import Decoder
from service.encoding.model import EncodingModel
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from training.model.bundle import Bundle, load_bundle, read_manifest

__all__ = ["Serving", "open_serving"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """What one request is answered from; it stays the same until the request ends.

    Attributes:
        path: of the gallery.
        identity: differs from gallery to gallery, even at the same path.
        gallery: opened for reading.
        model: that embeds sketches and photos.
        searcher: over the generation and the live changes when the request began.
    """

    path: Path
    identity: tuple[Path, int]
    gallery: Gallery
    model: EncodingModel
    searcher: Searcher

    def close(self) -> None:
        """Closes the gallery, and the model unless another serving shares it."""
        try:
            self.model.close()
        finally:
            self.gallery.close()

    @property
    def bundle(self) -> Bundle:
        """The model that embeds sketches and photos."""
        return self.model.bundle

    def photo(self, identifier: int) -> Photo:
        """A photo by id.

        Raises:
            RequestProblem: 404 if there is none.
        """
        photo = self.gallery.catalogue.photo(identifier) if abs(identifier) < 2**63 else None
        if photo is None:
            raise RequestProblem(404, f"the gallery has no photo {identifier}")
        return photo

    def vector(self, photo: Photo) -> NDArray[np.float32]:
        """Embedding of a photo, ``(dim,)``."""
        known = self.gallery.catalogue.same_content(photo.sha256)
        if known is None:
            raise RequestProblem(404, f"the gallery has no photo {photo.id} any more")
        return known[2]


def open_serving(
    settings: ServiceSettings, metrics: Metrics, decoder: Decoder, previous: Serving | None = None
) -> Serving:
    """Opens the gallery's current generation and its model.

    Args:
        settings: gallery, device and limits.
        metrics: to observe.
        decoder: of images.
        previous: what is served now; its model goes on if the gallery has the same.

    Raises:
        GalleryError: if the gallery cannot be served; the message says why.
        BundleError: if its model cannot be loaded.
    """
    path = settings.gallery.resolve()
    identity = (path, _inode(path / "catalogue.sqlite"))
    searcher = Searcher.open(path, settings.device)
    digest = searcher.manifest.model
    if read_manifest(path / "model").digest != digest:
        raise ModelMismatch(f"{path} was built with another model than the one in it; build it again")
    is_new = previous is None or previous.identity != identity
    if is_new and _publish_what_is_missing(path, searcher.manifest.revision):
        searcher = Searcher.open(path, settings.device)
    with ExitStack() as opened:
        gallery = opened.enter_context(closing(Gallery.open(path)))
        if previous is not None and previous.bundle.digest == digest:
            model = opened.enter_context(closing(previous.model.share()))
        else:
            bundle = load_bundle(path / "model", settings.device)
            model = opened.enter_context(closing(EncodingModel(bundle, settings, metrics, decoder)))
            model.warm_up()
        searcher.search(np.eye(1, searcher.dim, dtype=np.float32), 10)  # warm
        opened.pop_all()
        return Serving(path, identity, gallery, model, searcher)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError as error:
        raise GalleryError(f"{path.parent} is not a gallery; make one with `svdraw index build`") from error


def _publish_what_is_missing(path: Path, published: int) -> bool:
    """Publishes what a service that was killed had added or removed live; returns whether there was anything."""
    with closing(Gallery.open(path)) as reader:
        if reader.catalogue.revision <= published:
            return False
    try:
        with closing(Gallery.open(path, write=True)) as gallery, gallery.writing():
            gallery.publish_changes()
    except GalleryError as error:  # a job is writing, or the disk is read-only: the published generation will do
        logger.warning("changes since the published generation are not found yet: %s", error)
        return False
    return True
