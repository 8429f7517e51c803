"""Inference pass: fold BatchNorm into the convolution before it.

Jacob et al. 2018 ("Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference"), section 3.2.
"""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

import numpy as np

from .channels import channels_first
from .symbol_graph import Graph, Node

DEFAULT_EPS = "0.001"
"""BatchNorm's epsilon if the graph has none (src/operator/nn/batch_norm-inl.h in MXNet 1.9.1)."""


def fold_batchnorm(graph: Graph, arrays: Mapping[str, np.ndarray]) -> int:
    """Fold each BatchNorm that is the only reader of a Convolution into that convolution.

    The new weights and biases become constants of the graph; other BatchNorms stay. Inference outputs are the
    same; the graph cannot be trained.

    `arrays` has parameters and running statistics by name. Returns the number of folded BatchNorms.
    """
    readers = graph.readers()
    read = {edge for node in graph.nodes() for edge in node.inputs} | set(graph.outputs)
    folded: Dict[Node, Node] = {}
    for norm in graph.nodes():
        conv = _convolution_before(norm, arrays)
        if conv is None or len(readers[conv]) > 1:
            continue
        if not {(norm, 1), (norm, 2)} & read:  # output statistics
            weight, bias = _folded_parameters(conv, norm, arrays)
            inputs = [
                conv.inputs[0],
                (graph.constant(f"{conv.name}_folded_weight", weight), 0),
                (graph.constant(f"{conv.name}_folded_bias", bias), 0),
            ]
            folded[norm] = Node("Convolution", conv.name, inputs, {**conv.attrs, "no_bias": "False"})
    graph.replace(folded)
    return len(folded)


def _convolution_before(norm: Node, arrays: Mapping[str, np.ndarray]) -> Optional[Node]:
    """The convolution that `norm` can be folded into, or None."""
    if norm.op != "BatchNorm" or norm.attrs.get("axis", "1") != "1":
        return None
    conv = norm.inputs[0][0]
    if conv.op != "Convolution" or not channels_first(conv):
        return None
    parameters = [node for node, _ in conv.inputs[1:] + norm.inputs[1:]]
    return conv if all(node.op == "null" and node.name in arrays for node in parameters) else None


def _folded_parameters(
    conv: Node, norm: Node, arrays: Mapping[str, np.ndarray]
) -> Tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the folded convolution, computed in float64, in the weight's type."""
    weight, *biases = (arrays[node.name].astype(np.float64) for node, _ in conv.inputs[1:])
    gamma, beta, mean, variance = (arrays[node.name].astype(np.float64) for node, _ in norm.inputs[1:])
    if norm.flag("fix_gamma", True):  # MXNet then uses 1
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(variance + float(norm.attrs.get("eps", DEFAULT_EPS)))  # (channels,)
    bias = beta + scale * ((biases[0] if biases else 0.0) - mean)
    dtype = arrays[conv.inputs[1][0].name].dtype
    # Output channels are the first axis of the weight, also with groups.
    return (weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1))).astype(dtype), bias.astype(dtype)
