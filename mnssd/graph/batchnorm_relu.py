"""Training passes: fuse BatchNorm and the activation after it into one oneDNN operator.

`clip` is not a oneDNN operator: each one costs two layout changes and a scalar kernel, in all 70 % of a
MobileNetV2 training step. MXNet has ``_contrib_BatchNormWithReLU``; two of them make a ReLU6.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import numpy as np

from .symbol_graph import Edge, Graph, Node

FUSED = "_contrib_BatchNormWithReLU"
"""Fused operator, which exists for oneDNN only."""

AFFINE = {"eps": "1e-12", "momentum": "0.9", "fix_gamma": "False", "use_global_stats": "True", "axis": "1"}
"""Attributes of a BatchNorm that only scales and shifts; 1 + 1e-12 is 1 in float32."""


def fuse_batchnorm_relu(graph: Graph) -> int:
    """Rewrite ``BatchNorm -> Activation(relu)`` into one operator; returns the number of rewritten pairs."""

    def matches(node: Node) -> bool:
        return node.op == "Activation" and node.attrs.get("act_type") == "relu"

    pairs = _pairs(graph, matches)
    graph.replace({act: Node(FUSED, act.name, list(norm.inputs), dict(norm.attrs)) for norm, act in pairs})
    return len(pairs)


def fuse_batchnorm_relu6(graph: Graph) -> int:
    """Rewrite ``BatchNorm -> clip(0, 6)`` into two fused operators; returns the number of rewritten pairs.

    ``relu6(b) = relu(6 - relu(6 - b))``. The inner ``6 - b`` is the BatchNorm with negated gamma and
    ``6 - beta``; the outer one is a BatchNorm with fixed statistics (gamma -1, beta 6, mean 0, variance 1),
    that is ``6 - x`` in oneDNN's own layout. The block's parameters and running statistics are unchanged.

    A NaN does not propagate: oneDNN's ReLU returns 0 for it, `clip` returns NaN. The running statistics do
    become NaN, so a check for failed training must look at them.
    """

    def matches(node: Node) -> bool:
        return node.op == "clip" and float(node.attrs["a_min"]) == 0 and float(node.attrs["a_max"]) == 6

    pairs = [(norm, act) for norm, act in _pairs(graph, matches) if not norm.flag("fix_gamma", True)]
    fused: Dict[Node, Node] = {}
    for norm, act in pairs:
        data, gamma, beta, mean, var = norm.inputs
        minus_gamma = Node("negative", act.name + "_minus_gamma", [gamma])
        six_minus_beta = Node("_rminus_scalar", act.name + "_six_minus_beta", [beta], {"scalar": "6"})
        flipped = [data, (minus_gamma, 0), (six_minus_beta, 0), mean, var]
        inner = Node(FUSED, act.name + "_inner", flipped, dict(norm.attrs))
        affine: List[Edge] = []
        for what, value in (("gamma", -1.0), ("beta", 6.0), ("mean", 0.0), ("var", 1.0)):
            constant = np.full(graph.shape(gamma[0]), value, np.float32)
            affine.append((graph.constant(f"{act.name}_{what}", constant), 0))
        fused[act] = Node(FUSED, act.name, [(inner, 0), *affine], dict(AFFINE))
    graph.replace(fused)
    return len(pairs)


def _pairs(graph: Graph, is_activation: Callable[[Node], bool]) -> List[Tuple[Node, Node]]:
    """(BatchNorm, activation) pairs without other readers in which the fused gradient is right."""
    readers = graph.readers()
    pairs = []
    for node in graph.nodes():
        if not is_activation(node):
            continue
        norm, index = node.inputs[0]
        if norm.op != "BatchNorm" or index != 0 or norm.attrs.get("axis", "1") != "1":
            continue
        convolution = norm.inputs[0][0]
        is_only_reader = len(readers[norm]) == len(readers[convolution]) == 1
        if is_only_reader and _is_blocked(graph, convolution):
            pairs.append((norm, node))
    return pairs


def _is_blocked(graph: Graph, source: Node) -> bool:
    """Whether `source` is a convolution whose output oneDNN writes in blocks of channels.

    That is so for multiples of the block in and out, and for the three channels of an image. MXNet 1.9.1: the
    fused operator records which values it set to zero in the layout of its input. If that is plain and the
    gradient arrives in blocks, the backward pass applies the record in the wrong order: the gradient is
    wrong, without an error. To see it, return True here: `tests/graph/test_passes.py` fails.
    """
    if source.op != "Convolution" or not graph.has_shape(source.inputs[1][0]):
        return False
    groups = int(source.attrs.get("num_group", "1"))
    channels = graph.shape(source.inputs[1][0])[1] * groups
    blocked_in = channels % graph.channel_block == 0 or channels == 3
    return blocked_in and int(source.attrs["num_filter"]) % graph.channel_block == 0
