"""Heads: maps from backbone features to embedding coordinates.

A head standardises the features, maps them, bounds the norm and applies the canonical transformation:

    features -> (x - mean) / scale -> linear or MLP -> norm -> canonical -> embedding

The canonical transformation comes after the norm, so that it is lossless: scores do not change, and the coordinates
are ordered by singular value.
"""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

__all__ = ["Head", "HeadConfig", "Norm", "bound_norm"]

Norm = Literal["none", "ball", "sphere"]


class HeadConfig(BaseModel):
    """Configuration of a head, from which it can be rebuilt.

    Attributes:
        features: number of backbone features.
        dim: number of embedding coordinates L.
        hidden: width of the hidden layer of an MLP; 0 for a linear head.
        norm: projection of the embedding: ``none``, ``ball`` (project onto ||f||^2 <= mu) or ``sphere`` (||f||^2 = mu).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: int = Field(gt=0)
    dim: int = Field(gt=0)
    hidden: int = Field(0, ge=0)
    norm: Norm = "none"


def bound_norm(embeddings: Tensor, norm: Norm, mu: Tensor) -> Tensor:
    """Projects rows onto the ball ||f||^2 <= mu or the sphere ||f||^2 = mu.

    Args:
        embeddings: embeddings ``(n, dim)``.
        norm: which projection; ``none`` returns the rows as they are.
        mu: squared radius, a scalar.
    """
    if norm == "none":
        return embeddings
    lengths: Tensor = embeddings.norm(dim=1, keepdim=True).clamp_min(1e-12)
    factors: Tensor = mu.sqrt() / lengths
    if norm == "ball":
        factors = factors.clamp_max(1.0)
    return embeddings * factors


class Head(nn.Module):
    """The head of one modality, from backbone features to embedding. This module's docstring lists its steps.

    Args:
        config: configuration of the head.
        body: trainable map that is shared with another head; a new one is built when omitted.
    """

    mean: Tensor
    scale: Tensor
    mu: Tensor
    canonical: Tensor

    def __init__(self, config: HeadConfig, body: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.body = body if body is not None else _build_body(config)
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("scale", torch.ones(config.features))
        self.register_buffer("mu", torch.ones(()))
        self.register_buffer("canonical", torch.eye(config.dim))

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(n, features)`` to ``(n, dim)``."""
        return self.bounded(features) @ self.canonical.T

    def bounded(self, features: Tensor) -> Tensor:
        """Computes the embedding before the canonical transformation, ``(n, dim)``, which the loss trains."""
        mapped: Tensor = self.body((features - self.mean) / self.scale)
        return bound_norm(mapped, self.config.norm, self.mu)


def _build_body(config: HeadConfig) -> nn.Module:
    if config.hidden == 0:
        return nn.Linear(config.features, config.dim)
    return nn.Sequential(
        nn.Linear(config.features, config.hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(config.hidden, config.dim),
    )
