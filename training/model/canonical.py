"""The canonical form: any learned pair of embeddings, put in order of singular value without changing a score."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, svd

from training.base.row_blocks import row_blocks

__all__ = ["CanonicalForm", "canonical_form", "weighted_second_moment"]

Matrix = NDArray[np.float64]

_FLOOR = 1e-7  # relative to the mean eigenvalue; keeps the transformation invertible and therefore lossless


class CanonicalForm(NamedTuple):
    """The linear maps to canonical form: f' = transform_f f and g' = transform_g g, with f'^T g' = f^T g.

    Attributes:
        transform_f: map of the sketch embedding, ``(dim, dim)``.
        transform_g: map of the photo embedding, ``(dim, dim)``.
        spectrum: ``(dim,)``, E[f'_i^2] = E[g'_i^2], descending: the learned singular values.
    """

    transform_f: Matrix
    transform_g: Matrix
    spectrum: Matrix


def weighted_second_moment(embeddings: NDArray[np.float32], weights: Matrix) -> Matrix:
    """Computes the second moment E[f f^T] = sum_n p_n f_n f_n^T.

    Args:
        embeddings: embeddings f, ``(n, dim)``.
        weights: probabilities p, ``(n,)``.

    Returns:
        The second moment, ``(dim, dim)``.
    """
    moment = np.zeros((embeddings.shape[1], embeddings.shape[1]))
    for rows in row_blocks(len(embeddings)):
        values = embeddings[rows].astype(np.float64)
        moment += (values * weights[rows, None]).T @ values
    return moment


def canonical_form(moment_f: Matrix, moment_g: Matrix, floor: float = _FLOOR) -> CanonicalForm:
    """Computes the canonical form from the second moments of both embeddings.

    With the singular value decomposition U S V^T = A^{1/2} B^{1/2}, it is f' = S^{1/2} U^T A^{-1/2} f and g' = S^{1/2}
    V^T B^{-1/2} g.

    Args:
        moment_f: second moment A = E[f f^T], ``(dim, dim)``.
        moment_g: second moment B = E[g g^T], ``(dim, dim)``.
        floor: least eigenvalue of a moment, relative to the mean of its eigenvalues; smaller ones are raised to it.

    Example:
        Scores do not change, and both second moments become the diagonal matrix of the spectrum.

        >>> form = canonical_form(np.diag([1.0, 4.0]), np.diag([1.0, 4.0]))
        >>> form.spectrum.round(6)
        array([4., 1.])
        >>> np.abs(form.transform_f @ np.diag([1.0, 4.0]) @ form.transform_f.T).round(6)
        array([[4., 0.],
               [0., 1.]])
    """
    root_f, inverse_f = _roots(moment_f, floor)
    root_g, inverse_g = _roots(moment_g, floor)
    left, spectrum, right = svd(root_f @ root_g)
    scale = np.sqrt(spectrum)[:, None]
    return CanonicalForm(scale * (left.T @ inverse_f), scale * (right @ inverse_g), spectrum)


def _roots(moment: Matrix, floor: float) -> tuple[Matrix, Matrix]:
    """Square root and inverse square root of a positive semi-definite matrix."""
    values, vectors = eigh(moment)
    values = np.sqrt(np.clip(values, floor * max(values.mean(), 1e-30), None))
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T
