"""Backbones of every family that people have, with random weights: sizes, features, training, search."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from index.__main__ import INDEX
from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.base.errors import BackboneError
from training.fit.beginning import check_backbone
from training.fit.recipe import Recipe
from training.model.backbones import Backbone, build_backbone, load_pretrained
from training.model.pretrained import Architecture

pytestmark = pytest.mark.long

FAMILIES = [
    "test_convnext",
    "test_efficientnet",
    "test_mambaout",
    "test_nfnet",
    "test_resnet",
    "test_vit",
    "test_vit3",  # registers
    "mobilenetv3_small_050",  # a wide layer after pooling
    "mobilenetv4_conv_small",
    "vit_tiny_patch16_224",
    "eva02_tiny_patch14_224",  # rotary positions
    "vit_small_patch14_dinov2",  # 518 pixels
    "swin_tiny_patch4_window7_224",
    "levit_128s",  # takes 224 pixels only
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with random weights of a model, as it would be downloaded: with a classifier."""

    def save(name):
        torch.manual_seed(0)
        file = tmp_path_factory.mktemp("weights") / "model.safetensors"
        save_file(timm.create_model(name, pretrained=False).state_dict(), file)
        return file

    return save


@pytest.mark.parametrize(
    ("name", "multi_scale"),
    [*((name, True) for name in FAMILIES), ("test_vit", False), ("mobilenetv3_small_050", False)],
)
def test_features_are_as_wide_as_stated_at_the_sizes_of_the_defaults(name, multi_scale):
    backbone = build_backbone(name, multi_scale=multi_scale).eval()
    for size in (backbone.fixed_size,) if backbone.fixed_size else (160, 224):
        with torch.inference_mode():
            features = backbone(torch.rand(1, 3, size, size))
        assert features.shape == (1, backbone.num_features) == (1, sum(backbone.widths))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_largest_values_follow_the_means_of_the_same_stages(name):
    torch.manual_seed(0)
    backbone = build_backbone(name, multi_scale=True, pooling="mean-max").eval()
    plain = Backbone(Architecture(backbone.name, backbone.model, backbone.fixed_size), multi_scale=True)
    stages = plain.widths[1:]
    assert backbone.widths == (*plain.widths, *stages)
    maps = []
    backbone.model.forward_intermediates = _recorded(backbone.model.forward_intermediates, maps)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        means, maxima = backbone(images).split([plain.num_features, sum(stages)], dim=1)
        torch.testing.assert_close(means, plain(images))
    for found, stage in zip(maxima.split(stages, dim=1), maps[0], strict=True):
        assert torch.equal(found, stage.flatten(2).max(dim=2).values)


def _recorded(function, maps):
    """The function, which also keeps the maps of its stages."""

    def call(*arguments, **options):
        final, stages = function(*arguments, **options)
        maps.append(stages)
        return final, stages

    return call


@pytest.mark.parametrize("name", ["test_vit", "eva02_tiny_patch14_224"])
def test_a_transformer_gives_its_patches_at_four_depths(name):
    backbone = build_backbone(name, multi_scale=True).eval()
    images, width = torch.rand(2, 3, 112, 112), backbone.widths[0]
    assert backbone.widths == (width,) * 5
    with torch.inference_mode():
        features = backbone(images).split(width, dim=1)
        tokens = backbone.model.forward_features(images)[:, backbone.model.num_prefix_tokens :]
    torch.testing.assert_close(features[-1], tokens.mean(dim=1))
    assert not torch.allclose(features[1], features[2])


def test_positions_fixed_for_export_change_nothing():
    backbone = build_backbone("test_vit", multi_scale=True).eval()
    images = torch.rand(2, 3, 96, 96)
    fixed = backbone.at_size(96)
    assert fixed is not backbone
    with torch.inference_mode():
        torch.testing.assert_close(fixed(images), backbone(images))
    assert backbone.at_size(100) is backbone.at_size(160) is backbone  # no whole patches, and its own size


def test_weights_of_a_file_are_those_of_the_model(weights):
    file = weights("test_vit")
    loaded = load_pretrained("test_vit", multi_scale=False, weights=file).model
    torch.manual_seed(0)
    expected = timm.create_model("test_vit", pretrained=False)
    torch.testing.assert_close(loaded.blocks[3].attn.qkv.weight, expected.blocks[3].attn.qkv.weight)


