"""Folding batch normalisation leaves the function as it was, or is refused."""

import copy

import pytest
import timm
import torch
from torch import nn

from training.model.backbones import DEFAULT_BACKBONE, build_backbone, load_pretrained
from training.model.folding import fold_batch_norm, is_foldable


@pytest.mark.parametrize("name", [DEFAULT_BACKBONE, "resnet10t", "mobilenetv3_small_050", "resnetv2_18"])
def test_folding_keeps_the_features_of_common_architectures(name: str) -> None:
    model = timm.create_model(name, pretrained=False, num_classes=0).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    images = torch.randn(2, 3, 64, 64)
    assert is_foldable(model, 64)
    folded = copy.deepcopy(model)
    fold_batch_norm(folded)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), model(images), rtol=1e-3, atol=1e-4)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) < sum(
        isinstance(m, nn.BatchNorm2d) for m in model.modules()
    )


class _SharedConvolution(nn.Module):
    """One convolution used twice, so that folding the normalisation into it would change the other use."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.norm(self.convolution(images)), self.convolution(images)])


def test_a_model_that_folding_would_change_is_not_foldable() -> None:
    assert not is_foldable(_SharedConvolution(), 16)


def test_a_model_without_batch_norm_has_nothing_to_fold() -> None:
    assert not is_foldable(nn.Conv2d(3, 3, 3), 16)


def test_the_default_backbone_comes_folded_and_can_be_rebuilt_from_its_tensors() -> None:
    pretrained = load_pretrained(DEFAULT_BACKBONE, multi_scale=True).eval()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in pretrained.modules())
    rebuilt = build_backbone(DEFAULT_BACKBONE, multi_scale=True).eval()
    rebuilt.load_state_dict(pretrained.state_dict())
    images = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(rebuilt(images), pretrained(images))
