import numpy as np
import onnx
import pytest
import torch

from training.base.errors import BundleError
from training.inference import runners
from training.inference.exports import exported_backbone
from training.inference.quantised import activations, convolutions, quantised, rounded_weights
from training.inference.ranges import find_ranges
from training.inference.runners import TOLERANCES, build_runner
from training.inference.sessions import open_session
from training.model.backbones import build_backbone
from training.model.bundle import load_bundle
from training.model.encoders import EncoderConfig, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def bundle(int8_bundle):
    return load_bundle(int8_bundle, "cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def content(bundle, cache):
    return exported_backbone(bundle.sketch, cache)


def noise(count, seed=0):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def cosines(first, second):
    first, second = first - first.mean(axis=0), second - first.mean(axis=0)
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def test_eight_bits_embed_nearly_alike(bundle, cache):
    batch = noise(20, seed=5)
    eight = build_runner(bundle.sketch, precision="int8", int8=bundle.int8("sketch"), cache=cache)
    assert eight.precision == "int8"
    expected, actual = bundle.encode(bundle.sketch, batch), eight(batch)
    assert np.abs(actual - expected).max() > 0
    assert cosines(expected, actual).min() > 0.97


@pytest.mark.parametrize(
    ("backbone", "flip", "pooling"), [("test_efficientnet", True, "mean"), ("test_resnet", False, "mean-max")]
)
def test_kernels_for_whole_numbers_compute_what_the_graph_says(backbone, flip, pooling, tmp_path):
    torch.manual_seed(0)
    built = build_backbone(backbone, multi_scale=True, pooling=pooling)
    head = HeadConfig(features=built.num_features, dim=8)
    encoder = EncoderConfig(preprocessing=Preprocessing(size=64), head=head, flip=flip)
    config = PairedEncodersConfig(backbone=backbone, multi_scale=True, pooling=pooling, sketch=encoder, photo=encoder)
    sketch = build_encoders(config, built).eval().sketch
    exported = exported_backbone(sketch, tmp_path)
    eight = quantised(exported, find_ranges(exported, noise(10)))
    batch = noise(3, seed=7).numpy()
    [exact], [quick] = (open_session(eight, 1, in_floats=floats)(batch) for floats in (True, False))
    [single] = open_session(exported, 1)(batch)
    assert np.abs(quick - exact).max() <= TOLERANCES["int8"] * np.abs(exact).max()
    assert np.abs(exact - single).max() <= 0.2 * np.abs(single).max()


def test_every_convolution_multiplies_whole_numbers(content, bundle):
    model = onnx.load_from_string(quantised(content, bundle.int8("sketch").tensors))
    onnx.checker.check_model(model)
    types = {each.name: each.data_type for each in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    found = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(found) >= len(convolutions(onnx.load_from_string(content))) > 5
    for node in found:
        sources = [makers[name] for name in node.input]
        assert [source.op_type for source in sources] == ["DequantizeLinear"] * 3
        assert [types[source.input[0]] for source in sources[1:]] == [onnx.TensorProto.INT8, onnx.TensorProto.INT32]


def test_names_are_those_of_weights(content):
    model = onnx.load_from_string(content)
    weights = convolutions(model)
    for name in activations(model).values():
        assert name.rpartition(".")[0] in weights


def test_the_batch_does_not_matter(bundle, cache):
    eight = build_runner(bundle.sketch, precision="int8", int8=bundle.int8("sketch"), cache=cache)
    batch = noise(5)
    together = eight(batch)
    for row, image in enumerate(batch):
        np.testing.assert_allclose(eight(image[None])[0], together[row], atol=1e-5)


def test_both_modalities_share_one_backbone(bundle, cache):
    sketch = build_runner(bundle.sketch, precision="int8", int8=bundle.int8("sketch"), cache=cache)
    photo = build_runner(bundle.photo, precision="int8", int8=bundle.int8("photo"), cache=cache, like=sketch)
    single = build_runner(bundle.photo, "onnx", "fp32", cache=cache, like=sketch)
    assert photo.backbone is sketch.backbone
    assert single.backbone is not sketch.backbone


@pytest.mark.parametrize(
    ("is_default", "seconds", "expected"),
    [
        (True, {"fp32": 2, "int8": 1}, "int8"),
        (True, {"fp32": 1, "int8": 2}, "fp32"),
        (True, {"fp32": 10, "int8": 9}, "fp32"),
        (False, {"fp32": 2, "int8": 1}, "fp32"),
    ],
)
def test_a_cpu_takes_eight_bits_that_keep_quality_and_are_quicker(
    bundle, cache, monkeypatch, is_default, seconds, expected
):
    monkeypatch.setattr(runners, "_seconds", lambda runner: seconds[runner.precision])
    int8 = bundle.int8("sketch")._replace(is_default=is_default)
    assert build_runner(bundle.sketch, int8=int8, cache=cache).precision == expected
    assert build_runner(bundle.sketch, "torch", int8=int8, cache=cache).precision == "fp32"
    assert build_runner(bundle.sketch, precision="fp32", int8=int8, cache=cache).precision == "fp32"


def test_kernels_that_overflow_are_not_used(bundle, cache, monkeypatch, caplog):
    given = {"precision": "int8", "int8": bundle.int8("sketch"), "cache": cache}
    right = build_runner(bundle.sketch, **given)
    monkeypatch.setitem(TOLERANCES, "int8", -1)
    careful = build_runner(bundle.sketch, **given)
    assert "computed in floats" in caplog.text
    assert careful.precision == "int8"
    batch = noise(2)
    assert careful.identity != right.identity
    np.testing.assert_allclose(careful(batch), right(batch), atol=0.05 * np.abs(right(batch)).max())


def test_what_cannot_run_in_eight_bits_says_so(bundle, content, cache):
    with pytest.raises(BundleError, match="`svdraw quantize` finds them"):
        build_runner(bundle.sketch, precision="int8", cache=cache)
    int8 = bundle.int8("sketch")
    some = dict(list(int8.tensors.items())[1:])
    with pytest.raises(BundleError, match="not those of this backbone"):
        build_runner(bundle.sketch, precision="int8", int8=int8._replace(tensors=some), cache=cache)
    name = next(iter(int8.tensors))
    with pytest.raises(BundleError, match="is not finite"):
        quantised(content, int8.tensors | {name: torch.full_like(int8.tensors[name], torch.nan)})
    strange = int8._replace(tensors=int8.tensors | {name: torch.ones(7, 7)})
    with pytest.raises(BundleError, match="cannot run in eight bits"):
        build_runner(bundle.sketch, precision="int8", int8=strange, cache=cache)


def test_weights_are_rounded_channel_by_channel():
    values = np.array([[[[1.0, -0.5]]], [[[0.01, 0.004]]], [[[0.0, 0.0]]]], np.float32)
    whole, scales = rounded_weights(values)
    assert whole.tolist() == [[[[127, -64]]], [[[127, 51]]], [[[0, 0]]]]
    np.testing.assert_allclose(whole * scales[:, None, None, None], values, atol=1 / 127 / 2)
