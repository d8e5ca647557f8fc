"""Sets the parameters of heads from data: their standardisation, the closed-form maps and the canonical form."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.base.errors import DivergenceError
from training.base.row_blocks import row_blocks
from training.features.paired import FeatureSet, head_embeddings
from training.fit.closed_form import Moments, group_means, solve, solve_shared, weighted_mean
from training.model.canonical import CanonicalForm, canonical_form, weighted_second_moment
from training.model.encoders import PairedEncoders

__all__ = ["apply_canonical_form", "apply_closed_form", "blend_heads", "learned_form", "standardise"]

_GROUPS = 1024  # whose mean embeddings are held at once


def standardise(encoders: PairedEncoders, features: FeatureSet, unit: Literal["blocks", "features"] = "blocks") -> None:
    """Sets how each head standardises its inputs: centred, and each block of them scaled to mean variance one.

    A block holds the features of one stage of the backbone; see ``Backbone.widths``. Means weigh images by their
    probability; variances, which only set how much a block counts, do not.

    Args:
        encoders: their heads are changed in place.
        features: training data, by the encoders' backbones.
        unit: ``features`` to scale each feature by itself to variance one.
    """
    for encoder, values, probabilities in (
        (encoders.sketch, features.x, features.sketch_probabilities),
        (encoders.photo, features.y, features.photo_probabilities),
    ):
        encoder.head.mean.copy_(torch.from_numpy(weighted_mean(values, probabilities)))
        widths = encoder.backbone.widths if unit == "blocks" else (1,) * values.shape[1]
        encoder.head.scale.copy_(torch.from_numpy(_block_scales(values, widths)))


def apply_closed_form(encoders: PairedEncoders, features: FeatureSet, moments: Moments, ridge: float) -> None:
    """Sets linear heads to the closed-form solution; coordinates beyond the rank of the data are set to zero.

    Where photo embeddings are projected onto a sphere, its radius is set to the factor that makes the score the best
    estimate of the kernel in the least-squares sense.

    Args:
        encoders: standardised, with linear heads, which are changed in place.
        features: training data.
        moments: second moments of the standardised features.
        ridge: regularisation, in units of the mean eigenvalue of the covariance.
    """
    solver = solve_shared if encoders.config.share_head else solve
    maps = solver(moments, encoders.dim, ridge)
    for encoder, weight in ((encoders.sketch, maps.weight_x), (encoders.photo, maps.weight_y)):
        _set_linear(encoder.head.body, weight)
    _calibrate(encoders, features)


def blend_heads(
    encoders: PairedEncoders, start: PairedEncoders, features: FeatureSet, moments: Moments, share: float
) -> None:
    """Replaces the kernel of the heads by a weighted sum of it and the kernel of another model.

    The sum of two kernels is the inner product of both embeddings concatenated. Each embedding is scaled so that photos
    have the same mean length in both, then weighted. The result is projected onto the leading principal axes of the
    training photos, as many as the heads have coordinates.

    Args:
        encoders: with one linear head for both modalities, standardised with the scales of ``start``; changed in place.
        start: the other model, with the same backbone and the same kind of head.
        features: training data.
        moments: second moments of the standardised features.
        share: weight of the kernel of ``start``, between 0 and 1; the kernel of the heads weighs the rest.
    """
    head = encoders.photo.head
    mean, scale = head.mean.cpu().numpy(), head.scale.cpu().numpy()
    parts = []
    for body, part in ((start.photo.head.body, share), (head.body, 1 - share)):
        weight = _linear(body).weight.detach().cpu().numpy().astype(np.float64)
        lengths = [
            np.linalg.norm((features.y[rows] - mean) / scale @ weight.T, axis=1) for rows in row_blocks(len(features.y))
        ]
        parts.append(weight * (part**0.5 / max(float(np.concatenate(lengths).mean()), 1e-12)))
    both = np.concatenate(parts)
    _, axes = np.linalg.eigh(moments.y.mapped(both))
    _set_linear(head.body, axes[:, ::-1][:, : encoders.dim].T @ both)
    _calibrate(encoders, features)


def learned_form(encoders: PairedEncoders, features: FeatureSet) -> CanonicalForm:
    """The canonical form of the trained encoders, from the second moments of their embeddings of the training data.

    Raises:
        DivergenceError: if an embedding is not finite.
    """
    f = head_embeddings(encoders.sketch, features.x, canonical=False)
    g = head_embeddings(encoders.photo, features.y, canonical=False)
    if not (np.isfinite(f).all() and np.isfinite(g).all()):
        raise DivergenceError("the trained heads give embeddings that are not finite; lower the learning rate")
    return canonical_form(
        weighted_second_moment(f, features.sketch_probabilities),
        weighted_second_moment(g, features.photo_probabilities),
    )


def apply_canonical_form(encoders: PairedEncoders, form: CanonicalForm) -> None:
    """Orders the coordinates of both encoders by singular value; full-dimension scores do not change."""
    encoders.sketch.head.canonical.copy_(torch.from_numpy(form.transform_f))
    encoders.photo.head.canonical.copy_(torch.from_numpy(form.transform_g))


def _block_scales(values: NDArray[np.float32], widths: tuple[int, ...]) -> NDArray[np.float32]:
    mean = weighted_mean(values, np.full(len(values), 1 / len(values)))
    variances = np.zeros_like(mean)
    for rows in row_blocks(len(values)):
        variances += np.square(values[rows] - mean).sum(axis=0) / len(values)
    blocks = np.split(variances, np.cumsum(widths)[:-1])
    return np.concatenate([np.full(len(block), max(float(block.mean()), 1e-12) ** 0.5, np.float32) for block in blocks])


def _linear(body: nn.Module) -> nn.Linear:
    if not isinstance(body, nn.Linear):
        raise TypeError("the closed form needs a linear head")
    return body


def _set_linear(body: nn.Module, weight: NDArray[np.float64]) -> None:
    body = _linear(body)
    with torch.no_grad():
        body.bias.zero_()  # the features are centred already
        body.weight.zero_()
        body.weight[: len(weight)] = torch.from_numpy(weight).to(body.weight)


def _calibrate(encoders: PairedEncoders, features: FeatureSet) -> None:
    """Sets radii to 1, and that of a sphere of photos to what suits the kernel best."""
    for encoder in (encoders.sketch, encoders.photo):
        encoder.head.mu.fill_(1.0)
    if encoders.photo.config.head.norm == "sphere":
        encoders.photo.head.mu.fill_(_calibration(encoders, features) ** 2)


def _calibration(encoders: PairedEncoders, features: FeatureSet) -> float:
    """The factor c that minimises the low-rank objective of (c f, g): sum_i cross_i / sum_ij A_ij B_ij."""
    data = features.data
    f = head_embeddings(encoders.sketch, features.x, canonical=False)
    g = head_embeddings(encoders.photo, features.y, canonical=False)
    weights, incidence_f, incidence_g = data.weights, data.sketch_incidence(), data.photo_incidence()
    cross = sum(
        weights[rows] @ (group_means(f, incidence_f[rows]) * group_means(g, incidence_g[rows])).sum(axis=1)
        for rows in row_blocks(len(weights), _GROUPS)
    )
    moment_f = weighted_second_moment(f, features.sketch_probabilities)
    moment_g = weighted_second_moment(g, features.photo_probabilities)
    return max(float(cross / (moment_f * moment_g).sum()), 1e-6)
