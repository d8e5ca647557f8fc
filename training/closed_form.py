"""The linear case in closed form: regularised canonical correlation analysis of backbone features.

With linear f and g the minimum of the objective is the SVD of (C_x + r I)^{-1/2} C_xy (C_y + r I)^{-1/2}.
It takes seconds, is a strong baseline on small data, and initialises the trained heads.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, qr, svd
from scipy.sparse import csr_array

__all__ = ["LinearMaps", "Moments", "feature_moments", "solve", "solve_shared"]

Matrix = NDArray[np.float64]


class Covariance(NamedTuple):
    """A covariance by its eigenvectors: ``values`` ``(rank,)`` and ``vectors`` ``(features, rank)``."""

    values: Matrix
    vectors: Matrix


class Moments(NamedTuple):
    """Centred second moments of the features under the model p(x, y) = sum_g p(g) p(x|g) p(y|g).

    Attributes:
        mean_x: ``(features,)``.
        mean_y: ``(features,)``.
        x: covariance of x.
        y: covariance of y.
        groups_x: ``(groups, features)``, E[x|g] times the square root of p(g).
        groups_y: ``(groups, features)``; the cross-covariance is ``groups_x.T @ groups_y``.
    """

    mean_x: Matrix
    mean_y: Matrix
    x: Covariance
    y: Covariance
    groups_x: Matrix
    groups_y: Matrix


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
    return Moments(mean_x, mean_y, covariance_x, covariance_y, groups_x, groups_y)


def solve(moments: Moments, dim: int, ridge: float) -> LinearMaps:
    """Separate maps for the two modalities.

    The cross-covariance has no more rank than there are groups, so its SVD is taken in the groups' span.

    Args:
        moments: of the features.
        dim: modes wanted; fewer come back where the data has no more.
        ridge: r in units of the mean eigenvalue of each covariance.
    """
    basis_x, upper_x = qr(_whiten(moments.groups_x, moments.x, ridge).T, mode="economic")
    basis_y, upper_y = qr(_whiten(moments.groups_y, moments.y, ridge).T, mode="economic")
    left, spectrum, right = svd(upper_x @ upper_y.T)
    rank = min(dim, len(moments.groups_x) - 1, int((spectrum > 1e-9 * spectrum[0]).sum()))
    root = np.sqrt(spectrum[:rank, None])
    return LinearMaps(
        root * _whiten((basis_x @ left[:, :rank]).T, moments.x, ridge),
        root * _whiten((basis_y @ right[:rank].T).T, moments.y, ridge),
        spectrum[:rank],
    )


def solve_shared(moments: Moments, dim: int, ridge: float) -> LinearMaps:
    """One map for both modalities, from pooled covariances and the symmetric part of the cross-covariance.

    Args:
        moments: of the features.
        dim: modes wanted; fewer come back where the data has no more.
        ridge: r in units of the mean eigenvalue of the pooled covariance.
    """
    factors = [part.vectors * np.sqrt(part.values / 2) for part in (moments.x, moments.y)]
    pooled = _eigendecomposition(np.hstack(factors))
    white_x, white_y = (_whiten(groups, pooled, ridge) for groups in (moments.groups_x, moments.groups_y))
    basis = _span(np.vstack([white_x, white_y]))
    if basis is not None:
        white_x, white_y = white_x @ basis, white_y @ basis
    cross = white_x.T @ white_y
    count = min(dim, len(white_x) - 1, len(cross))
    values, vectors = eigh((cross + cross.T) / 2, subset_by_index=(len(cross) - count, len(cross) - 1))
    rank = int((values > 1e-9 * values[-1]).sum())
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    directions = vectors if basis is None else basis @ vectors
    weight = np.sqrt(values)[:, None] * _whiten(directions.T, pooled, ridge)
    return LinearMaps(weight, weight, values)


def _marginal(
    features: NDArray[np.float32], incidence: csr_array, weights: Matrix
) -> tuple[Matrix, Covariance, Matrix]:
    """Mean, covariance and weighted centred group means."""
    values = features.astype(np.float64)
    probabilities = weights @ incidence
    mean = probabilities @ values
    values -= mean
    groups = np.sqrt(weights)[:, None] * (incidence @ values)
    return mean, _eigendecomposition((values * np.sqrt(probabilities)[:, None]).T), groups


def _eigendecomposition(factor: Matrix) -> Covariance:
    """Of ``factor @ factor.T``, by whichever side of ``factor`` is the smaller."""
    if factor.shape[1] < factor.shape[0]:
        vectors, lengths, _ = svd(factor, full_matrices=False)
        return Covariance(lengths**2, vectors)
    values, vectors = eigh(factor @ factor.T)
    return Covariance(np.clip(values, 0, None), vectors)


def _span(rows: Matrix) -> Matrix | None:
    """An orthonormal basis of the rows' span, ``(features, rank)``; None where it is most of the space."""
    if len(rows) >= rows.shape[1]:
        return None
    basis: Matrix = qr(rows.T, mode="economic")[0]
    return basis


def _whiten(rows: Matrix, covariance: Covariance, ridge: float) -> Matrix:
    """Multiplies ``(n, features)`` rows by (C + r I)^{-1/2}."""
    shift = max(ridge, 1e-9) * covariance.values.sum() / rows.shape[1]
    coordinates = rows @ covariance.vectors
    inside = coordinates * (1 / np.sqrt(covariance.values + shift) - 1 / np.sqrt(shift))
    whitened: Matrix = rows / np.sqrt(shift) + inside @ covariance.vectors.T
    return whitened
