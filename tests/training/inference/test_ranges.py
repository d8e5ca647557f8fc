import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from training.inference.quantised import quantised
from training.inference.ranges import find_ranges, least_squares_range
from training.inference.sessions import open_session


def error(values, low, high):
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    return np.square((np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale - values).mean()


@pytest.mark.parametrize("seed", range(3))
def test_the_range_has_the_least_error_of_those_that_were_tried(seed):
    values = np.random.default_rng(seed).standard_t(3, size=20_000).astype(np.float32)
    low, high = least_squares_range(values)
    assert values.min() < low < 0 < high < values.max()  # extremes are clipped
    least = error(values, low, high)
    for factor in (0.35, 0.6, 0.8, 1):
        assert least <= error(values, factor * values.min(), factor * values.max()) * 1.0001


def test_zero_lies_in_every_range():
    assert least_squares_range(np.array([2, 3], np.float32))[0] == 0
    assert least_squares_range(np.array([-2, -3], np.float32))[1] == 0
    assert least_squares_range(np.zeros(3, np.float32)) == (0, 0)


def convolution(groups, seed=0):
    """A graph of one convolution whose second output channel is far smaller than the first, and the third is zero."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(4, 4 // groups, 3, 3)) * np.array([1, 0.01, 0, 3])[:, None, None, None]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "weight", "bias"], ["features"], group=groups)],
        "convolution",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 4, 16, 16])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
            numpy_helper.from_array(np.array([1, 0, 2, -1], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_biases_keep_the_means(groups):
    content = convolution(groups)
    images = torch.rand(8, 4, 16, 16, generator=torch.Generator().manual_seed(groups)) + 1  # their mean is not zero
    found = find_ranges(content, images)
    plain = found | {"weight.bias": torch.zeros(4)}
    [expected] = open_session(content, 1)(images.numpy())
    errors = []
    for tensors in (found, plain):
        [actual] = open_session(quantised(content, tensors), 1, in_floats=True)(images.numpy())
        errors.append(np.abs((actual - expected).mean(axis=(0, 2, 3))))
    scale = float(found["weight.output.range"].diff()) / 255
    assert errors[0].max() < 0.05 * scale < errors[1].max()


def test_a_graph_may_give_back_what_is_quantised():
    content = convolution(1)
    assert set(find_ranges(content, torch.rand(2, 4, 16, 16))) == {
        "weight.input.range",
        "weight.output.range",
        "weight.bias",
    }
    [output] = onnx.load_from_string(content).graph.output
    assert output.name == "features"
