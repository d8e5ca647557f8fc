"""The canonical form for one gallery: its coordinates are ordered by how well they tell its own photos apart.

In canonical form E[f f^T] = E[g g^T] = S on the training data. The photos of a gallery are others, and theirs is
B = E[g g^T]. Sketches of them are not known, but where f and g are balanced their second moments are equal, so B stands
for both, and the canonical form of (B, B) is the rotation to the eigenvectors of B. It keeps every score and moves
what matters in this gallery to the front.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from training.model.canonical import weighted_second_moment

__all__ = ["GalleryOrder", "gallery_order", "order_of_photos"]

Matrix = NDArray[np.float64]

_PRIOR = 10  # photos that the training data counts as; it orders what a small gallery leaves open


class GalleryOrder(NamedTuple):
    """A rotation of embeddings.

    Attributes:
        rotation: ``(dim, dim)``, orthogonal; a row gives a new coordinate.
        spectrum: ``(dim,)``, second moments of the new coordinates, descending.
    """

    rotation: Matrix
    spectrum: Matrix

    def apply(self, embeddings: NDArray[np.float32], dimensions: int | None = None) -> NDArray[np.float32]:
        """Embeddings in the new coordinates.

        Sums are of 64 bits, so that equal embeddings stay equal whatever stands beside them.

        Args:
            embeddings: ``(n, dim)`` of sketches or photos.
            dimensions: the coordinates after so many are set to zero; none when omitted.

        Returns:
            ``(n, dim)``.
        """
        rotated = np.zeros(embeddings.shape, np.float32)
        rotated[:, :dimensions] = embeddings.astype(np.float64) @ self.rotation[:dimensions].T
        return rotated


def gallery_order(moment: Matrix, count: int, spectrum: Sequence[float]) -> GalleryOrder:
    """The order for a gallery.

    Args:
        moment: E[g g^T] of its photos, ``(dim, dim)``; anything if there are none.
        count: number of its photos.
        spectrum: ``(dim,)`` of the model, E[g_i^2] on its training data.
    """
    prior = np.diag(np.asarray(spectrum, np.float64))
    values, vectors = eigh((count * moment + _PRIOR * prior) / (count + _PRIOR))
    return GalleryOrder(vectors[:, ::-1].T.copy(), np.clip(values[::-1], 0, None))


def order_of_photos(photos: NDArray[np.float32], spectrum: Sequence[float]) -> GalleryOrder:
    """The order for ``(n, dim)`` embeddings of photos that fit into memory; see ``gallery_order``."""
    moment = weighted_second_moment(photos, np.full(len(photos), 1 / max(1, len(photos))))
    return gallery_order(moment, len(photos), spectrum)
