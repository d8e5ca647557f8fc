"""What is served at one time: a gallery, its model and what has changed live. Loaded together and never mixed."""

import logging
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import GalleryError, ModelMismatch
from index.gallery.catalogue import Photo
from index.gallery.directory import Gallery
from index.gallery.searcher import Searcher
from service.encoding.model import EncodingModel
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from training.model.bundle import Bundle, load_bundle, read_manifest

__all__ = ["Serving"]

logger = logging.getLogger(__name__)


class Serving:
    """A gallery in service. Requests hold it by ``acquire`` and ``release``; once retired it closes with the last one.

    Args:
        settings: gallery, device and limits.
        metrics: to observe.
        previous: what is served now; its model goes on if the gallery has the same.

    Raises:
        GalleryError: if the gallery cannot be served; the message says why.
        BundleError: if its model cannot be loaded.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics, previous: "Serving | None" = None) -> None:
        self.path = settings.gallery.resolve()
        self.identity = (self.path, _inode(self.path / "catalogue.sqlite"))
        searcher = Searcher.open(self.path, settings.device)
        digest = read_manifest(self.path / "model").digest
        if searcher.manifest.model != digest:
            raise ModelMismatch(f"{self.path} was built with another model than the one in it; build it again")
        is_new = previous is None or previous.identity != self.identity
        if is_new and _publish_what_is_missing(self.path, searcher.manifest.revision):
            searcher = Searcher.open(self.path, settings.device)
        self.gallery = Gallery.open(self.path)
        self._users = 0
        self._retired = False
        self._lock = threading.Lock()
        try:
            shared = previous is not None and previous.bundle.digest == digest
            self.model: EncodingModel = previous.model if previous and shared else self._load_model(settings, metrics)
            self._owns_model = True
            self.searcher = searcher
            searcher.search(np.eye(1, searcher.dim, dtype=np.float32), 10)  # warm
        except BaseException:
            self.gallery.close()
            raise

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

    def acquire(self) -> None:
        """Takes part in its use."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Ends it."""
        with self._lock:
            self._users -= 1
            last = self._retired and not self._users
        if last:
            self._close()

    def retire(self, successor: "Serving | None" = None) -> None:
        """Closes as soon as nobody uses it; a model that the successor took over stays."""
        with self._lock:
            self._owns_model = successor is None or successor.model is not self.model
            self._retired = True
            last = not self._users
        if last:
            self._close()

    def _close(self) -> None:
        if self._owns_model:
            self.model.close()
        self.gallery.close()

    def _load_model(self, settings: ServiceSettings, metrics: Metrics) -> EncodingModel:
        model = EncodingModel(load_bundle(self.path / "model", settings.device), settings, metrics)
        model.warm_up()
        return model


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError as error:
        raise GalleryError(f"{path.parent} is not a gallery; make one with `python -m index build`") from error


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
