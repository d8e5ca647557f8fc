"""A backbone in whole numbers of eight bits: an ONNX graph with quantised convolutions, made from one in floats.

Activations are stored as numbers from 0 to 255 between the ends of a range, weights as numbers from -127 to 127 with a
scale for each output channel. A graph says so by pairs of nodes that quantise and dequantise. ONNX Runtime merges them
with the convolutions and sums between them, which then multiply whole numbers; told not to, it computes the same in
floats.

Ranges, and what is added to biases, come as tensors by name: ``NAME.range``, ``(2,)``, and ``WEIGHT.bias``,
``(channels,)``. Names are those of weights, which do not depend on who exported the graph.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import Tensor

from training.base.errors import BundleError

__all__ = ["Convolution", "activations", "convolutions", "quantised", "rounded_weights"]

_ACTIVATIONS = ("Clip", "Relu")  # ONNX Runtime makes them part of the convolution before them
_LEAST = 1e-6  # scale of a weight's channel that is zero

Floats = NDArray[np.float32]


class Convolution(NamedTuple):
    """A convolution of a graph: the names of its input, its weight and its bias, if it has one; and the values.

    Attributes:
        values: weights, ``(channels, inputs of a group, height, width)``.
        offsets: bias, ``(channels,)``.
    """

    source: str
    weight: str
    bias: str | None
    values: Floats
    offsets: Floats


def convolutions(model: ModelProto) -> dict[str, Convolution]:
    """The convolutions of a graph by the name of their weight; a weight may be used by more than one node."""
    known = {each.name: each for each in model.graph.initializer}
    found = {}
    for node in _convolutions(model):
        values = numpy_helper.to_array(known[node.input[1]])
        bias = node.input[2] if len(node.input) > 2 else None
        offsets = numpy_helper.to_array(known[bias]) if bias else np.zeros(len(values), np.float32)
        found[node.input[1]] = Convolution(node.input[0], node.input[1], bias, values, offsets)
    return found


def activations(model: ModelProto) -> dict[str, str]:
    """The tensors of a graph that are quantised, in the order in which they are computed.

    Returns:
        By the tensor's name in this graph, a name that another export has as well.
    """
    users: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    weights = convolutions(model)
    found: dict[str, str] = {}
    last = ""
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in weights:
            last = node.input[1]
            found.setdefault(node.input[0], f"{last}.input")
            output = node.output[0]
            after = users.get(output, [])
            if len(after) == 1 and after[0].op_type in _ACTIVATIONS:
                output = after[0].output[0]
            found[output] = f"{last}.output"
        elif node.op_type == "Add" and all(name in found for name in node.input):
            found[node.output[0]] = f"{last}.sum"
    return found


def rounded_weights(values: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Weights as whole numbers, of the same shape, and the scale of each channel, ``(channels,)``."""
    scales = np.maximum(np.abs(values).reshape(len(values), -1).max(axis=1) / 127, _LEAST).astype(np.float32)
    whole = np.rint(values / scales.reshape(-1, *[1] * (values.ndim - 1)))
    return whole.astype(np.int8), scales


def quantised(content: bytes, tensors: Mapping[str, Tensor]) -> bytes:
    """Makes an ONNX model one of eight bits.

    Args:
        content: the model in floats.
        tensors: ranges and biases by name.

    Raises:
        BundleError: if the tensors are those of another backbone, or no numbers.
    """
    model = onnx.load_from_string(content)
    names, weights = activations(model), convolutions(model)
    expected = {f"{name}.range" for name in names.values()} | {f"{name}.bias" for name in weights}
    if differing := sorted(expected ^ tensors.keys()):
        raise BundleError(
            f"the eight-bit ranges are not those of this backbone ({len(differing)} names differ, {differing[0]} among "
            "them); run `svdraw quantize` again"
        )
    if strange := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise BundleError(f"{strange[0]} of the eight-bit ranges is not finite; run `svdraw quantize` again")
    rewritten: bytes = _Quantiser(model, names, weights, tensors).run().SerializeToString()
    return rewritten


