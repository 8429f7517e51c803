"""Passes that pad channel counts to multiples of oneDNN's block.

oneDNN stores tensors in blocks of 16 channels on processors with AVX-512, otherwise in blocks of 8
(`processor.channel_block`). With AVX-512 and channels that are not a multiple of 16 it uses blocks of 8; in
the backward pass data and gradient then have different layouts, and BatchNorm runs its reference loop, or
fails with "could not create a primitive descriptor iterator". ``DNNL_VERBOSE=1`` shows it. Padded with zero
weights, gammas and betas, the added channels are exactly zero and all tensors have the same layout.
"""

from __future__ import annotations

from typing import Dict, List, Set, Tuple

import numpy as np

from .symbol_graph import Edge, Graph, Node

CHANNELWISE = ("Activation", "clip", "elemwise_add", "Pooling", "_copy")
"""Operators without parameters that compute each output channel from the same input channel."""


class ChannelGroups:
    """Sets of tensors that must have the same channel count: a union-find over edges."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.parent: Dict[Tuple[int, int], Tuple[int, int]] = {}
        self.sources: Dict[Tuple[int, int], Set[int]] = {}
        self.fixed: Set[Tuple[int, int]] = set()

    def find(self, edge: Edge) -> Tuple[int, int]:
        key = (id(edge[0]), edge[1])
        self.parent.setdefault(key, key)
        while self.parent[key] != key:
            key = self.parent[key]
        return key

    def tie(self, a: Edge, b: Edge) -> None:
        first, second = self.find(a), self.find(b)
        if first != second:
            self.parent[second] = first
            self.sources.setdefault(first, set()).update(self.sources.pop(second, set()))
            if second in self.fixed:
                self.fixed.add(first)

    def padded_count(self, edge: Edge) -> int:
        """Padded channel count of a tensor, 0 if it is not padded."""
        root = self.find(edge)
        counts = self.sources.get(root, set())
        if root in self.fixed or len(counts) != 1:
            return 0
        (count,) = counts
        return _round_up(count, self.block) if count % self.block else 0


def pad_channels(graph: Graph) -> int:
    """Pad channel counts to multiples of ``graph.channel_block``, except those of the graph's inputs and
    outputs.

    Parameters keep their arrays: the graph appends constant zeros to them. Running statistics are written, so
    they become variables of their own, see ``graph.padded_statistics``.

    Returns
    -------
    int
        Number of padded convolutions.
    """
    groups = tie_channels(graph)
    changed = 0
    zeros = _Zeros(graph, "zeros")
    for node in graph.nodes():
        if is_plain(node) or is_depthwise(graph, node):
            changed += _pad_convolution(node, groups, zeros)
        elif is_norm(node):
            count = groups.padded_count(node.inputs[0])
            if count:
                _pad_norm(graph, node, count, zeros)
    return changed


def pad_outputs(graph: Graph) -> int:
    """Pad the remaining convolutions, such as a detector's predictors, and slice the added channels off.

    oneDNN computes odd channel counts by matrix products on copies (``gemm``), several times slower than its
    own convolutions. Run it after `pad_channels`, and before passes that rely on oneDNN's layouts, as a slice
    has the plain one.

    Returns
    -------
    int
        Number of padded convolutions.
    """
    zeros = _Zeros(graph, "output_zeros")
    cut: Dict[int, Node] = {}
    for node in graph.nodes():
        count = int(node.attrs["num_filter"]) if is_predictor(graph, node) else 0
        if count % graph.channel_block:
            _pad_outputs(node, _round_up(count, graph.channel_block), zeros)
            attrs = {"axis": "1", "begin": "0", "end": str(count)}
            cut[id(node)] = Node("slice_axis", f"{node.name}_cut", [(node, 0)], attrs)
    cutters = {id(node) for node in cut.values()}
    for node in graph.nodes():
        if id(node) not in cutters:
            node.inputs = [(cut.get(id(source), source), index) for source, index in node.inputs]
    graph.outputs = [(cut.get(id(source), source), index) for source, index in graph.outputs]
    return len(cut)


def _round_up(count: int, block: int) -> int:
    return -(-count // block) * block


def is_predictor(graph: Graph, node: Node) -> bool:
    """Whether a node is a convolution with one group whose parameter shapes are known."""
    if node.op != "Convolution" or node.attrs.get("num_group", "1") != "1" or not _channels_first(node):
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
    return node.op == "Convolution" and _channels_first(node) and _has_own_parameters(node)


def _channels_first(node: Node) -> bool:
    return node.attrs.get("layout", "None") in ("None", "NCW", "NCHW", "NCDHW")


def is_norm(node: Node) -> bool:
    """Whether a node is a BatchNorm over channels that outputs no statistics."""
    if node.op != "BatchNorm" or node.attrs.get("axis", "1") != "1" or node.flag("output_mean_var"):
        return False
    return _has_own_parameters(node)


def _has_own_parameters(node: Node) -> bool:
    """Whether all inputs but the data are variables, to which zeros can be appended."""
    return all(source.op == "null" for source, _ in node.inputs[1:])


def tie_channels(graph: Graph) -> ChannelGroups:
    """Group the tensors of a graph by shared channel counts; unknown operators fix theirs."""
    groups = ChannelGroups(graph.channel_block)
    for node in graph.nodes():
        if node.op == "null":
            continue
        if is_depthwise(graph, node):
            groups.tie(node.inputs[0], (node, 0))
        elif is_plain(node):
            groups.sources.setdefault(groups.find((node, 0)), set()).add(int(node.attrs["num_filter"]))
        elif is_norm(node):
            groups.tie(node.inputs[0], (node, 0))
        elif node.op in CHANNELWISE:
            for edge in node.inputs:
                groups.tie(edge, (node, 0))
        else:  # may use channels in any way
            for edge in [*node.inputs, (node, 0)]:
                groups.fixed.add(groups.find(edge))
    for edge in graph.outputs:
        groups.fixed.add(groups.find(edge))
    for node in graph.nodes():  # inputs of the graph
        if node.op == "null":
            groups.fixed.add(groups.find((node, 0)))
    return groups


class _Zeros:
    """Appends zeros to parameters, with one constant per shape."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name
        self.constants: Dict[Tuple[int, ...], Node] = {}

    def append(self, edge: Edge, axis: int, count: int) -> Edge:
        """Pad the parameter `edge` with zeros to `count` along `axis`."""
        shape = list(self.graph.shape(edge[0]))
        missing = count - shape[axis]
        shape[axis] = missing
        key = tuple(shape)
        if key not in self.constants:
            name = f"{self.name}_{'x'.join(map(str, key))}"
            self.constants[key] = self.graph.constant(name, np.zeros(key, np.float32))
        attrs = {"dim": str(axis), "num_args": "2"}
        node = Node("Concat", f"{edge[0].name}_to_{count}_{axis}", [edge, (self.constants[key], 0)], attrs)
        return node, 0


def _pad_convolution(node: Node, groups: ChannelGroups, zeros: _Zeros) -> int:
    inputs = groups.padded_count(node.inputs[0])
    outputs = groups.padded_count((node, 0))
    if is_plain(node):
        if inputs:
            node.inputs[1] = zeros.append(node.inputs[1], 1, inputs)
    elif outputs:
        node.attrs["num_group"] = str(outputs)
    if outputs:
        _pad_outputs(node, outputs, zeros)
    return int(bool(inputs or outputs))


def _pad_outputs(node: Node, count: int, zeros: _Zeros) -> None:
    node.attrs["num_filter"] = str(count)
    parameters: List[int] = [1] if node.flag("no_bias") else [1, 2]
    for position in parameters:
        node.inputs[position] = zeros.append(node.inputs[position], 0, count)


def _pad_norm(graph: Graph, node: Node, count: int, zeros: _Zeros) -> None:
    for position in (1, 2):
        node.inputs[position] = zeros.append(node.inputs[position], 0, count)
    for position in (3, 4):
        statistic = node.inputs[position][0]
        node.inputs[position] = (graph.pad_statistic(statistic.name, count), 0)
