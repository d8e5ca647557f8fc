"""NestedLoRA: low-rank approximation of an operator, nested over all ranks (Ryu et al., ICML 2024).

For functions ``f_i`` of x and ``g_i`` of y the low-rank objective of rank l is

    L(f_{1:l}, g_{1:l}) = -2 sum_{i<=l} E_{p(x,y)}[f_i g_i] + sum_{i,j<=l} E_{p(x)}[f_i f_j] E_{p(y)}[g_i g_j]

and nesting minimises it for every l at once. Everything here is a function of three moments, so the
same code serves paired encoders (SVD), self-adjoint operators (EVD: ``cross_i = <f_i, T f_i>``, the two
second moments from independent halves of a batch) and moments reduced over several processes.
"""

from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "NestedLoRALoss",
    "Nesting",
    "NestingWeights",
    "SelfAdjointLoss",
    "class_means",
    "cross_moment",
    "low_rank_objective",
    "nesting_weights",
    "second_moment",
    "with_constant_mode",
]


class Nesting(StrEnum):
    """How the objectives of all ranks are combined.

    ``joint``: their weighted sum, for networks whose modes share parameters.
    ``sequential``: mode i follows the gradient of rank i with the lower modes held fixed.
    ``none``: rank L alone, whose minimum spans the same subspace but leaves it unordered.
    """

    JOINT = "joint"
    SEQUENTIAL = "sequential"
    NONE = "none"


class NestingWeights(NamedTuple):
    """Weights of the two terms of the nested objective.

    Attributes:
        vector: m_i, ``(dim,)``.
        matrix: M_ij, ``(dim, dim)``.
    """

    vector: Tensor
    matrix: Tensor


def nesting_weights(dim: int, nesting: Nesting = Nesting.JOINT, *, step: int = 1) -> NestingWeights:
    """Weights m_i = sum_{l >= i} w_l and M_ij = min(m_i, m_j) of the nested objective.

    Joint nesting gives equal weights w to the ranks ``step, 2 step, ..., dim``, scaled so that m_1 = 1.
    The other two need no weights: all are one.

    Args:
        dim: number of modes L.
        nesting: how ranks are nested.
        step: distance between nested ranks.

    Raises:
        ValueError: if ``dim`` or ``step`` is not positive.
    """
    if dim < 1 or step < 1:
        raise ValueError(f"dim and step must be positive, not {dim} and {step}")
    if nesting is not Nesting.JOINT:
        vector = torch.ones(dim)
    else:
        ranks = torch.tensor(sorted({*range(step, dim + 1, step), dim}))
        vector = (ranks[None, :] > torch.arange(dim)[:, None]).float().mean(dim=1)
    return NestingWeights(vector, torch.minimum(vector[:, None], vector[None, :]))


def with_constant_mode(weights: NestingWeights) -> NestingWeights:
    """Prepends the constant mode f_0 = g_0 = 1 with weight m_0 = m_1, which centres the learned modes."""
    vector = torch.cat([weights.vector[:1], weights.vector])
    return NestingWeights(vector, torch.minimum(vector[:, None], vector[None, :]))


def cross_moment(f: Tensor, g: Tensor) -> Tensor:
    """E[f_i g_i] over paired rows.

    Args:
        f: ``(batch, dim)``.
        g: ``(batch, dim)``, row by row the partner of ``f``.

    Returns:
        ``(dim,)``.
    """
    return (f * g).mean(dim=0)


def second_moment(f: Tensor, nesting: Nesting = Nesting.JOINT) -> Tensor:
    """E[f_i f_j], with the gradient through the lower mode stopped when nesting is sequential.

    Args:
        f: ``(batch, dim)``.
        nesting: only ``sequential`` changes anything, and only the gradient.

    Returns:
        ``(dim, dim)``, symmetric.
    """
    if nesting is not Nesting.SEQUENTIAL:
        return f.T @ f / len(f)
    lower = torch.tril(f.T @ f.detach() / len(f), diagonal=-1)
    return lower + lower.T + torch.diag((f * f).mean(dim=0))


