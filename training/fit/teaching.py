"""What training descends: NestedLoRA, the contrastive loss or both, and soft targets beside them for backbones."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from training.features.paired import FeatureSet
from training.fit.contrastive import ContrastiveLoss, Matches
from training.fit.distillation import SoftTargets
from training.fit.losses import NestedLoRALoss
from training.fit.recipe import Recipe
from training.fit.sampling import Batch
from training.model.encoders import PairedEncoders
from training.model.pretrained import load_classifier

__all__ = ["Embedded", "Teacher", "build_teacher"]

logger = logging.getLogger(__name__)


class Embedded(NamedTuple):
    """What the encoders make of a batch.

    Attributes:
        f: embeddings of the sketches before the canonical transformation, ``(batch, dim)``.
        g: such embeddings of the photos, ``(batch, dim)``.
        x: backbone features of the sketches, ``(batch, features)``.
        y: backbone features of the photos, ``(batch, features)``.
    """

    f: Tensor
    g: Tensor
    x: Tensor
    y: Tensor


Teacher = Callable[[Embedded, Batch], Tensor]


def build_teacher(recipe: Recipe, encoders: PairedEncoders, features: FeatureSet) -> Teacher:
    """Builds the loss that training descends, a scalar for each batch.

    Args:
        recipe: of the run.
        encoders: the encoders that are trained.
        features: training data, by the backbones as they are before training.

    Raises:
        BackboneError: if the weights of the classifier cannot be obtained.
    """
    terms: list[Teacher] = []
    if not recipe.is_contrastive or recipe.teacher == "both":
        terms.append(_nested(recipe, encoders))
    if recipe.is_contrastive:
        terms.append(_contrastive(recipe, features))
    if recipe.tune == "all" and (targets := _soft_targets(recipe, encoders, features)) is not None:
        terms.append(targets)

    def total(embedded: Embedded, batch: Batch) -> Tensor:
        return torch.stack([term(embedded, batch) for term in terms]).sum()

    return total


def _nested(recipe: Recipe, encoders: PairedEncoders) -> Teacher:
    objective = NestedLoRALoss(encoders.dim, recipe.nesting, step=recipe.nesting_step).to(encoders.sketch.device)

    def nested(embedded: Embedded, batch: Batch) -> Tensor:
        value: Tensor = objective(embedded.f, embedded.g, batch.labels)
        return value

    return nested


def _contrastive(recipe: Recipe, features: FeatureSet) -> Teacher:
    objective, matches = ContrastiveLoss(recipe.temperature), Matches(features.data, depicted=recipe.depicted)

    def contrastive(embedded: Embedded, batch: Batch) -> Tensor:
        value: Tensor = objective(embedded.f, embedded.g, matches(batch.sketches, batch.photos))
        return value

    return contrastive


def _soft_targets(recipe: Recipe, encoders: PairedEncoders, features: FeatureSet) -> Teacher | None:
    if not recipe.distillation or recipe.start is not None or recipe.weights is not None:
        return None  # a model to start from, or weights of one's own, were trained to something else
    classifier = load_classifier(recipe.backbone)
    if classifier is None:
        logger.info("%s was pretrained without a classifier: there is nothing to distil", recipe.backbone)
        return None
    targets = SoftTargets(classifier.to(encoders.sketch.device), features)

    def soft_targets(embedded: Embedded, batch: Batch) -> Tensor:
        value: Tensor = targets(embedded.x, embedded.y, batch.sketches, batch.photos)
        return recipe.distillation * value

    return soft_targets
