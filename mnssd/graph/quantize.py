"""8-bit quantization of convolutions, for oneDNN."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

import mxnet as mx
from mxnet.contrib import quantization

from .symbol_graph import Graph, Node

BACKEND = "MKLDNN_QUANTIZE"
"""Backend of MXNet 1.9.1 that fuses operators before and after quantization."""

CONVOLUTION = "_sg_mkldnn_conv"
"""Operator of a fused convolution."""

PREFIX = "quantized_"
"""Prefix that MXNet gives the names of quantized nodes."""

LARGEST = {"uint8": 255.5, "int8": 127.5}
"""Divisors of a range that give the quantization step in MXNet 1.9.1: ``kUint8Range`` and ``kInt8Range`` in
src/operator/quantization."""

IN_FLOATS = (
    "_sg_mkldnn_fully_connected", "Pooling", "Concat", "Flatten", "Activation", "elemwise_add",
    "elemwise_mul", "Embedding", "BatchNorm",
)  # fmt: skip
"""Operators that are not quantized: they take little time and would each add a rounding. FullyConnected fails
to bind in MXNet 1.9.1 for some input widths; to see it, remove it here and export a MobileNetV1 classifier.
"""


def fuse_for_int8(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """Fuse convolutions, activations and additions of a folded graph into nodes that `quantize` quantizes."""
    return symbol.get_backend_symbol(BACKEND)


def quantize(fused: mx.sym.Symbol, ranges: Mapping[str, Tuple[float, float]]) -> mx.sym.Symbol:
    """Quantize a fused graph to 8 bits; `ranges` are minimum and maximum of its `tensors_to_calibrate`.

    Parameters stay those of `fused`: oneDNN quantizes weights per output channel at the first run.
    """
    quantized, _ = _quantize(fused)
    return quantization._calibrate_quantized_sym(quantized, dict(ranges)).get_backend_symbol(BACKEND)


def tensors_to_calibrate(fused: mx.sym.Symbol) -> List[str]:
    """Names of the outputs in `fused` whose ranges `quantize` needs; none without oneDNN."""
    return _quantize(fused)[1]


class Int8Convolution(NamedTuple):
    """An 8-bit convolution.

    Attributes
    ----------
    name : str
        Name of the node. Its output is called ``NAME_output``, the range of its integers ``NAME_output_min``
        and ``NAME_output_max``.
    before : str
        Name of the node in the graph of `fuse_for_int8`.
    weight, bias : str
        Names of the parameters.
    level : int
        Largest number of 8-bit convolutions between it and the input.
    """

    name: str
    before: str
    weight: str
    bias: Optional[str]
    level: int


def int8_convolutions(quantized: mx.sym.Symbol) -> List[Int8Convolution]:
    """The 8-bit convolutions of a graph from `quantize`, in topological order."""
    convolutions: List[Int8Convolution] = []
    levels: Dict[Node, int] = {}
    for node in Graph(quantized, {}).nodes():
        level = max((levels[source] for source, _ in node.inputs), default=0)
        if node.op == CONVOLUTION and node.flag("quantized"):
            # MXNet keeps `no_bias` in the subgraph: the third input is a bias, or the minimum of the data.
            bias = next((source.name for source, _ in node.inputs[2:3] if source.op == "null"), None)
            name, weight = node.name, node.inputs[1][0].name
            convolutions.append(Int8Convolution(name, name[len(PREFIX) :], weight, bias, level))
            level += 1
        levels[node] = level
    return convolutions


def _quantize(fused: mx.sym.Symbol) -> Tuple[mx.sym.Symbol, List[str]]:
    """The quantized graph, and the names of the outputs to calibrate.

    MXNet 1.9.1: `quantize_model_mkldnn` calibrates through a Module, where in-place additions overwrite
    outputs before they are measured. To see it, use it: all tensors of a chain of additions get the same
    range.
    """
    symbol, tensors = quantization._quantize_symbol(
        fused, mx.cpu(), excluded_operators=list(IN_FLOATS), quantized_dtype="auto", quantize_mode="smart"
    )
    return symbol, list(tensors)
