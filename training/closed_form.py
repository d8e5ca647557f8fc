"""The linear case in closed form: regularised canonical correlation analysis of backbone features.

With linear f and g the minimum of the objective is the SVD of (C_x + r I)^{-1/2} C_xy (C_y + r I)^{-1/2}.
It takes seconds, is a strong baseline on small data, and initialises the trained heads.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, svd
from scipy.sparse import csr_array

__all__ = ["LinearMaps", "Moments", "feature_moments", "solve", "solve_shared"]

Matrix = NDArray[np.float64]


class Moments(NamedTuple):
    """Centred second moments of the features under the model p(x, y) = sum_g p(g) p(x|g) p(y|g).

    Attributes:
        mean_x: ``(features,)``.
        mean_y: ``(features,)``.
        x: ``(features, features)``, covariance of x.
        y: ``(features, features)``, covariance of y.
        xy: ``(features, features)``, cross-covariance.
        groups: number of groups; the rank of ``xy`` is at most one less.
    """

    mean_x: Matrix
    mean_y: Matrix
    x: Matrix
    y: Matrix
    xy: Matrix
    groups: int


class LinearMaps(NamedTuple):
    """f(x) = weight_x (x - mean_x) and g(y) = weight_y (y - mean_y).

    Attributes:
        weight_x: ``(dim, features)``.
        weight_y: ``(dim, features)``.
        spectrum: ``(dim,)`` singular values, descending.
    """

    weight_x: Matrix
    weight_y: Matrix
    spectrum: Matrix


def feature_moments(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    incidence_x: csr_array,
    incidence_y: csr_array,
    weights: Matrix,
) -> Moments:
    """Moments of features under group-wise independence.

    Args:
        x: ``(sketches, features)``.
        y: ``(photos, features)``.
        incidence_x: p(x|g), ``(groups, sketches)``.
        incidence_y: p(y|g), ``(groups, photos)``.
        weights: p(g), ``(groups,)``.
    """
    mean_x, covariance_x, groups_x = _marginal(x, incidence_x, weights)
    mean_y, covariance_y, groups_y = _marginal(y, incidence_y, weights)
    cross = (groups_x * weights[:, None]).T @ groups_y
    return Moments(mean_x, mean_y, covariance_x, covariance_y, cross, len(weights))


def solve(moments: Moments, dim: int, ridge: float) -> LinearMaps:
    """Separate maps for the two modalities.

    Args:
        moments: of the features.
        dim: modes wanted; fewer come back where the data has no more.
        ridge: r in units of the mean eigenvalue of each covariance.
    """
    inverse_x = _inverse_root(moments.x, ridge)
    inverse_y = _inverse_root(moments.y, ridge)
    left, spectrum, right = svd(inverse_x @ moments.xy @ inverse_y, lapack_driver="gesdd")
    rank = min(dim, moments.groups - 1, int((spectrum > 1e-9 * spectrum[0]).sum()))
    root = np.sqrt(spectrum[:rank, None])
    return LinearMaps(root * (left[:, :rank].T @ inverse_x), root * (right[:rank] @ inverse_y), spectrum[:rank])


def solve_shared(moments: Moments, dim: int, ridge: float) -> LinearMaps:
    """One map for both modalities, from pooled covariances and the symmetric part of C_xy.

    Args:
        moments: of the features.
        dim: modes wanted; fewer come back where the data has no more.
        ridge: r in units of the mean eigenvalue of the pooled covariance.
    """
    inverse = _inverse_root((moments.x + moments.y) / 2, ridge)
    values, vectors = eigh(inverse @ (moments.xy + moments.xy.T) @ inverse / 2)
    order = np.argsort(values)[::-1]
    rank = min(dim, moments.groups - 1, int((values > 1e-9 * values.max()).sum()))
    kept = order[:rank]
    weight = np.sqrt(values[kept, None]) * (vectors[:, kept].T @ inverse)
    return LinearMaps(weight, weight, values[kept])


def _marginal(features: NDArray[np.float32], incidence: csr_array, weights: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Mean, covariance and centred group means."""
    values = features.astype(np.float64)
    probabilities = weights @ incidence
    mean = probabilities @ values
    values -= mean
    covariance = (values * probabilities[:, None]).T @ values
    return mean, covariance, incidence @ values


def _inverse_root(covariance: Matrix, ridge: float) -> Matrix:
    values, vectors = eigh(covariance)
    values = np.clip(values, 0, None)
    root: Matrix = (vectors / np.sqrt(values + max(ridge, 1e-9) * values.mean())) @ vectors.T
    return root
