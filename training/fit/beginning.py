"""The encoders that a run begins with."""

import logging
from typing import Any

import torch

from training.base.errors import BackboneError, BundleError
from training.fit.recipe import Recipe
from training.model.backbones import Backbone, build_backbone, default_preprocessing, load_pretrained
from training.model.bundle import load_bundle
from training.model.encoders import EncoderConfig, PairedEncoders, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig, Norm

__all__ = ["check_backbone", "first_encoders"]

logger = logging.getLogger(__name__)


def check_backbone(recipe: Recipe) -> None:
    """Builds a backbone and runs it, so that what cannot work is said before anything is drawn or computed.

    Raises:
        BackboneError: if it cannot be had, cannot take images of the sizes of the recipe, or has nothing to train.
        BundleError: if the model to start from cannot be read, or has another backbone.
    """
    backbone = _backbones(recipe)[0].eval()
    sizes = {"image_size": recipe.image_size}
    if recipe.tune == "all":
        backbone.parameters_after(recipe.frozen_stages)
        sizes["training_size"] = recipe.training_size or recipe.image_size
    if backbone.fixed_size:
        logger.warning("%s takes images of %d pixels only", backbone.name, backbone.fixed_size)
    for field, size in sizes.items():
        pixels = backbone.fixed_size or size
        try:
            with torch.inference_mode():
                backbone(torch.zeros(1, 3, pixels, pixels))
        except (AssertionError, RuntimeError, ValueError) as error:  # what networks raise for a size they do not take
            reason = " ".join(str(error).split())[:200]
            raise BackboneError(
                f"{backbone.name} cannot take images of {pixels} pixels ({reason}); choose another {field}"
            ) from error


def first_encoders(recipe: Recipe, groups: int) -> PairedEncoders:
    """Builds encoders with pretrained backbones, or those of the model to start from, and new heads.

    Args:
        recipe: of the run.
        groups: number of groups of the data, which bounds the dimensions of a closed form.

    Raises:
        BundleError: if the model to start from does not fit the recipe.
    """
    backbones = _backbones(recipe)
    preprocessing = default_preprocessing(backbones[0], recipe.image_size)
    dim = min(recipe.dim, groups - 1) if recipe.init == "closed-form" else recipe.dim

    def head(norm: Norm) -> HeadConfig:
        return HeadConfig(features=backbones[0].num_features, dim=dim, hidden=recipe.hidden, norm=norm)

    sketch = preprocessing.model_copy(update={"crop_to_ink": recipe.crop_to_ink})
    photo = preprocessing.model_copy(update={"grayscale": recipe.grayscale})
    config = PairedEncodersConfig(
        backbone=backbones[0].name,
        multi_scale=recipe.multi_scale,
        pooling=recipe.pooling,
        sketch=EncoderConfig(preprocessing=sketch, head=head(recipe.sketch_norm), flip=recipe.flip),
        photo=EncoderConfig(preprocessing=photo, head=head(recipe.photo_norm), flip=recipe.flip),
        share_backbone=recipe.share_backbone,
        share_head=recipe.share_head,
    )
    for backbone in backbones:
        backbone.requires_grad_(False)
    return build_encoders(config, *backbones)


def _backbones(recipe: Recipe) -> list[Backbone]:
    """One backbone a modality, or one for both."""
    count = 1 if recipe.share_backbone else 2
    if recipe.start is None:
        choices: dict[str, Any] = {"multi_scale": recipe.multi_scale, "pooling": recipe.pooling}
        return [load_pretrained(recipe.backbone, weights=recipe.weights, **choices) for _ in range(count)]
    start = load_bundle(recipe.start, "cpu").encoders
    config = start.config
    if config.backbone != recipe.backbone:
        raise BundleError(f"{recipe.start} has backbone {config.backbone}; give the same --backbone")
    if recipe.start_heads or recipe.sketch_mean == "start":
        _check_features(recipe, config)
    backbones = []
    for encoder in (start.sketch, start.photo)[:count]:
        # its weights are the same, whichever features are taken from it
        backbone = build_backbone(config.backbone, multi_scale=recipe.multi_scale, pooling=recipe.pooling)
        backbone.load_state_dict(encoder.backbone.state_dict())
        backbones.append(backbone)
    return backbones


def _check_features(recipe: Recipe, config: PairedEncodersConfig) -> None:
    """Heads and means of the model to start from are of its features, so they must be those of the recipe."""
    if (config.multi_scale, config.pooling) != (recipe.multi_scale, recipe.pooling):
        raise BundleError(
            f"{recipe.start} has multi_scale {str(config.multi_scale).lower()} and pooling {config.pooling}; "
            "give the same in the recipe, or start_heads 0 and sketch_mean data"
        )
    size = config.sketch.preprocessing.size
    if recipe.sketch_mean == "start" and recipe.image_size != size:
        raise BundleError(f"{recipe.start} centres sketches of {size} pixels; give --image-size {size}")
