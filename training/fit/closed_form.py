"""The linear case in closed form: regularised canonical correlation analysis of backbone features.

With linear f and g the minimum of the objective is the SVD of (C_x + r I)^{-1/2} C_xy (C_y + r I)^{-1/2}.
It takes seconds, is a strong baseline on small data, and initialises the trained heads.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, qr, svd
from scipy.sparse import csc_array, csr_array

__all__ = ["LinearMaps", "Moments", "feature_moments", "solve", "solve_shared"]

Matrix = NDArray[np.float64]

_ROWS = 8192  # images whose features are in double precision at once


class Eigenpairs(NamedTuple):
    """A covariance C by its eigenvectors: ``values`` ``(rank,)`` and ``vectors`` ``(features, rank)``."""

    values: Matrix
    vectors: Matrix

    def whitening(self, ridge: float) -> Matrix:
        """(C + r I)^{-1/2} in the basis of the eigenvectors, ``(rank,)``; r is ``ridge`` mean eigenvalues."""
        shift = max(ridge, 1e-9) * self.values.sum() / len(self.vectors)
        return np.asarray(1 / np.sqrt(self.values + shift))


@dataclass(frozen=True)
class Covariance:
    """A covariance C.

    Attributes:
        matrix: C itself, ``(features, features)``, or R with C = R R^T and fewer columns.
        is_factor: whether it is R.
    """

    matrix: Matrix
    is_factor: bool = False

    @cached_property
    def eigenpairs(self) -> Eigenpairs:
        """The eigendecomposition, which takes longer than all the rest and is therefore computed when it is needed."""
        if self.is_factor:
            vectors, lengths, _ = svd(self.matrix, full_matrices=False)
            return Eigenpairs(lengths**2, vectors)
        values, vectors = eigh(self.matrix)
        return Eigenpairs(np.clip(values, 0, None), vectors)

    def pooled_with(self, other: "Covariance") -> "Covariance":
        """The mean of both covariances."""
        if self.is_factor and other.is_factor and self.matrix.shape[1] + other.matrix.shape[1] < len(self.matrix):
            return Covariance(np.hstack([self.matrix, other.matrix]) / np.sqrt(2), is_factor=True)
        return Covariance((self._product() + other._product()) / 2)

    def _product(self) -> Matrix:
        return np.asarray(self.matrix @ self.matrix.T) if self.is_factor else self.matrix


@dataclass(frozen=True)
class Moments:
    """Centred second moments of the features under the model p(x, y) = sum_g p(g) p(x|g) p(y|g).

    Attributes:
        mean_x: E[x], ``(features,)``.
        mean_y: E[y], ``(features,)``.
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

    @cached_property
    def pooled(self) -> Eigenpairs:
        """The mean of both covariances."""
        return self.x.pooled_with(self.y).eigenpairs

    @cached_property
    def pooled_cross(self) -> Matrix:
        """The symmetric part of the cross-covariance in the basis of ``pooled``, ``(rank, rank)``."""
        cross, vectors = self.groups_x.T @ self.groups_y, self.pooled.vectors
        return np.asarray(vectors.T @ ((cross + cross.T) / 2) @ vectors)


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
    """Second moments of features, with sketch and photo independent given their group.

    Args:
        x: features of the sketches, ``(sketches, features)``.
        y: features of the photos, ``(photos, features)``.
        incidence_x: p(x|g), ``(groups, sketches)``.
        incidence_y: p(y|g), ``(groups, photos)``.
        weights: p(g), ``(groups,)``.
    """
    mean_x, covariance_x, groups_x = _marginal(x, incidence_x, weights)
    mean_y, covariance_y, groups_y = _marginal(y, incidence_y, weights)
    return Moments(mean_x, mean_y, covariance_x, covariance_y, groups_x, groups_y)


def solve(moments: Moments, dim: int, ridge: float) -> LinearMaps:
    """Solves for separate maps of the two modalities.

    The cross-covariance has no more rank than there are groups, so its SVD is taken in the groups' span.

    Args:
        moments: second moments of the features.
        dim: number of modes wanted; fewer are returned if the data has fewer.
        ridge: r in units of the mean eigenvalue of each covariance.
    """
    x, y = moments.x.eigenpairs, moments.y.eigenpairs
    white_x, white_y = x.whitening(ridge), y.whitening(ridge)
    basis_x, upper_x = qr((moments.groups_x @ x.vectors * white_x).T, mode="economic")
    basis_y, upper_y = qr((moments.groups_y @ y.vectors * white_y).T, mode="economic")
    left, spectrum, right = svd(upper_x @ upper_y.T)
    rank = min(dim, len(moments.groups_x) - 1, int((spectrum > 1e-9 * spectrum[0]).sum()))
    root = np.sqrt(spectrum[:rank, None])
    return LinearMaps(
        root * ((basis_x @ left[:, :rank]).T * white_x) @ x.vectors.T,
        root * ((basis_y @ right[:rank].T).T * white_y) @ y.vectors.T,
        spectrum[:rank],
    )


def solve_shared(moments: Moments, dim: int, ridge: float) -> LinearMaps:
    """Solves for one map of both modalities, from pooled covariances and the symmetric part of the cross-covariance.

    Args:
        moments: second moments of the features.
        dim: number of modes wanted; fewer are returned if the data has fewer.
        ridge: r in units of the mean eigenvalue of the pooled covariance.
    """
    white = moments.pooled.whitening(ridge)
    count = min(dim, len(moments.groups_x) - 1, len(white))
    cross = white[:, None] * moments.pooled_cross * white
    values, vectors = eigh(cross, subset_by_index=(len(white) - count, len(white) - 1))
    rank = int((values > 1e-9 * values[-1]).sum())
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    weight = np.sqrt(values)[:, None] * (vectors.T * white) @ moments.pooled.vectors.T
    return LinearMaps(weight, weight, values)


def _marginal(
    features: NDArray[np.float32], incidence: csr_array, weights: Matrix
) -> tuple[Matrix, Covariance, Matrix]:
    """Mean, covariance and weighted centred group means; in double precision, a block of rows at a time."""
    probabilities, count, width = weights @ incidence, len(features), features.shape[1]
    blocks = [slice(start, start + _ROWS) for start in range(0, count, _ROWS)]
    mean = sum((probabilities[rows] @ features[rows].astype(np.float64) for rows in blocks), np.zeros(width))
    columns, groups = csc_array(incidence), np.zeros((len(weights), width))
    moment, factors = np.zeros((width, width)), []
    for rows in blocks:
        values = features[rows] - mean
        groups += columns[:, rows] @ values
        values *= np.sqrt(probabilities[rows, None])
        if count < width:
            factors.append(values)
        else:
            moment += values.T @ values
    covariance = Covariance(np.concatenate(factors).T, is_factor=True) if factors else Covariance(moment)
    return mean, covariance, np.sqrt(weights)[:, None] * groups
