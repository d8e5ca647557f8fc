"""The encoders that a run begins with."""

import copy

from training.base.errors import BundleError
from training.fit.recipe import Recipe
from training.model.backbones import Backbone, default_preprocessing, load_pretrained
from training.model.bundle import load_bundle
from training.model.encoders import EncoderConfig, PairedEncoders, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig, Norm

__all__ = ["first_encoders"]


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
        backbone=recipe.backbone,
        multi_scale=recipe.multi_scale,
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
        return [load_pretrained(recipe.backbone, multi_scale=recipe.multi_scale) for _ in range(count)]
    start = load_bundle(recipe.start, "cpu").encoders
    if (start.config.backbone, start.config.multi_scale) != (recipe.backbone, recipe.multi_scale):
        raise BundleError(
            f"{recipe.start} has backbone {start.config.backbone}, multi-scale {start.config.multi_scale}; "
            "give the same --backbone, and the same multi_scale in the recipe"
        )
    size = start.sketch.preprocessing.size
    if recipe.sketch_mean == "start" and recipe.image_size != size:
        raise BundleError(f"{recipe.start} centres sketches of {size} pixels; give --image-size {size}")
    return [copy.deepcopy(encoder.backbone) for encoder in (start.sketch, start.photo)[:count]]