def test_a_local_folder_has_weights_and_preparation(weights, tmp_path):
    weights("test_vit").rename(tmp_path / "model.safetensors")
    preparation = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "input_size": [3, 96, 96], "num_classes": 1000}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": preparation}))
    backbone = load_pretrained(f"local-dir:{tmp_path}", multi_scale=False)
    assert backbone.name == "test_vit"
    assert tuple(backbone.model.pretrained_cfg["mean"]) == (0.1, 0.2, 0.3)


def test_a_name_on_the_hub_is_a_folder_too(weights, tmp_path, monkeypatch):
    weights("test_vit").rename(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit", "mean": [0, 0, 0], "std": [1, 1, 1]}))
    asked = []
    monkeypatch.setattr("training.model.pretrained.local_bundle", lambda *names: asked.append(names) or tmp_path)
    assert load_pretrained("hf-hub:org/model@v2", multi_scale=False).name == "test_vit"
    assert asked == [(Path("hf://org/model@v2"), "config.json", "model.safetensors")]


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("local-dir:nowhere", None, "config.json cannot be read: No such file"),
        ("local-dir:.", "{", "config.json is not the configuration of a timm model"),
        ("local-dir:.", "[]", "config.json is not the configuration of a timm model"),
        ("local-dir:.", '{"architecture": "test_vit"}', "model.safetensors is not there"),
        ("local-dir:.", '{"architecture": "resnet_of_mine"}', "unknown backbone 'resnet_of_mine'"),
        ("local-dir:.", '{"architecture": "test_vit", "model_args": {"depth": 3}}', "changes the architecture (depth)"),
        ("hf-hub:no-name", None, "names no model on a hub"),
    ],
)
def test_a_folder_that_is_none_is_said_in_one_line(name, config, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(BackboneError) as caught:
        load_pretrained(name, multi_scale=True)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_model_is_refused(weights, tmp_path):
    with pytest.raises(BackboneError, match="does not hold the weights of 'test_convnext'"):
        load_pretrained("test_convnext", multi_scale=True, weights=weights("test_vit"))
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    for file in ("broken.safetensors", "none.safetensors", "weights.pth"):
        with pytest.raises(BackboneError, match=r"does not hold the weights|is not there, or is no \.safetensors"):
            load_pretrained("test_vit", multi_scale=True, weights=tmp_path / file)


def test_stages_that_leave_nothing_to_train_are_refused():
    for name, stages in (("test_convnext", 4), ("test_vit", 4), ("resnet18", 9)):
        with pytest.raises(BackboneError, match=f"{stages} frozen stages leave nothing of {name} to train"):
            build_backbone(name, multi_scale=True).parameters_after(stages)


def test_sizes_are_checked_before_anything_else(weights, monkeypatch):
    recipe = Recipe(backbone="test_vit", weights=weights("test_vit"))
    check_backbone(recipe)

    def refuse(self, images):
        raise AssertionError(f"no {images.shape[-1]}\npixels")

    monkeypatch.setattr("training.model.backbones.Backbone.forward", refuse)
    with pytest.raises(BackboneError, match=r"test_vit cannot take images of 224 pixels \(no 224 pixels\)"):
        check_backbone(recipe)


@pytest.mark.parametrize(("name", "tune"), [("test_vit", "none"), ("test_vit", "all"), ("test_convnext", "all")])
def test_a_model_is_trained_measured_and_searched(name, tune, weights, shapes, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = {"weights": str(weights(name)), "line_drawings": 0, "validation": 0, "training_size": 48}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    options = ["--backbone", name, "--tune", tune, "--dim", "8", "--epochs", "1", "--image-size", "64"]
    model, gallery = tmp_path / "model", tmp_path / "gallery"
    for program, command in (
        (TRAINING, ["fit", "--data", shapes, "--out", model, "--recipe", tmp_path / "recipe.json", *options]),
        (TRAINING, ["evaluate", "--model", model, "--data", shapes]),
        (INDEX, ["build", "--model", model, "--photos", shapes / "photo", "--out", gallery]),
        (INDEX, ["search", "--gallery", gallery, "--sketch", shapes / "sketch" / "circle" / "circle-1.png"]),
    ):
        assert run_command(program, [str(word) for word in command]) == 0, capsys.readouterr().err
    assert len(capsys.readouterr().out.splitlines()[-10:]) == 10
