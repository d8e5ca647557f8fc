"""What is drawn to search a gallery, as sums from which its next base learns the order of coordinates."""

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.gallery.query_moments import add_queries
from training.model.gallery_order import SecondMoment

__all__ = ["DrawnSketches"]

_WAITING = 256  # embeddings that are kept until they are added up, because one product of matrices is quicker


class DrawnSketches:
    """Adds up the embeddings of sketches that searches were made with. One object may be used from many threads.

    Args:
        gallery: the gallery's folder, where the sums are kept.
        model: digest of the model.
        dim: number of embedding coordinates.
    """

    def __init__(self, gallery: Path, model: str, dim: int) -> None:
        self._gallery = gallery
        self._model = model
        self._dim = dim
        self._lock = threading.Lock()
        self._waiting: list[NDArray[np.float32]] = []
        self._sums = SecondMoment(dim)

    def add(self, embedding: NDArray[np.float32]) -> None:
        """Adds the embedding ``(dim,)`` of a sketch."""
        with self._lock:
            self._waiting.append(embedding)
            if len(self._waiting) >= _WAITING:
                self._add_up()

    def store(self) -> None:
        """Adds what came since the last call to the gallery's sums. What cannot be written is kept for the next call.

        Raises:
            GalleryError: if the gallery's folder cannot be written.
        """
        with self._lock:
            self._add_up()
            sums, self._sums = self._sums, SecondMoment(self._dim)
        if not sums.count:
            return
        try:
            add_queries(self._gallery, self._model, sums)
        except BaseException:
            with self._lock:
                self._sums.merge(sums)
            raise

    def _add_up(self) -> None:
        if self._waiting:
            self._sums.add(np.array(self._waiting))
            self._waiting.clear()
