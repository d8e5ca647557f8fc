import json
import shutil

import numpy as np
import pytest
import torch

from tests.conftest import draw_shape
from training.base.errors import BackboneError, BundleError, TrainingError
from training.model.backbones import DEFAULT_BACKBONE, build_backbone, load_pretrained
from training.model.bundle import copy_bundle, load_bundle, save_bundle
from training.model.encoders import EncoderConfig, PairedEncodersConfig, build_encoders
from training.model.heads import Head, HeadConfig, bound_norm
from training.model.images import open_image
from training.model.manifest import read_manifest
from training.model.preprocessing import Preprocessing
from training.model.tensors import load_tensors, module_tensors


@pytest.fixture
def bundle_copy(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("share_backbone", "share_head", "pooling"),
    [(True, True, "mean"), (True, False, "mean-max"), (False, True, "mean-max"), (False, False, "mean")],
)
def test_a_bundle_gives_the_embeddings_it_was_saved_with(tmp_path, share_backbone, share_head, pooling):
    encoder = EncoderConfig(
        preprocessing=Preprocessing(size=64), head=HeadConfig(features=256 + 96, dim=6, norm="sphere"), flip=True
    )
    config = PairedEncodersConfig(
        backbone="test_efficientnet",
        multi_scale=True,
        pooling=pooling,
        sketch=encoder,
        photo=encoder,
        share_backbone=share_backbone,
        share_head=share_head,
    )
    backbones = [build_backbone(config.backbone, multi_scale=True, pooling=pooling) for _ in range(2)]
    features = backbones[0].num_features
    head = encoder.head.model_copy(update={"features": features})
    config = config.model_copy(update={name: encoder.model_copy(update={"head": head}) for name in ("sketch", "photo")})
    encoders = build_encoders(config, *backbones).eval()
    encoders.photo.head.canonical.copy_(torch.randn(6, 6))
    save_bundle(tmp_path, encoders, range(6, 0, -1))
    bundle = load_bundle(tmp_path, "cpu")
    images = [draw_shape("circle", 0, filled=True), draw_shape("line", 1, filled=False)]
    batch = torch.stack([encoder.preprocessing(image) for image in images])
    with torch.inference_mode():
        for encode, original in ((bundle.encode_sketches, encoders.sketch), (bundle.encode_photos, encoders.photo)):
            np.testing.assert_allclose(encode(images), original(batch).numpy(), atol=1e-6)
    assert bundle.encode_photos([]).shape == (0, 6)
    stored = load_tensors(tmp_path / "model.safetensors")
    assert any(name.startswith("photo.backbone") for name in stored) is not share_backbone
    assert any(name.startswith("photo.head.body") for name in stored) is not share_head


def test_no_pickle_in_a_bundle(tiny_bundle):
    assert sorted(file.name for file in tiny_bundle.iterdir()) == ["model.json", "model.safetensors"]


def test_copies_are_equal(tiny_bundle, tmp_path):
    assert copy_bundle(tiny_bundle, tmp_path / "copy").digest == load_bundle(tmp_path / "copy", "cpu").digest


def test_missing_bundle(tmp_path):
    with pytest.raises(BundleError, match="not a model bundle"):
        load_bundle(tmp_path)


def test_damaged_weights_are_named(bundle_copy):
    weights = bundle_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for use in (load_bundle, lambda path: copy_bundle(path, path / "copy")):
        with pytest.raises(BundleError, match=r"model\.safetensors is not the file"):
            use(bundle_copy)
    weights.unlink()
    with pytest.raises(BundleError, match="is missing"):
        load_bundle(bundle_copy)


@pytest.mark.parametrize("change", [{"version": 99}, {"surprise": 1}, {"encoders": None}])
def test_damaged_manifest_is_named(bundle_copy, change):
    path = bundle_copy / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match=r"model\.json is damaged or of another version"):
        read_manifest(bundle_copy)


def test_weights_of_another_architecture(bundle_copy):
    path = bundle_copy / "model.json"
    manifest = json.loads(path.read_text())
    manifest["encoders"]["backbone"] = "test_resnet"
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="test_resnet gives 96 features, and the head takes 256"):
        load_bundle(bundle_copy)


def test_missing_device(tiny_bundle):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(TrainingError, match="not available"):
        load_bundle(tiny_bundle, "cuda")


def test_norm_projections():
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    mu = torch.tensor(4.0)
    torch.testing.assert_close(bound_norm(rows, "ball", mu).norm(dim=1), torch.tensor([2.0, 0.5, 0.0]))
    torch.testing.assert_close(bound_norm(rows, "sphere", mu).norm(dim=1), torch.tensor([2.0, 2.0, 0.0]))
    assert bound_norm(rows, "none", mu) is rows


def test_heads_standardise_before_and_transform_after():
    head = Head(HeadConfig(features=3, dim=2, hidden=4, norm="sphere"))
    head.mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    head.canonical.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    bounded = head.bounded(torch.randn(5, 3))
    torch.testing.assert_close(bounded.norm(dim=1), torch.ones(5))
    features = torch.randn(5, 3)
    torch.testing.assert_close(head(features), head.bounded(features)[:, [1, 0]] * torch.tensor([1.0, 2.0]))


def test_default_backbone_takes_its_weights_from_the_package():
    weights = module_tensors(load_pretrained(DEFAULT_BACKBONE, multi_scale=False))
    random = module_tensors(build_backbone(DEFAULT_BACKBONE, multi_scale=False))
    assert weights.keys() == random.keys()
    assert not torch.allclose(weights["model.conv_stem.weight"], random["model.conv_stem.weight"])
    assert weights["model.conv_stem.bias"].std() > 0  # the normalisation, folded in


def test_unknown_backbone_suggests_names():
    with pytest.raises(BackboneError, match="did you mean"):
        build_backbone("efficientnet_lite", multi_scale=False)


def test_half_precision_halves_the_backbone_and_hardly_moves_an_embedding(tiny_bundle, shapes, tmp_path):
    whole = load_bundle(tiny_bundle, "cpu")
    save_bundle(tmp_path, whole.encoders, whole.spectrum, half=True)
    halved = load_bundle(tmp_path, "cpu")
    assert (tmp_path / "model.safetensors").stat().st_size < 0.7 * (tiny_bundle / "model.safetensors").stat().st_size
    images = [open_image(file) for file in sorted((shapes / "sketch" / "circle").iterdir())]
    assert all(tensor.dtype == torch.float32 for tensor in halved.encoders.state_dict().values())
    np.testing.assert_allclose(halved.encode_sketches(images), whole.encode_sketches(images), rtol=0.05, atol=0.05)


def test_heads_are_halved_too_unless_a_row_is_too_small_for_it(tiny_bundle, tmp_path):
    encoders = load_bundle(tiny_bundle, "cpu").encoders
    encoders.sketch.head.canonical[-1] *= 1e-7
    save_bundle(tmp_path, encoders, [1.0] * 16, half=True)
    stored = load_tensors(tmp_path / "model.safetensors")
    assert stored["photo.head.canonical"].dtype == stored["sketch.head.body.weight"].dtype == torch.float16
    assert stored["sketch.head.canonical"].dtype == stored["photo.head.mean"].dtype == torch.float32
    restored = load_bundle(tmp_path, "cpu").encoders.state_dict()
    for name, tensor in encoders.state_dict().items():
        if tensor.ndim == 2:
            lengths = tensor.norm(dim=1)
            assert ((restored[name] - tensor).norm(dim=1) <= 5e-4 * lengths).all(), name
