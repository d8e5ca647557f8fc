"""Which photos are relevant to which sketches: those with a class in common.

Classes are kept instead of pairs, so that memory grows with the number of images and not with its square: a million
photos of a hundred classes have ten billion pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from training.data.pairs import PairedData

__all__ = ["Relevance", "class_relevance", "same_label"]


@dataclass(frozen=True)
class Relevance:
    """Relevance of photos to sketches by their classes, of which each may have several.

    Attributes:
        sketches: which classes each sketch is of, ``(sketches, classes)`` bool.
        photos: which photos are of each class, ``(classes, photos)`` bool.
    """

    sketches: csr_array
    photos: csr_array

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.int64]) -> "Relevance":
        """The relevance to some of the sketches."""
        return replace(self, sketches=self.sketches[rows])

    def among(self, photos: NDArray[np.int64]) -> "Relevance":
        """The relevance of some of the photos, by their positions."""
        return replace(self, photos=csr_array(self.photos[:, photos]))

    def toarray(self) -> NDArray[np.bool_]:
        """Every pair, ``(sketches, photos)``; take a few sketches at once where there are many photos."""
        return np.asarray((self.sketches @ self.photos).toarray(), dtype=np.bool_)

    @property
    def is_found(self) -> NDArray[np.bool_]:
        """Whether any photo is relevant to each sketch, ``(sketches,)``."""
        return np.asarray(self.sketches @ (self.photos.sum(axis=1) > 0), dtype=np.bool_)

    @property
    def has_single_photos(self) -> bool:
        """Whether no class has two photos, so that a search for the class is one for the exact match."""
        return bool(self.photos.sum(axis=1).max() <= 1)


def class_relevance(data: PairedData) -> Relevance:
    """The relevance of photos to sketches of the same class, whatever other groups the data has."""
    codes = {label: code for code, label in enumerate(data.classes)}
    sketches = [(row, codes[group.label]) for group in data.groups for row in group.sketches]
    photos = [(codes[group.label], column) for group in data.groups for column in group.photos]
    return Relevance(
        _incidence(np.array(sketches).T, (len(data.sketches), len(codes))),
        _incidence(np.array(photos).T, (len(codes), len(data.photos))),
    )


def same_label(sketch_labels: ArrayLike, photo_labels: ArrayLike) -> Relevance:
    """The relevance of photos to sketches with the same label.

    Args:
        sketch_labels: ``(sketches,)`` numbers or texts.
        photo_labels: ``(photos,)``, of the same kind.

    Example:
        >>> same_label(["owl", "fox"], ["fox", "owl", "owl"]).toarray()
        array([[False,  True,  True],
               [ True, False, False]])
    """
    sketches, photos = np.asarray(sketch_labels), np.asarray(photo_labels)
    names, codes = np.unique(np.concatenate([sketches, photos]), return_inverse=True)
    rows, columns = np.arange(len(sketches)), np.arange(len(photos))
    return Relevance(
        _incidence(np.array([rows, codes[: len(rows)]]), (len(rows), len(names))),
        _incidence(np.array([codes[len(rows) :], columns]), (len(names), len(columns))),
    )


def _incidence(cells: NDArray[np.int64], shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(cells.shape[1], np.bool_), (cells[0], cells[1])), shape=shape)
