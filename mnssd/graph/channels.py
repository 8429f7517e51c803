"""Channel counts that fill whole vectors.

oneDNN keeps a tensor in blocks of 16 channels where the processor has AVX-512, and in blocks of 8
elsewhere (`processor.channel_block`). Where 16 does not go into the channels, AVX-512 makes do with blocks
of 8; in the backward pass the data and its gradient then meet in different layouts, and BatchNorm falls
into its reference loop (or finds no implementation at all: "could not create a primitive descriptor
iterator"). ``DNNL_VERBOSE=1`` shows it. With zero weights, gammas and betas up to the next whole block the
added channels are exactly zero everywhere and everything stays in one layout.
"""

from __future__ import annotations

from typing import Dict, List, Set, Tuple

import numpy as np

from .symbol_graph import Edge, Graph, Node

CHANNELWISE = ("Activation", "clip", "elemwise_add", "Pooling", "_copy")
"""Operators without parameters whose output has its input's channels, each computed from its own."""


class ChannelGroups:
    """Tensors tied to one channel count: a union-find over edges."""

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
        """The count this tensor is to have, 0 when it stays as it is."""
        root = self.find(edge)
        counts = self.sources.get(root, set())
        if root in self.fixed or len(counts) != 1:
            return 0
        (count,) = counts
        return _whole(count, self.block) if count % self.block else 0


def pad_channels(graph: Graph) -> int:
    """Pad channel counts to multiples of ``graph.channel_block`` wherever it cannot be seen from outside.

    Parameters keep their arrays: the graph appends constant zeros to them. Running statistics cannot
    be computed, so they become variables of their own, listed in ``graph.lengthened``.

    Returns
    -------
    int
        How many convolutions changed.
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
    """Pad convolutions whose channels are seen from outside, and cut the added ones off behind them.

    A detector's predictors have odd channel counts; oneDNN computes those by matrix products on copies
    (``gemm``), several times slower than its own convolutions. Run it after `pad_channels`, and before a
    pass that relies on oneDNN's layouts: what is cut is in the plain one.

    Returns
    -------
    int
        How many convolutions changed.
    """
    zeros = _Zeros(graph, "output_zeros")
    cut: Dict[int, Node] = {}
    for node in graph.nodes():
        count = int(node.attrs["num_filter"]) if is_predictor(graph, node) else 0
        if count % graph.channel_block:
            _pad_outputs(node, _whole(count, graph.channel_block), zeros)
            attrs = {"axis": "1", "begin": "0", "end": str(count)}
            cut[id(node)] = Node("slice_axis", f"{node.name}_cut", [(node, 0)], attrs)
    cutters = {id(node) for node in cut.values()}
    for node in graph.nodes():
        if id(node) not in cutters:
            node.inputs = [(cut.get(id(source), source), index) for source, index in node.inputs]
    graph.outputs = [(cut.get(id(source), source), index) for source, index in graph.outputs]
    return len(cut)


def _whole(count: int, block: int) -> int:
    """The next multiple of `block`."""
    return -(-count // block) * block


def is_predictor(graph: Graph, node: Node) -> bool:
    """A convolution in which every output sees every input, of parameters whose shapes are known."""
    if node.op != "Convolution" or node.attrs.get("num_group", "1") != "1" or not _channels_first(node):
        return False
    return all(graph.has_shape(source) for source, _ in node.inputs[1:])


def is_plain(node: Node) -> bool:
    """A convolution in which every output sees every input."""
    return _is_convolution(node) and node.attrs.get("num_group", "1") == "1"


def is_depthwise(graph: Graph, node: Node) -> bool:
    """A convolution of each channel with one filter of its own."""
    groups = node.attrs.get("num_group", "1")
    if not _is_convolution(node) or groups == "1" or groups != node.attrs["num_filter"]:
        return False
    return graph.shape(node.inputs[1][0])[1] == 1


def _is_convolution(node: Node) -> bool:
    return node.op == "Convolution" and _channels_first(node) and _has_own_parameters(node)


def _channels_first(node: Node) -> bool:
    return node.attrs.get("layout", "None") in ("None", "NCW", "NCHW", "NCDHW")


def is_norm(node: Node) -> bool:
    """A BatchNorm over channels whose statistics nobody else reads."""
    if node.op != "BatchNorm" or node.attrs.get("axis", "1") != "1" or node.flag("output_mean_var"):
        return False
    return _has_own_parameters(node)


def _has_own_parameters(node: Node) -> bool:
    """Whether all but the data are variables, to which zeros can be appended."""
    return all(source.op == "null" for source, _ in node.inputs[1:])


def tie_channels(graph: Graph) -> ChannelGroups:
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
        else:  # it may look at the channels in any way: nothing it reads or makes is touched
            for edge in [*node.inputs, (node, 0)]:
                groups.fixed.add(groups.find(edge))
    for edge in graph.outputs:
        groups.fixed.add(groups.find(edge))
    for node in graph.nodes():  # inputs of the whole graph come from outside
        if node.op == "null":
            groups.fixed.add(groups.find((node, 0)))
    return groups


class _Zeros:
    """Appends zeros to parameters, each constant made once."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name
        self.made: Dict[Tuple[int, ...], Node] = {}

    def append(self, edge: Edge, axis: int, count: int) -> Edge:
        """`edge`, a parameter, with zeros after its end along `axis`, `count` long in all."""
        shape = list(self.graph.shape(edge[0]))
        missing = count - shape[axis]
        shape[axis] = missing
        key = tuple(shape)
        if key not in self.made:
            name = f"{self.name}_{'x'.join(map(str, key))}"
            self.made[key] = self.graph.constant(name, np.zeros(key, np.float32))
        attrs = {"dim": str(axis), "num_args": "2"}
        node = Node("Concat", f"{edge[0].name}_to_{count}_{axis}", [edge, (self.made[key], 0)], attrs)
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
        node.inputs[position] = (graph.lengthen(statistic.name, count), 0)
