"""The objectives that networks minimise: NestedLoRA, and two other neural methods for comparison.

All of them take the same jets and quadratic forms of T, so that methods differ in the objective only. A column that
holds the constant mode has no parameters; it takes part like a mode that has been found already.
"""

from enum import StrEnum

import torch
from torch import Tensor, nn

from training.fit.losses import Nesting, SelfAdjointLoss
from training.operators.jets import Jet
from training.operators.problem import Forms, Problem

__all__ = ["Method", "NestedLoRA", "NeuralEigenfunctions", "Objective", "SpIN", "build_objective"]


class Method(StrEnum):
    """The method by which modes are learned."""

    NESTED_LORA = "nested-lora"
    SPIN = "spin"
    NEURAL_EF = "neural-ef"


class Objective(nn.Module):
    """Maps functions at a batch of points to a loss."""

    def forward(self, jet: Jet, forms: Forms) -> Tensor:
        """Computes the loss of a batch whose first and second halves are independent samples."""
        raise NotImplementedError

    def read_out(self, metric: Tensor) -> Tensor:
        """Returns the linear map ``(modes, modes)`` from network outputs to modes, given <f_i, f_j>."""
        return torch.eye(len(metric), dtype=metric.dtype)


class NestedLoRA(Objective):
    """The objective of ``training.fit.losses``; outputs are modes times the square roots of their eigenvalues.

    Args:
        problem: the problem to solve.
        nesting: how ranks are nested.
    """

    def __init__(self, problem: Problem, nesting: Nesting) -> None:
        super().__init__()
        self.loss = SelfAdjointLoss(problem.modes, nesting, constant_mode=problem.constant_mode)

    def forward(self, jet: Jet, forms: Forms) -> Tensor:
        """-2 sum_i m_i <f_i, T f_i> + sum_ij M_ij <f_i, f_j>'; two halves of the batch give an unbiased square."""
        middle = len(jet.value) // 2
        halves = (slice(None, middle), slice(middle, None))
        first, second = (forms.metric.part(half).samples(jet.rows(half)) for half in halves)
        value: Tensor = self.loss(forms.operator.diagonal(jet), first, second)
        return value


class SpIN(Objective):
    """Spectral inference networks (Pfau et al., ICLR 2019, eq. 14): trace(S^-1 P) with masked gradients.

    With S = <u_i, u_j> = C C^T, P = <u_i, T u_j> and A = C^-1 P C^-T, mode i follows the gradient of A_ii while lower
    outputs are fixed. This gradient is C^-T diag(C)^-1 for P and -C^-T triu(A diag(C)^-1) for S. S is a moving average
    over batches. The paper also averages the derivative of S with respect to parameters; here it is that of the batch,
    which the evenly spread samples determine well.

    Args:
        modes: number of outputs, including a constant mode.
        decay: decay of the moving average of S.
    """

    average: Tensor
    steps: Tensor

    def __init__(self, modes: int, decay: float = 0.99) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("average", torch.zeros(modes, modes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, jet: Jet, forms: Forms) -> Tensor:
        """A scalar whose gradient is the masked one; its value is minus the sum of the estimated eigenvalues."""
        fixed = jet.detach()
        operator, metric = forms.operator.matrix(fixed, jet), forms.metric.matrix(fixed, jet)
        with torch.no_grad():
            self.steps += 1
            self.average.lerp_(metric, 1 - min(self._decay, float(self.steps - 1) / float(self.steps)))
            gradient_operator, gradient_metric, value = self._gradients(operator)
        slope = 2 * ((gradient_operator * operator).sum() + (gradient_metric * metric).sum())
        surrogate: Tensor = slope.detach() - slope - value
        return surrogate

    def _gradients(self, operator: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        identity = torch.eye(len(operator), dtype=operator.dtype)
        factor = _factor(self.average + 1e-6 * self.average.diagonal().mean() * identity)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        scale = torch.diag(1 / factor.diagonal())
        eigenvalues = inverse @ (operator + operator.T) / 2 @ inverse.T
        return inverse.T @ scale, -inverse.T @ torch.triu(eigenvalues @ scale), eigenvalues.trace()

    def read_out(self, metric: Tensor) -> Tensor:
        """Returns C^-1, which makes the outputs orthonormal in order."""
        inverse: Tensor = torch.linalg.inv(_factor(metric))
        return inverse


class NeuralEigenfunctions(Objective):
    """NeuralEF (Deng et al., ICML 2022): maximises R_ii - sum_{j<i} R_ij^2 / R_jj with lower modes fixed.

    R_ij = <f_i, T f_j>, with outputs normalised over the batch. The paper assumes a positive operator. If T is not
    positive, R_jj of an untrained mode may be negative, so it is kept above a floor.

    Args:
        floor: smallest R_jj to divide by.
    """

    def __init__(self, floor: float = 0.01) -> None:
        super().__init__()
        self._floor = floor

    def forward(self, jet: Jet, forms: Forms) -> Tensor:
        """Computes minus the sum of the paper's objectives of all modes."""
        scale = forms.metric.diagonal(jet).rsqrt()
        normalised = Jet(jet.value * scale, jet.gradient * scale)
        products = forms.operator.matrix(normalised, normalised.detach())  # the gradient of row i is that of mode i
        values = products.diagonal().detach().clamp_min(self._floor)
        penalty = (torch.tril(products, diagonal=-1) ** 2 / values).sum()
        return penalty - forms.operator.diagonal(normalised).sum()


def build_objective(method: Method, problem: Problem, nesting: Nesting) -> Objective:
    """Builds the objective of a method for a problem."""
    if method is Method.SPIN:
        return SpIN(problem.modes + problem.constant_mode)
    if method is Method.NEURAL_EF:
        return NeuralEigenfunctions()
    return NestedLoRA(problem, nesting)


def _factor(metric: Tensor) -> Tensor:
    """Computes the Cholesky factor."""
    factor, failed = torch.linalg.cholesky_ex(metric)
    if failed:
        raise FloatingPointError("the outputs are infinite or linearly dependent")
    lower: Tensor = factor
    return lower