def _convolutions(model: ModelProto) -> Iterator[NodeProto]:
    constant = {each.name for each in model.graph.initializer}
    return (node for node in model.graph.node if node.op_type == "Conv" and set(node.input[1:]) <= constant)


class _Quantiser:
    """Rewrites a graph node by node."""

    def __init__(
        self,
        model: ModelProto,
        names: Mapping[str, str],
        weights: Mapping[str, Convolution],
        tensors: Mapping[str, Tensor],
    ) -> None:
        self.model = model
        self.names = names
        self.weights = weights
        self.tensors = tensors
        self.scales: dict[str, np.float32] = {}
        self.constants: dict[str, NDArray[np.generic]] = {}

    def run(self) -> ModelProto:
        """Returns the rewritten graph, without the weights that it no longer needs."""
        graph = self.model.graph
        nodes = list(self._activation(graph.input[0].name))
        for node in graph.node:
            nodes += self._node(node)
            for output in node.output:
                nodes += self._activation(output)
        used = {name for node in nodes for name in node.input}
        kept = [each for each in graph.initializer if each.name in used]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(kept)
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.constants.items())
        return self.model

    def _activation(self, tensor: str) -> Iterable[NodeProto]:
        """Nodes that quantise and dequantise a tensor; none if it stays as it is."""
        if tensor not in self.names:
            return ()
        low, high = self.tensors[f"{self.names[tensor]}.range"].double().tolist()
        low, high = min(low, 0.0), max(high, 0.0)  # zero must be exact, because convolutions pad with it
        self.scales[tensor] = scale = np.float32(max((high - low) / 255, _LEAST))
        zero = np.array(np.clip(np.rint(-low / scale), 0, 255), np.uint8)
        return self._pair(tensor, np.array(scale), zero)

    def _node(self, node: NodeProto) -> Iterable[NodeProto]:
        """The node with dequantised inputs, after those that dequantise its weights."""
        before: list[NodeProto] = []
        if node.op_type == "Conv" and node.input[1] in self.weights:
            weight = self.weights[node.input[1]]
            # ONNX Runtime changes the weights of each node, and fails if a second node has the same.
            name = f"{weight.weight} {len(self.constants)}"
            before = self._weights(name, weight, self.scales[node.input[0]])
            inputs = [node.input[0], f"{name} whole", f"{name} bias"]
            del node.input[:]
            node.input.extend(_dequantised(each) for each in inputs)
        elif node.op_type != "Shape":
            for position, name in enumerate(node.input):
                if name in self.scales:
                    node.input[position] = _dequantised(name)
        return [*before, node]

    def _weights(self, name: str, weight: Convolution, scale: np.float32) -> list[NodeProto]:
        values, scales = rounded_weights(weight.values)
        bias = weight.offsets + self.tensors[f"{weight.weight}.bias"].float().numpy()
        # A channel whose weights are next to nothing must still have room for its bias.
        scales = np.maximum(scales, np.abs(bias) / (scale * 2.0**30)).astype(np.float32)
        values = np.rint(weight.values / scales.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        return [
            self._dequantise(f"{name} whole", values, scales),
            self._dequantise(f"{name} bias", np.rint(bias / (scale * scales)).astype(np.int32), scale * scales),
        ]

    def _dequantise(self, name: str, values: NDArray[np.integer], scales: Floats) -> NodeProto:
        zeros = np.zeros(len(scales), values.dtype)
        self.constants |= {name: values, f"{name} scales": scales, f"{name} zeros": zeros}
        return helper.make_node(
            "DequantizeLinear", [name, f"{name} scales", f"{name} zeros"], [_dequantised(name)], axis=0
        )

    def _pair(self, tensor: str, scale: NDArray[np.float32], zero: NDArray[np.uint8]) -> list[NodeProto]:
        self.constants |= {f"{tensor} scale": scale, f"{tensor} zero": zero}
        code = [f"{tensor} scale", f"{tensor} zero"]
        return [
            helper.make_node("QuantizeLinear", [tensor, *code], [f"{tensor} quantised"]),
            helper.make_node("DequantizeLinear", [f"{tensor} quantised", *code], [_dequantised(tensor)]),
        ]


def _dequantised(name: str) -> str:
    return f"{name} dequantised"
