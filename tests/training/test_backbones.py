import pytest

from training.backbones import build_backbone


@pytest.mark.parametrize(
    ("name", "stages", "first"),
    [
        ("tf_efficientnet_lite0", 0, "conv_stem.weight"),
        ("tf_efficientnet_lite0", 2, "blocks.2.0.conv_pw.weight"),
        ("tf_efficientnet_lite0", 9, "conv_head.weight"),
        ("resnet18", 1, "layer1.0.conv1.weight"),
        ("resnet18", 9, None),
        ("vit_tiny_patch16_224", 2, "blocks.2.norm1.weight"),
    ],
)
def test_parameters_after_stages_are_those_of_later_modules(name, stages, first):
    backbone = build_backbone(name, multi_scale=False)
    named = {id(value): key for key, value in backbone.model.named_parameters()}
    kept = [named[id(value)] for value in backbone.parameters_after(stages)]
    names = list(named.values())
    assert kept == ([] if first is None else names[names.index(first) :])
