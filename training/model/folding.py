"""Folding of batch normalisation, as used at inference, into the preceding convolution.

The statistics of a pretrained backbone do not change here, not even in training, so that a gallery and a single sketch
are encoded by the same function. Normalisation is then a fixed affine map. Folding it into the convolution computes
the same result with fewer passes over memory.
"""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["fold_batch_norm", "is_foldable"]


def fold_batch_norm(model: nn.Module) -> None:
    """Folds every batch normalisation that follows a convolution in the same parent module, in place.

    Args:
        model: a model for which ``is_foldable`` is True.
    """
    for module in model.modules():
        children = list(module.named_children())
        for (_, first), (name, second) in pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                _fold(first, second)
                setattr(
                    module, name, getattr(second, "act", nn.Identity())
                )  # timm's normalisation holds its activation


def is_foldable(model: nn.Module, size: int) -> bool:
    """Tests whether folding leaves the model's function unchanged.

    Modules need not run in the order in which they are listed, so a copy with random statistics is folded and compared.

    Args:
        model: the model to test; it is left unchanged.
        size: side of an input image that the model accepts, in pixels.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return False
    generator = torch.Generator().manual_seed(0)
    plain = copy.deepcopy(model).eval()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            _randomise(module, generator)
    folded = copy.deepcopy(plain)
    fold_batch_norm(folded)
    images = torch.randn(1, 3, size, size, generator=generator)
    with torch.inference_mode():
        expected: Tensor = plain(images)
        return torch.allclose(folded(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("only a normalisation with fixed statistics can be folded")
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    convolution.weight, convolution.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())


def _randomise(norm: nn.BatchNorm2d, generator: torch.Generator) -> None:
    for tensor, low, high in (
        (norm.running_mean, -0.1, 0.1),
        (norm.running_var, 0.5, 1.5),
        (norm.weight, 0.5, 1.5),
        (norm.bias, -0.1, 0.1),
    ):
        if tensor is not None:
            tensor.data.uniform_(low, high, generator=generator)
