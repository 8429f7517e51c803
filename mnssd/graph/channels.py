"""Passes that pad channel counts to multiples of oneDNN's block.

oneDNN stores tensors in blocks of 16 channels on processors with AVX-512, otherwise in blocks of 8
(`processor.channel_block`). With AVX-512 and channels that are not a multiple of 16 it uses blocks of 8; in
the backward pass data and gradient then have different layouts, and BatchNorm runs its reference loop, or
fails with "could not create a primitive descriptor iterator". ``DNNL_VERBOSE=1`` shows it. Padded with zero
weights, gammas and betas, the added channels are exactly zero and all tensors have the same layout.
"""

from __future__ import annotations

import ast
from typing import Dict, Optional, Set, Tuple

import numpy as np

from .symbol_graph import Edge, Graph, Node

CHANNELWISE = ("Activation", "clip", "elemwise_add", "Pooling", "UpSampling", "_copy")
"""Operators without parameters that compute each output channel from the same input channel."""


class ChannelGroups:
    """Sets of tensors whose channels belong together, as in a sum: a union-find over edges.

    `sources` has the channel counts of a set, `fixed` the sets whose channels cannot be changed.
    """

    def __init__(self) -> None:
        self.parent: Dict[Edge, Edge] = {}
        self.sources: Dict[Edge, Set[int]] = {}
        self.fixed: Set[Edge] = set()

    def find(self, edge: Edge) -> Edge:
        self.parent.setdefault(edge, edge)
        while self.parent[edge] != edge:
            edge = self.parent[edge]
        return edge

    def tie(self, a: Edge, b: Edge) -> None:
        first, second = self.find(a), self.find(b)
        if first != second:
            self.parent[second] = first
            self.sources.setdefault(first, set()).update(self.sources.pop(second, set()))
            if second in self.fixed:
                self.fixed.add(first)

    def count(self, edge: Edge) -> Optional[int]:
        """Channels of a tensor; None if they cannot be changed."""
        root = self.find(edge)
        counts = self.sources.get(root, set())
        return next(iter(counts)) if len(counts) == 1 and root not in self.fixed else None


def pad_channels(graph: Graph) -> int:
    """Pad all channel counts but those of the graph's inputs and outputs; returns the number of convolutions.

    Parameters keep their arrays: the graph appends constant zeros to them. Running statistics are written, so
    they become variables of their own, see ``graph.padded_statistics``.
    """
    groups = tie_channels(graph)
    changed = 0
    zeros = _Zeros(graph, "zeros")

    def padded_count(edge: Edge) -> int:
        """Padded channel count of a tensor, 0 if it is not padded."""
        count = groups.count(edge) or 0
        return _round_up(count, graph.channel_block) if count % graph.channel_block else 0

    for node in graph.nodes():
        if is_plain(node) or is_depthwise(graph, node):
            changed += _pad_convolution(node, padded_count(node.inputs[0]), padded_count((node, 0)), zeros)
        elif is_norm(node):
            count = padded_count(node.inputs[0])
            if count:
                _pad_norm(graph, node, count, zeros)
    return changed


def pad_outputs(graph: Graph) -> int:
    """Pad the remaining convolutions, such as predictors, and slice the added channels off; returns how many.

    oneDNN computes odd channel counts by matrix products on copies (``gemm``), several times slower than its
    own convolutions. Run it after `pad_channels`, and before passes that rely on oneDNN's layouts, as a slice
    has the plain one.
    """
    zeros = _Zeros(graph, "output_zeros")
    cut: Dict[Node, Node] = {}
    for node in graph.nodes():
        count = int(node.attrs["num_filter"]) if is_predictor(graph, node) else 0
        if count % graph.channel_block:
            _pad_outputs(node, _round_up(count, graph.channel_block), zeros)
            attrs = {"axis": "1", "begin": "0", "end": str(count)}
            cut[node] = Node("slice_axis", f"{node.name}_cut", [(node, 0)], attrs)
    graph.replace(cut)
    return len(cut)