def class_means(f: Tensor, labels: Tensor) -> Tensor:
    """Mean of each class present, in ascending order of label.

    When x and y are independent given the class, every same-class pair of a batch is a sample of
    p(x, y): E[f g] is then estimated from class means with lower variance than from aligned rows.

    Args:
        f: ``(batch, dim)``.
        labels: ``(batch,)`` integers.

    Returns:
        ``(classes, dim)``.

    Raises:
        TypeError: if the labels are not a tensor.
        ValueError: if they are not one integer for each row.
    """
    _check_labels(labels, len(f))
    _, positions, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    sums = f.new_zeros(len(counts), f.shape[1]).index_add(0, positions, f)
    means: Tensor = sums / counts[:, None]
    return means


def low_rank_objective(cross: Tensor, moment_f: Tensor, moment_g: Tensor, weights: NestingWeights) -> Tensor:
    """Weighted low-rank objective, -2 sum_i m_i cross_i + sum_ij M_ij A_ij B_ij.

    Its minimum over all functions is minus the (weighted) sum of squared singular values.

    Args:
        cross: ``(dim,)``, E_{p(x,y)}[f_i g_i] (or <f_i, T f_i>).
        moment_f: ``(dim, dim)``, A = E_{p(x)}[f f^T].
        moment_g: ``(dim, dim)``, B = E_{p(y)}[g g^T].
        weights: of ``nesting_weights``.

    Returns:
        Scalar.
    """
    return (weights.matrix * moment_f * moment_g).sum() - 2 * weights.vector @ cross


class _NestedObjective(nn.Module):
    """The weighted low-rank objective, its weights kept as buffers.

    Args:
        dim: number of modes L.
        nesting: how ranks are nested.
        step: distance between nested ranks of joint nesting.
        constant_mode: whether the constant function is mode 0, known and never trained.
    """

    vector: Tensor
    matrix: Tensor

    def __init__(
        self, dim: int, nesting: Nesting = Nesting.JOINT, *, step: int = 1, constant_mode: bool = True
    ) -> None:
        super().__init__()
        self.nesting = Nesting(nesting)
        self.constant_mode = constant_mode
        weights = nesting_weights(dim, self.nesting, step=step)
        if constant_mode:
            weights = with_constant_mode(weights)
        self.register_buffer("vector", weights.vector, persistent=False)
        self.register_buffer("matrix", weights.matrix, persistent=False)

    def _objective(self, cross: Tensor, f: Tensor, g: Tensor) -> Tensor:
        """Objective of E[f_i g_i] ``(dim,)`` and samples of either second moment, ``(n, dim)`` and ``(m, dim)``."""
        return low_rank_objective(
            cross,
            second_moment(f, self.nesting),
            second_moment(g, self.nesting),
            NestingWeights(self.vector.to(f.dtype), self.matrix.to(f.dtype)),
        )


class NestedLoRALoss(_NestedObjective):
    """NestedLoRA of the conditional expectation operator from a batch of pairs.

    Minimising it orders the coordinates of both encoders by singular value, most significant first. It needs no
    negative pairs and no temperature.

    The first term of a batch of B pairs is unbiased. The second is not quite, since both second moments come from the
    same pairs: its expectation has (1 - 1/B) A_ij B_ij + (1/B) E_{p(x,y)}[f_i f_j g_i g_j] in place of A_ij B_ij. This
    difference of O(1/B) counts the score of a pair with itself once more, and shrinks the modes a little in small
    batches. ``SelfAdjointLoss`` shows how independent halves avoid it.

    The loss is computed in single precision at least, even under autocast or with embeddings in half precision.

    Args:
        dim: number of modes L.
        nesting: how ranks are nested.
        step: distance between nested ranks of joint nesting.
        constant_mode: whether the constant function is mode 0, known and never trained.

    Example:
        >>> encode_x, encode_y = nn.Linear(8, 4), nn.Linear(6, 4)
        >>> x, y = torch.randn(32, 8), torch.randn(32, 6)  # paired row by row
        >>> loss = NestedLoRALoss(dim=4)(encode_x(x), encode_y(y))
        >>> loss.backward()
        >>> loss.shape, encode_x.weight.grad.shape
        (torch.Size([]), torch.Size([4, 8]))
    """

    def forward(self, f: Tensor, g: Tensor, labels: Tensor | None = None) -> Tensor:
        """Loss of one batch.

        Args:
            f: ``(batch, dim)`` embeddings of x.
            g: ``(batch, dim)`` embeddings of y, paired row by row with ``f``.
            labels: ``(batch,)`` integers, the class of each pair; when given, all same-class pairs are used.

        Returns:
            Scalar.

        Raises:
            TypeError: if the labels are not a tensor.
            ValueError: if the shapes differ from each other or from ``dim``, or the labels are not integers.
        """
        modes = len(self.vector) - self.constant_mode
        if f.shape != g.shape or f.ndim != 2 or f.shape[1] != modes:
            raise ValueError(f"f and g must both be (batch, {modes}), not {tuple(f.shape)} and {tuple(g.shape)}")
        with torch.autocast(f.device.type, enabled=False):
            f, g = _full_precision(f, g)
            if self.constant_mode:
                f, g = (torch.cat([z.new_ones(len(z), 1), z], dim=1) for z in (f, g))
            return self._objective(_cross_moment_of(f, g, labels), f, g)


