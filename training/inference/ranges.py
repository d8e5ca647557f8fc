"""Finds how a backbone is quantised best: from what it computes for some images, in single precision.

The range of each activation is the one that rounds and clips the values seen with the least squared error. Rounded
weights change the mean of what a convolution computes; its bias takes that back. Without it, sketches lose most: they
are alike, so that a small shift of every feature is large beside what tells them apart.
"""

from collections.abc import Iterable

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, helper
from torch import Tensor

from training.inference.quantised import Convolution, activations, convolutions, rounded_weights
from training.inference.sessions import open_session

__all__ = ["find_ranges", "least_squares_range"]

_KEPT = 1000  # values of each tensor and image that ranges are chosen from
_FACTORS = np.linspace(0.3, 1, 36)  # of the largest range

Floats = NDArray[np.float32]


def find_ranges(content: bytes, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Runs a backbone on images and chooses what ``quantised`` needs.

    Args:
        content: the backbone as an ONNX model in floats.
        images: preprocessed, each ``(3, size, size)``; 200 of what the backbone is to see are enough.

    Returns:
        Ranges and biases by name; see ``training.inference.quantised``.
    """
    model = onnx.load_from_string(content)
    names, weights = activations(model), convolutions(model)
    values: dict[str, list[Floats]] = {name: [] for name in names.values()}
    means: dict[str, list[NDArray[np.float64]]] = {each.source: [] for each in weights.values()}
    source = model.graph.input[0].name
    computed = [tensor for tensor in names if tensor != source]
    run = open_session(_with_outputs(model, computed), threads=1)
    for image in images:
        batch = image[None].numpy()
        for tensor, seen in [(source, batch), *zip(computed, run(batch), strict=True)]:
            values[names[tensor]].append(_some(seen))
            if tensor in means:
                means[tensor].append(seen.mean(axis=(0, 2, 3), dtype=np.float64))
    found = {f"{name}.range": _tensor(least_squares_range(np.concatenate(seen))) for name, seen in values.items()}
    for name, weight in weights.items():
        found[f"{name}.bias"] = _tensor(_correction(weight, np.mean(means[weight.source], axis=0)))
    return found


def least_squares_range(values: Floats) -> tuple[float, float]:
    """The range in which eight bits say these values, ``(n,)``, with the least squared error.

    Returns:
        Its ends; zero lies between them.
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if low == high:
        return low, high
    errors = []
    for factor in _FACTORS:
        scale = factor * (high - low) / 255
        zero = np.rint(-factor * low / scale)
        rounded = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
        errors.append(float(np.square(rounded - values).mean()))
    best = float(_FACTORS[int(np.argmin(errors))])
    return best * low, best * high


def _correction(weight: Convolution, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What rounding the weights takes from the mean of each channel, ``(channels,)``; padding is left out of account.

    Args:
        weight: the convolution.
        means: mean of each channel of its input, ``(inputs,)``.
    """
    whole, scales = rounded_weights(weight.values)
    lost = (weight.values - whole * scales[:, None, None, None]).sum(axis=(2, 3), dtype=np.float64)
    groups = len(means) // lost.shape[1]
    inputs = np.repeat(means.reshape(groups, -1), len(lost) // groups, axis=0)
    correction: NDArray[np.float64] = (lost * inputs).sum(axis=1)
    return correction


def _with_outputs(model: ModelProto, names: Iterable[str]) -> bytes:
    """The model with these tensors as its outputs; its input cannot be one."""
    copied = ModelProto()
    copied.CopyFrom(model)
    del copied.graph.output[:]
    copied.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    content: bytes = copied.SerializeToString()
    return content


def _some(values: Floats) -> Floats:
    """Values at even distances, and both extremes."""
    flat = values.ravel()
    some: Floats = np.append(flat[:: max(1, len(flat) // _KEPT)], [flat.min(), flat.max()]).astype(np.float32)
    return some


def _tensor(values: tuple[float, float] | NDArray[np.float64]) -> Tensor:
    return torch.as_tensor(np.asarray(values, np.float32))