def _round_up(count: int, block: int) -> int:
    return -(-count // block) * block


def is_predictor(graph: Graph, node: Node) -> bool:
    """Whether a node is a convolution with one group whose parameter shapes are known."""
    if node.op != "Convolution" or node.attrs.get("num_group", "1") != "1" or not channels_first(node):
        return False
    return all(graph.has_shape(source) for source, _ in node.inputs[1:])


def is_plain(node: Node) -> bool:
    """Whether a node is a convolution with one group and parameters of its own."""
    return _is_convolution(node) and node.attrs.get("num_group", "1") == "1"


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether a node is a depthwise convolution, one filter per channel."""
    groups = node.attrs.get("num_group", "1")
    if not _is_convolution(node) or groups == "1" or groups != node.attrs["num_filter"]:
        return False
    return graph.shape(node.inputs[1][0])[1] == 1


def _is_convolution(node: Node) -> bool:
    return node.op == "Convolution" and channels_first(node) and _has_own_parameters(node)


def channels_first(node: Node) -> bool:
    return node.attrs.get("layout", "None") in ("None", "NCW", "NCHW", "NCDHW")


def is_norm(node: Node) -> bool:
    """Whether a node is a BatchNorm over channels that outputs no statistics."""
    if node.op != "BatchNorm" or node.attrs.get("axis", "1") != "1" or node.flag("output_mean_var"):
        return False
    return _has_own_parameters(node)


def is_crop(node: Node) -> bool:
    """Whether a node cuts a tensor to the height and width of another one."""
    return node.op == "slice_like" and sorted(ast.literal_eval(node.attrs.get("axes", "()"))) == [2, 3]


def _has_own_parameters(node: Node) -> bool:
    """Whether all inputs but the data are variables, to which zeros can be appended."""
    return all(source.op == "null" for source, _ in node.inputs[1:])


def tie_channels(graph: Graph) -> ChannelGroups:
    """Group the tensors of a graph by shared channel counts; unknown operators fix theirs."""
    groups = ChannelGroups()
    for node in graph.nodes():
        output = (node, 0)
        if is_plain(node):
            groups.sources.setdefault(groups.find(output), set()).add(int(node.attrs["num_filter"]))
        elif is_depthwise(graph, node) or is_norm(node) or is_crop(node):
            groups.tie(node.inputs[0], output)
        elif node.op in CHANNELWISE:
            for edge in node.inputs:
                groups.tie(edge, output)
        else:  # an input of the graph, or may use channels in any way
            groups.fixed.update(map(groups.find, [*node.inputs, output]))
    groups.fixed.update(map(groups.find, graph.outputs))
    return groups


class _Zeros:
    """Appends zeros to parameters, with one constant per shape."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name
        self.constants: Dict[Tuple[int, ...], Node] = {}

    def append(self, edge: Edge, axis: int, count: int) -> Edge:
        """Pad the parameter `edge` with zeros to `count` along `axis`."""
        sides = list(self.graph.shape(edge[0]))
        sides[axis] = count - sides[axis]
        shape = tuple(sides)
        if shape not in self.constants:
            name = f"{self.name}_{'x'.join(map(str, shape))}"
            self.constants[shape] = self.graph.constant(name, np.zeros(shape, np.float32))
        attrs = {"dim": str(axis), "num_args": "2"}
        inputs = [edge, (self.constants[shape], 0)]
        return Node("Concat", f"{edge[0].name}_to_{count}_{axis}", inputs, attrs), 0


def _pad_convolution(node: Node, inputs: int, outputs: int, zeros: _Zeros) -> int:
    if not is_plain(node) and outputs:
        node.attrs["num_group"] = str(outputs)
    elif is_plain(node) and inputs:
        node.inputs[1] = zeros.append(node.inputs[1], 1, inputs)
    if outputs:
        _pad_outputs(node, outputs, zeros)
    return int(bool(inputs or outputs))


def _pad_outputs(node: Node, count: int, zeros: _Zeros) -> None:
    node.attrs["num_filter"] = str(count)
    for position in (1,) if node.flag("no_bias") else (1, 2):
        node.inputs[position] = zeros.append(node.inputs[position], 0, count)


def _pad_norm(graph: Graph, node: Node, count: int, zeros: _Zeros) -> None:
    for position in (1, 2):
        node.inputs[position] = zeros.append(node.inputs[position], 0, count)
    for position in (3, 4):
        statistic = node.inputs[position][0]
        node.inputs[position] = (graph.pad_statistic(statistic.name, count), 0)
