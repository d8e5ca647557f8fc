"""Errors of learned modes against a reference: eigenvalues, angles, subspaces and orthogonality."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from scipy.linalg import cholesky, eigh, solve_triangular, svd
from torch import Tensor

from training.operators.jets import Jet, jet
from training.operators.networks import ModeFunctions
from training.operators.objectives import Objective
from training.operators.problem import Array, Points, Problem, Reference

__all__ = ["Accuracy", "Evaluation", "evaluate_modes", "mode_values"]

_CHUNK = 4096


class Accuracy(BaseModel):
    """Errors of L modes against a reference.

    Attributes:
        eigenvalues: Rayleigh quotients of the modes.
        relative_errors: relative errors of the eigenvalues.
        median_error: median of the relative errors.
        largest_error: largest of the relative errors.
        angles: angle between each mode and the exact eigenspace of its level, in degrees.
        subspace_distances: sine of the largest principal angle between the learned and the exact span, for each level.
        overlap: mean absolute cosine between two different modes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    eigenvalues: list[float]
    relative_errors: list[float]
    median_error: float
    largest_error: float
    angles: list[float]
    subspace_distances: list[float]
    overlap: float


class Evaluation(NamedTuple):
    """Errors of the modes as learned, and after a Rayleigh-Ritz step within their span.

    Attributes:
        learned: errors of the modes, in the order in which they were learned.
        ritz: errors of the best linear combinations of them, which solve the L x L eigenvalue problem.
        sign_agreement: agreement in sign ``(L,)`` between each exact mode and the learned one, after rotation within
            its
                level onto the exact modes. It is the share of the exact mode's squared norm where the signs agree.
        aligned: ``(outputs, L)`` matrix for plots. Network outputs, after the constant mode if there is one, times this
                matrix are the learned modes, rotated within each level onto the exact ones.
    """

    learned: Accuracy
    ritz: Accuracy
    sign_agreement: Array
    aligned: Array


class _Moments(NamedTuple):
    """Inner products of functions over the reference's quadrature; rows and columns are functions."""

    operator: Array
    metric: Array
    gram: Array  # inner products under the quadrature's weights
    exact: Array  # inner products with the exact modes, which are the rows


def evaluate_modes(
    problem: Problem, functions: ModeFunctions, objective: Objective, reference: Reference
) -> Evaluation:
    """Compares learned modes with the reference by quadrature, in double precision.

    Args:
        problem: the problem that was solved.
        functions: the trained networks.
        objective: the objective, which defines how modes are read from the outputs.
        reference: the exact modes.

    Raises:
        FloatingPointError: if the functions are not finite.
        LinAlgError: if they are linearly dependent.
    """
    outputs = _moments(problem, functions, reference)
    if not all(np.isfinite(matrix).all() for matrix in outputs):
        raise FloatingPointError("the functions are not finite")
    first = int(problem.constant_mode)
    read_out = objective.read_out(torch.from_numpy(outputs.metric)).numpy().T
    ritz = eigh(outputs.operator, outputs.metric)[1][:, ::-1]
    learned = _combine(outputs, read_out[:, first:])
    aligned = read_out[:, first:] @ _alignment(learned, reference)[0]
    values = mode_values(problem, functions, aligned, reference.points.x.numpy())
    weight = reference.points.weight.numpy()[:, None] * reference.functions**2 / len(values)
    return Evaluation(
        _accuracy(problem, learned, reference),
        _accuracy(problem, _combine(outputs, ritz[:, first:]), reference),
        (weight * (values * reference.functions > 0)).sum(axis=0),
        aligned,
    )


def mode_values(problem: Problem, functions: ModeFunctions, combination: Array, x: Array) -> Array:
    """Evaluates modes at any points.

    Args:
        problem: the problem that was solved.
        functions: the trained networks.
        combination: linear combinations ``(outputs, L)`` of the outputs, such as ``Evaluation.aligned``.
        x: points ``(n, dimensions)``.

    Returns:
        The values, ``(n, L)``.
    """
    with torch.no_grad():
        values = copy.deepcopy(functions).double()(torch.from_numpy(x)).numpy()
    if problem.constant_mode:
        values = np.concatenate([np.ones((len(values), 1)), values], axis=1)
    modes: Array = values @ combination
    return modes


def _moments(problem: Problem, functions: ModeFunctions, reference: Reference) -> _Moments:
    precise = copy.deepcopy(functions).double()
    exact = torch.from_numpy(reference.functions)
    total = len(exact)
    sums: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, total, _CHUNK):
            part = slice(start, start + _CHUNK)
            points = Points(reference.points.x[part], reference.points.weight[part])
            values = jet(precise, points.x)
            if problem.constant_mode:
                values = values.with_constant()
            sums.append(_products(problem, values, points, exact[part]) * (len(points.x) / total))
    operator, metric, gram, projection = torch.stack(sums).sum(dim=0).numpy()
    return _Moments(operator, metric, gram, projection[: problem.modes])


def _products(problem: Problem, values: Jet, points: Points, exact: Tensor) -> Tensor:
    """The four matrices of ``_Moments``, ``(4, outputs, outputs)``; rows after the exact modes are zero."""
    forms = problem.forms(points)
    weighted = values.value * points.weight[:, None]
    projection = torch.zeros(values.value.shape[1], values.value.shape[1], dtype=torch.float64)
    projection[: exact.shape[1]] = exact.T @ weighted / len(exact)
    gram = values.value.T @ weighted / len(exact)
    return torch.stack([forms.operator.matrix(values, values), forms.metric.matrix(values, values), gram, projection])


def _combine(moments: _Moments, combination: Array) -> _Moments:
    """Moments of linear combinations ``(outputs, L)`` of the functions."""
    operator, metric, gram = (combination.T @ matrix @ combination for matrix in moments[:3])
    return _Moments(operator, metric, gram, moments.exact @ combination)


def _accuracy(problem: Problem, moments: _Moments, reference: Reference) -> Accuracy:
    lengths = np.sqrt(moments.gram.diagonal())
    eigenvalues = problem.eigenvalues(moments.operator.diagonal() / moments.metric.diagonal())
    errors = np.abs(eigenvalues / reference.eigenvalues - 1)
    cosines = np.abs(moments.gram / lengths / lengths[:, None])
    modes = len(lengths)
    angles = [
        np.degrees(np.arccos(min(1.0, np.linalg.norm(moments.exact[level, mode]) / lengths[mode])))
        for level in reference.levels
        for mode in range(level.start, level.stop)
    ]
    return Accuracy(
        eigenvalues=eigenvalues.tolist(),
        relative_errors=errors.tolist(),
        median_error=float(np.median(errors)),
        largest_error=float(errors.max()),
        angles=[float(angle) for angle in angles],
        subspace_distances=_alignment(moments, reference)[1],
        overlap=float((cosines.sum() - np.trace(cosines)) / max(1, modes * (modes - 1))),
    )


def _alignment(moments: _Moments, reference: Reference) -> tuple[Array, list[float]]:
    """The ``(L, L)`` matrix that rotates each level's modes onto the exact, orthonormal ones; and the distances."""
    turn = np.zeros_like(moments.gram)
    distances = []
    for level in reference.levels:
        factor = cholesky(moments.gram[level, level], lower=True)
        cosines = solve_triangular(factor, moments.exact[level, level].T, lower=True)  # orthonormal learned x exact
        left, values, right = svd(cosines)
        turn[level, level] = solve_triangular(factor, left @ right, lower=True, trans="T")
        distances.append(float(np.sqrt(1 - min(1.0, values.min()) ** 2)))
    return turn, distances
