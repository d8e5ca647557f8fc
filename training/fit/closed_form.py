"""The linear case in closed form: regularised canonical correlation analysis of backbone features.

With linear f and g the minimum of the objective is the SVD of (C_x + r I)^{-1/2} C_xy (C_y + r I)^{-1/2}.
It takes seconds, is a strong baseline on small data, and initialises the trained heads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, qr, svd
from scipy.sparse import csr_array

from training.base.row_blocks import row_blocks

__all__ = ["LinearMaps", "Moments", "feature_moments", "group_means", "solve", "solve_shared", "weighted_mean"]

Matrix = NDArray[np.float64]

_GROUPS = 1024  # whose means are held at once


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

    def scaled(self, scale: NDArray[np.floating]) -> "Covariance":
        """The covariance of features that are divided by scales, ``(features,)``."""
        matrix = self.matrix / np.asarray(scale, np.float64)[:, None]
        return Covariance(matrix, is_factor=True) if self.is_factor else Covariance(matrix / scale)

    def mapped(self, weight: Matrix) -> Matrix:
        """The covariance ``(dim, dim)`` of the features as a matrix ``(dim, features)`` maps them."""
        mapped = weight @ self.matrix
        return np.asarray(mapped @ (mapped if self.is_factor else weight).T)

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
        cross_x: a factor of the cross-covariance ``cross_x.T @ cross_y``, ``(rank, features)``: E[x|g] times the square
            root of p(g) for each group g; another one where there are more groups than features.
        cross_y: the other factor, ``(rank, features)``.
    """

    mean_x: Matrix
    mean_y: Matrix
    x: Covariance
    y: Covariance
    cross_x: Matrix
    cross_y: Matrix

    @cached_property
    def pooled(self) -> Eigenpairs:
        """The mean of both covariances."""
        return self.x.pooled_with(self.y).eigenpairs

    @cached_property
    def pooled_cross(self) -> Matrix:
        """The symmetric part of the cross-covariance in the basis of ``pooled``, ``(rank, rank)``."""
        cross, vectors = self.cross_x.T @ self.cross_y, self.pooled.vectors
        return np.asarray(vectors.T @ ((cross + cross.T) / 2) @ vectors)

    def scaled(self, scale_x: NDArray[np.floating], scale_y: NDArray[np.floating]) -> "Moments":
        """The moments of features that are divided by scales, ``(features,)`` each."""
        return Moments(
            self.mean_x / scale_x,
            self.mean_y / scale_y,
            self.x.scaled(scale_x),
            self.y.scaled(scale_y),
            self.cross_x / scale_x,
            self.cross_y / scale_y,
        )


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
    mean_x, covariance_x = _marginal(x, weights @ incidence_x)
    mean_y, covariance_y = _marginal(y, weights @ incidence_y)

    def factors() -> Iterator[tuple[Matrix, Matrix]]:
        for rows in row_blocks(len(weights), _GROUPS):
            roots = np.sqrt(weights[rows, None])
            yield (
                roots * (group_means(x, incidence_x[rows]) - mean_x),
                roots * (group_means(y, incidence_y[rows]) - mean_y),
            )

    if len(weights) <= x.shape[1]:
        cross_x, cross_y = (np.concatenate(parts) for parts in zip(*factors(), strict=True))
    else:  # the cross-covariance is the smaller matrix
        cross_x, cross_y = np.eye(x.shape[1]), sum((f.T @ g for f, g in factors()), np.zeros((x.shape[1], y.shape[1])))
    return Moments(mean_x, mean_y, covariance_x, covariance_y, cross_x, cross_y)


def group_means(values: NDArray[np.float32], incidence: csr_array) -> Matrix:
    """The mean of each group in double precision, a block of its members at a time.

    Args:
        values: of all images, ``(images, features)``.
        incidence: the probability of each image given the group, ``(groups, images)``.

    Returns:
        ``(groups, features)``.
    """
    groups = np.repeat(np.arange(incidence.shape[0]), np.diff(incidence.indptr))
    means = np.zeros((incidence.shape[0], values.shape[1]))
    for some in row_blocks(incidence.nnz):
        members = values[incidence.indices[some]].astype(np.float64)
        places = (groups[some], np.arange(len(members)))
        means += csr_array((incidence.data[some], places), shape=(len(means), len(members))) @ members
    return means


def weighted_mean(values: NDArray[np.float32], probabilities: Matrix) -> Matrix:
    """The mean ``(features,)`` of ``(images, features)`` by their probabilities, in double precision."""
    blocks = row_blocks(len(values))
    return sum((probabilities[rows] @ values[rows].astype(np.float64) for rows in blocks), np.zeros(values.shape[1]))


def solve(moments: Moments, dim: int, ridge: float) -> LinearMaps:
    """Solves for separate maps of the two modalities.

    The cross-covariance has no more rank than its factors have rows, so its SVD is taken in their span.

    Args:
        moments: second moments of the features.
        dim: number of modes wanted; fewer are returned if the data has fewer.
        ridge: r in units of the mean eigenvalue of each covariance.
    """
    x, y = moments.x.eigenpairs, moments.y.eigenpairs
    white_x, white_y = x.whitening(ridge), y.whitening(ridge)
    basis_x, upper_x = qr((moments.cross_x @ x.vectors * white_x).T, mode="economic")
    basis_y, upper_y = qr((moments.cross_y @ y.vectors * white_y).T, mode="economic")
    left, spectrum, right = svd(upper_x @ upper_y.T)
    rank = min(dim, int((spectrum > 1e-9 * spectrum[0]).sum()))
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
    count = min(dim, len(moments.cross_x), len(white))
    cross = white[:, None] * moments.pooled_cross * white
    values, vectors = eigh(cross, subset_by_index=(len(white) - count, len(white) - 1))
    rank = int((values > 1e-9 * values[-1]).sum())
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    weight = np.sqrt(values)[:, None] * (vectors.T * white) @ moments.pooled.vectors.T
    return LinearMaps(weight, weight, values)


def _marginal(features: NDArray[np.float32], probabilities: Matrix) -> tuple[Matrix, Covariance]:
    """Mean and covariance, in double precision, a block of rows at a time."""
    count, width = features.shape
    mean = weighted_mean(features, probabilities)
    moment, factors = np.zeros((width, width)), []
    for rows in row_blocks(count):
        values = (features[rows] - mean) * np.sqrt(probabilities[rows, None])
        if count < width:
            factors.append(values)
        else:
            moment += values.T @ values
    return mean, Covariance(np.concatenate(factors).T, is_factor=True) if factors else Covariance(moment)
