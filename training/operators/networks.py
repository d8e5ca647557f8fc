"""Networks that represent modes: one network for all modes, or one for each mode, evaluated together."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.operators.problem import Problem

__all__ = ["ModeFunctions"]


class ModeFunctions(nn.Module):
    """L functions: an envelope times a multilayer perceptron of features and their random Fourier features.

    Args:
        problem: the problem, which defines features and envelope.
        shared: whether one network has L outputs; otherwise L networks are evaluated as one batch.
        width: width of the hidden layers.
        depth: number of hidden layers.
        fourier: number of random frequencies; each adds a sine and a cosine.
        fourier_scale: standard deviation of the frequencies.
        seed: random seed of the initial parameters.
    """

    frequencies: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        shared: bool,
        width: int = 32,
        depth: int = 3,
        fourier: int = 16,
        fourier_scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        inputs = problem.features(torch.ones(1, problem.dimensions)).shape[1]
        networks, outputs = (1, problem.modes) if shared else (problem.modes, 1)
        widths = [inputs + 2 * fourier, *[width] * depth, outputs]
        self._features: Callable[[Tensor], Tensor] = problem.features
        self._envelope: Callable[[Tensor], Tensor] = problem.envelope
        self.register_buffer("frequencies", fourier_scale * torch.randn(inputs, fourier, generator=generator))
        self.weights = nn.ParameterList(
            torch.randn(networks, before, after, generator=generator) / math.sqrt(before)
            for before, after in itertools.pairwise(widths)
        )
        self.biases = nn.ParameterList(torch.zeros(networks, 1, after) for after in widths[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Evaluates every function.

        Args:
            x: points ``(n, dimensions)``.

        Returns:
            The values, ``(n, L)``.
        """
        features = self._features(x)
        waves = features @ self.frequencies
        hidden = torch.cat([features, waves.sin(), waves.cos()], dim=1)
        hidden = hidden @ self.weights[0] + self.biases[0]
        for weight, bias in zip(list(self.weights)[1:], list(self.biases)[1:], strict=True):
            hidden = torch.baddbmm(bias, torch.tanh(hidden), weight)
        return hidden.permute(1, 0, 2).flatten(start_dim=1) * self._envelope(x)[:, None]
