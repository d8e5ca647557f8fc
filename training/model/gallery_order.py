"""The canonical form for one gallery: the SVD of the operator between the sketches that are drawn and its own photos.

In the model's canonical form, E[f f^T] = E[g g^T] = S on the training data. A gallery holds other photos, and other
sketches are drawn to search it. With A = E[f f^T] of those sketches and the second moment B of the gallery's photos
about their mean m, the scores f^T (g - m) have the singular value decomposition U s V^T = A^{1/2} B^{1/2}, and

    f' = s^{1/2} U^T A^{-1/2} f,    g' = s^{1/2} V^T B^{-1/2} (g - m)

keep every score but for f^T m, which is the same for all photos of a query and is added back. Of all embeddings with d
coordinates, the first d of f' and g' have scores with the least mean squared error. Where A is not known, it is S.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.base.row_blocks import map_rows, row_blocks
from training.base.stored_arrays import load_arrays
from training.model.canonical import canonical_form

__all__ = ["GalleryOrder", "SecondMoment", "gallery_order", "order_of_photos", "read_gallery_order"]

Matrix = NDArray[np.float64]

_PHOTOS = 10  # number of photos that the training data counts as; it decides the order in small galleries
_SKETCHES = 300  # number of sketches that the training data counts as, and the most that those drawn count as
_FLOOR = 1e-4  # relative to the mean eigenvalue: bounds how much rounding errors grow


class SecondMoment:
    """Sums that grow as embeddings are added: how many there are, their mean and their second moment.

    Args:
        dim: number of coordinates.

    Attributes:
        count: number of embeddings.
        total: sum of the embeddings, ``(dim,)``.
        products: sum of their outer products, ``(dim, dim)``.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.total: Matrix = np.zeros(dim)
        self.products: Matrix = np.zeros((dim, dim))

    def add(self, embeddings: NDArray[np.float32]) -> None:
        """Adds embeddings ``(n, dim)``."""
        for rows in row_blocks(len(embeddings)):
            values = embeddings[rows].astype(np.float64)
            self.count += len(values)
            self.total += values.sum(axis=0)
            self.products += values.T @ values

    def merge(self, other: "SecondMoment") -> None:
        """Adds other sums."""
        self.count += other.count
        self.total = self.total + other.total
        self.products = self.products + other.products

    @property
    def mean(self) -> Matrix:
        """Mean of the embeddings, ``(dim,)``; zero if there are none."""
        return self.total / max(1, self.count)

    @property
    def about_mean(self) -> Matrix:
        """Second moment about the mean, ``(dim, dim)``."""
        moment: Matrix = self.products / max(1, self.count) - np.outer(self.mean, self.mean)
        return moment


class GalleryOrder(NamedTuple):
    """Linear maps of sketches and photos to the coordinates of a gallery.

    Attributes:
        sketch_map: f' = sketch_map f, ``(dim, dim)``.
        photo_map: g' = photo_map (g - mean), ``(dim, dim)``; the transposed inverse of ``sketch_map``.
        mean: mean of the photos, ``(dim,)``.
        spectrum: the singular values s, ``(dim,)``, descending.
    """

    sketch_map: Matrix
    photo_map: Matrix
    mean: Matrix
    spectrum: Matrix

    def sketches(self, embeddings: NDArray[np.float32], dimensions: int | None = None) -> NDArray[np.float32]:
        """Maps queries to the gallery's coordinates.

        Sums use 64 bits, so that equal embeddings stay equal, whatever other rows the array holds.

        Args:
            embeddings: embeddings of queries, ``(n, dim)``. They may be photos too, because scores are bilinear.
            dimensions: number of coordinates to keep; the others are set to zero. All are kept when omitted.

        Returns:
            The mapped embeddings, ``(n, dim)``.
        """
        mapped = map_rows(lambda rows: rows.astype(np.float64) @ self.sketch_map.T, embeddings, len(self.mean))
        if dimensions is not None:
            mapped[:, dimensions:] = 0
        return mapped

    def photos(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps embeddings ``(n, dim)`` of photos of the gallery to the gallery's coordinates; see ``sketches``."""
        return map_rows(lambda rows: (rows - self.mean) @ self.photo_map.T, embeddings, len(self.mean))

    def baseline(self, queries: NDArray[np.float32]) -> Matrix:
        """Computes the score ``(n,)`` of the mean photo, which every score of a query ``(n, dim)`` contains."""
        scores: Matrix = queries.astype(np.float64) @ self.mean
        return scores

    def write(self, file: Path | IO[bytes]) -> None:
        """Writes the order to an ``.npz`` file."""
        np.savez(file, **self._asdict())


def read_gallery_order(file: Path) -> GalleryOrder:
    """Reads the order that ``GalleryOrder.write`` has written."""
    stored = load_arrays(file)
    return GalleryOrder(*(stored[name] for name in GalleryOrder._fields))


def gallery_order(
    photos: SecondMoment, spectrum: Sequence[float], sketches: SecondMoment | None = None
) -> GalleryOrder:
    """Computes the order of coordinates for a gallery.

    Args:
        photos: sums over the gallery's photos.
        spectrum: the model's spectrum ``(dim,)``, E[f_i^2] = E[g_i^2] on its training data.
        sketches: sums over the sketches that were drawn, if they are known. They are mixed with the training data's
            by their numbers. They are scaled to the same mean square first, so that long embeddings count no more.
    """
    prior = np.diag(np.asarray(spectrum, np.float64))
    moment_g = (photos.count * photos.about_mean + _PHOTOS * prior) / (photos.count + _PHOTOS)
    moment_f = prior
    if sketches is not None and (power := np.trace(sketches.products)) > 0:
        weight = min(sketches.count, _SKETCHES)
        drawn = sketches.products * (np.trace(prior) / power)
        moment_f = (weight * drawn + _SKETCHES * prior) / (weight + _SKETCHES)
    form = canonical_form(moment_f, moment_g, floor=_FLOOR)
    return GalleryOrder(form.transform_f, form.transform_g, photos.mean, form.spectrum)


def order_of_photos(photos: NDArray[np.float32], spectrum: Sequence[float]) -> GalleryOrder:
    """Computes the order for embeddings ``(n, dim)`` of photos that fit into memory; see ``gallery_order``."""
    moment = SecondMoment(photos.shape[1])
    moment.add(photos)
    return gallery_order(moment, spectrum)