class SelfAdjointLoss(_NestedObjective):
    """NestedLoRA of a self-adjoint operator T, where f = g: its minimum is the leading eigenfunctions.

    The product of two expectations of the same function is estimated without bias only from independent
    samples, hence two halves of a batch.

    Args:
        dim: number of modes L.
        nesting: how ranks are nested.
        step: distance between nested ranks of joint nesting.
        constant_mode: whether the first mode of the arguments is the constant function, known and never trained.

    Example:
        The two leading eigenvectors of a diagonal matrix T; f has the length of the root of its eigenvalue.

        >>> operator = torch.diag(torch.tensor([9.0, 4.0, 1.0]))
        >>> loss = SelfAdjointLoss(dim=2, constant_mode=False)
        >>> f = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])  # columns are modes
        >>> rows = 3**0.5 * f  # so that the second moment over 3 rows is f.T @ f
        >>> round(float(loss((f * (operator @ f)).sum(dim=0), rows, rows)), 3)  # minus 9**2 + 4**2 / 2
        -89.0
    """

    def forward(self, cross: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Loss of one batch.

        Args:
            cross: ``(modes,)``, an estimate of <f_i, T f_i>; modes = dim, plus one with a constant mode.
            first: ``(n, modes)``, rows whose second moment estimates <f_i, f_j>.
            second: ``(m, modes)``, such rows from samples independent of the first.

        Returns:
            Scalar.

        Raises:
            ValueError: if the shapes do not fit each other or ``dim``.
        """
        modes = len(self.vector)
        if cross.shape != (modes,) or first.shape[1:] != (modes,) or second.shape[1:] != (modes,):
            raise ValueError(
                f"cross must be ({modes},) and both samples (n, {modes}), "
                f"not {tuple(cross.shape)}, {tuple(first.shape)} and {tuple(second.shape)}"
            )
        with torch.autocast(first.device.type, enabled=False):
            return self._objective(*_full_precision(cross, first, second))


def _cross_moment_of(f: Tensor, g: Tensor, labels: Tensor | None) -> Tensor:
    """E[f_i g_i] ``(dim,)`` over the rows, or over all pairs of the same class."""
    if labels is None:
        return cross_moment(f, g)
    means_f, means_g = class_means(f, labels), class_means(g, labels)  # they check the labels
    _, counts = torch.unique(labels, return_counts=True)
    cross: Tensor = (counts[:, None] * means_f * means_g).sum(dim=0) / len(f)
    return cross


def _full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the widest of their precisions, single at least: sums of squares overflow in half precision."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _check_labels(labels: Tensor, count: int) -> None:
    if not isinstance(labels, Tensor):
        kind = type(labels).__name__
        raise TypeError(f"labels must be a tensor of integers, not {kind}; use torch.as_tensor(labels)")
    if labels.shape != (count,) or labels.is_floating_point() or labels.is_complex():
        kind = str(labels.dtype).removeprefix("torch.")
        raise ValueError(f"labels must be ({count},) integers, not {tuple(labels.shape)} of {kind}")
