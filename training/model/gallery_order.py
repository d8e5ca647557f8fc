"""The canonical form for one gallery: coordinates are ordered by how well they tell its own photos apart.

In canonical form, E[f f^T] = E[g g^T] = S on the training data. A gallery holds other photos, whose second moment is
B = E[g g^T]. Sketches of them are not known. But where f and g are balanced, their second moments are equal, so B
stands for both, and the canonical form of (B, B) is the rotation to the eigenvectors of B. It keeps every score and
moves the coordinates that matter in this gallery to the front.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from training.model.canonical import weighted_second_moment

__all__ = ["GalleryOrder", "gallery_order", "order_of_photos"]

Matrix = NDArray[np.float64]

_PRIOR = 10  # number of photos that the training data counts as; it decides the order in small galleries


class GalleryOrder(NamedTuple):
    """A rotation of embeddings to the coordinates of a gallery.

    Attributes:
        rotation: orthogonal matrix ``(dim, dim)``; each row gives a new coordinate.
        spectrum: second moments of the new coordinates, ``(dim,)``, descending.
    """

    rotation: Matrix
    spectrum: Matrix

    def apply(self, embeddings: NDArray[np.float32], dimensions: int | None = None) -> NDArray[np.float32]:
        """Rotates embeddings to the new coordinates.

        Sums use 64 bits, so that equal embeddings stay equal, whatever other rows the array holds.

        Args:
            embeddings: embeddings of sketches or photos, ``(n, dim)``.
            dimensions: number of coordinates to keep; the others are set to zero. All are kept when omitted.

        Returns:
            The rotated embeddings, ``(n, dim)``.
        """
        rotated = np.zeros(embeddings.shape, np.float32)
        rotated[:, :dimensions] = embeddings.astype(np.float64) @ self.rotation[:dimensions].T
        return rotated


def gallery_order(moment: Matrix, count: int, spectrum: Sequence[float]) -> GalleryOrder:
    """Computes the order of coordinates for a gallery.

    Args:
        moment: second moment E[g g^T] of the gallery's photos, ``(dim, dim)``; ignored if there are none.
        count: number of the gallery's photos.
        spectrum: the model's spectrum ``(dim,)``, E[g_i^2] on its training data.
    """
    prior = np.diag(np.asarray(spectrum, np.float64))
    values, vectors = eigh((count * moment + _PRIOR * prior) / (count + _PRIOR))
    return GalleryOrder(vectors[:, ::-1].T.copy(), np.clip(values[::-1], 0, None))


def order_of_photos(photos: NDArray[np.float32], spectrum: Sequence[float]) -> GalleryOrder:
    """Computes the order for embeddings ``(n, dim)`` of photos that fit into memory; see ``gallery_order``."""
    moment = weighted_second_moment(photos, np.full(len(photos), 1 / max(1, len(photos))))
    return gallery_order(moment, len(photos), spectrum)
