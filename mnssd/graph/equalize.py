"""A pass that gives the channels of a tensor similar ranges, before quantization to 8 bits.

A tensor has one step for all of its channels. A channel whose values are small compared with the largest
channel uses few of the 256 integers. Channels can be scaled in the layers before and scaled back in the
layers after: ReLU, sums and depthwise convolutions do not mix them, and factors above 0 pass through ReLU.
The graph computes the same as before. ReLU6 has a limit that is the same for all channels, so what is before
and after it keeps its scale.

Nagel et al. 2019 ("Data-Free Quantization Through Weight Equalization and Bias Correction"), section 4.1;
here with ranges measured on images, as in SmoothQuant (Xiao et al. 2023), equation 4 with alpha 0.5.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Set

import mxnet as mx
import numpy as np

from .channels import ChannelGroups, is_crop, is_depthwise, is_plain
from .symbol_graph import Edge, Graph, Node

CHANNELWISE = ("elemwise_add", "_plus", "Pooling", "UpSampling", "_copy", "Dropout")
"""Operators that keep the factor of each channel, as ReLU does."""

LARGEST = 16.0
"""Largest factor between two channels, so that a channel that was quiet on the images does not saturate."""


class Equalizer:
    """Scales the channels of a graph from `graph.inference.fold`.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
    parameters : mapping of str to numpy.ndarray
        By the names of a parameter file.
    """

    def __init__(self, symbol: mx.sym.Symbol, parameters: Mapping[str, np.ndarray]) -> None:
        self._parameters = dict(parameters)
        graph = Graph(symbol, {name.split(":", 1)[1]: value.shape for name, value in parameters.items()})
        nodes, readers = graph.nodes(), graph.readers()
        own = [node for node in nodes if all(len(readers[source]) == 1 for source, _ in node.inputs[1:])]
        self._depthwise = [node for node in own if is_depthwise(graph, node)]
        self._dense = [node for node in own if is_plain(node)]
        self._groups = _group(graph, {*self._depthwise, *self._dense})
        self._members: Dict[Edge, List[str]] = {}
        for node in nodes:
            root = self._groups.find((node, 0))
            # What only a ReLU reads is never stored: the convolution applies it.
            is_inner = all(reader is not None and _is_relu(reader) for reader in readers[node])
            if node.op != "null" and not is_inner and root not in self._groups.fixed:
                self._members.setdefault(root, []).append(f"{node.name}_output")

    @property
    def tensors(self) -> List[str]:
        """Names of the tensors whose ranges `equalized` needs."""
        return [name for members in self._members.values() for name in members]

    def equalized(self, ranges: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """The parameters, scaled.

        `ranges` has the largest absolute value of each channel of the `tensors`.
        """
        factors = {
            root: self._factors(root, np.max([ranges[name] for name in members], axis=0))
            for root, members in self._members.items()
        }
        scaled = dict(self._parameters)
        for node in (*self._depthwise, *self._dense):
            before, after = (factors.get(self._groups.find(edge)) for edge in (node.inputs[0], (node, 0)))
            weight, *biases = (f"arg:{source.name}" for source, _ in node.inputs[1:])
            if before is not None:
                scaled[weight] = scaled[weight] / _along(0 if node in self._depthwise else 1, before)
            if after is not None:
                scaled[weight] = scaled[weight] * _along(0, after)
                scaled.update((bias, scaled[bias] * after) for bias in biases)
        return scaled

    def _factors(self, root: Edge, largest: np.ndarray) -> np.ndarray:
        """Factor of each channel, at least 1.

        A depthwise convolution has a step for each channel, so the ranges may become equal. The other ones
        have a step for all input channels of an output channel, so values and weights share the factor.
        """
        values = np.maximum(largest, max(largest.max() / LARGEST, np.finfo(np.float32).tiny))
        readers = [node for node in self._dense if self._groups.find(node.inputs[0]) == root]
        factors = 1 / values
        if readers:
            weights = np.max([self._weights_of_inputs(node) for node in readers], axis=0)
            factors = np.sqrt(np.maximum(weights, weights.max() / LARGEST) / values)
        return np.minimum(factors / factors.min(), LARGEST).astype(np.float32)

    def _weights_of_inputs(self, node: Node) -> np.ndarray:
        """Largest weight of each input channel, as a share of the largest weight of the output channel."""
        weight = np.abs(self._parameters[f"arg:{node.inputs[1][0].name}"])
        largest = weight.max(axis=(1, 2, 3), keepdims=True)
        return (weight / np.maximum(largest, np.finfo(np.float32).tiny)).max(axis=(0, 2, 3))


def _along(axis: int, factors: np.ndarray) -> np.ndarray:
    """Factors along an axis of weights ``(outputs, inputs, height, width)``."""
    return factors.reshape([-1 if axis == other else 1 for other in range(4)])


def _group(graph: Graph, convolutions: Set[Node]) -> ChannelGroups:
    """Tensors whose channels have the same factors; `fixed` are those that cannot be scaled."""
    groups = ChannelGroups()
    for node in graph.nodes():
        output = (node, 0)
        if node in convolutions:
            groups.find(output)
        elif node.op == "null":
            groups.fixed.add(groups.find(output))
        elif _keeps_factors(node):
            for edge in node.inputs[: 1 if is_crop(node) else None]:
                groups.tie(edge, output)
        else:
            groups.fixed.update(map(groups.find, [*node.inputs, output]))
    groups.fixed.update(map(groups.find, graph.outputs))
    return groups


def _keeps_factors(node: Node) -> bool:
    """Whether a factor above 0 of a channel of the inputs is the factor of the channel of the output."""
    return _is_relu(node) or node.op in CHANNELWISE or is_crop(node)


def _is_relu(node: Node) -> bool:
    return node.op == "relu" or (node.op == "Activation" and node.attrs.get("act_type") == "relu")
