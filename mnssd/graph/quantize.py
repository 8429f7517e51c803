"""A graph whose convolutions compute with 8-bit integers, through oneDNN."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

import mxnet as mx
from mxnet.contrib import quantization

from .symbol_graph import Graph

BACKEND = "MKLDNN_QUANTIZE"
"""The partitioning that MXNet 1.9.1 fuses with before, and after, the translation to integers."""

CONVOLUTION = "_sg_mkldnn_conv"
"""A fused convolution."""

PREFIX = "quantized_"
"""What MXNet puts before the name of a node that it translates."""

LARGEST = {"uint8": 255.5, "int8": 127.5}
"""By what MXNet 1.9.1 divides a range to get the step of its integers: ``kUint8Range`` and ``kInt8Range`` in
src/operator/quantization."""

IN_FLOATS = (
    "_sg_mkldnn_fully_connected", "Pooling", "Concat", "Flatten", "Activation", "elemwise_add",
    "elemwise_mul", "Embedding", "BatchNorm",
)  # fmt: skip
"""Operators that could be translated and are not: they take little time, or none, and a rounding each. A
FullyConnected of several inputs' widths fails to bind in 1.9.1 (to see it: MobileNetV1 classifiers)."""


def fuse_for_int8(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """The graph with convolutions, activations and additions in the nodes that `quantize` translates.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
        As from `graph.inference.fold`.
    """
    return symbol.get_backend_symbol(BACKEND)


def quantize(fused: mx.sym.Symbol, ranges: Mapping[str, Tuple[float, float]]) -> mx.sym.Symbol:
    """The graph in 8 bits.

    Its parameters are those of `fused`: oneDNN makes integers of the weights of each output channel when it
    first runs them.

    Parameters
    ----------
    fused : mxnet.symbol.Symbol
        From `fuse_for_int8`.
    ranges : mapping of str to (float, float)
        Of the tensors that `tensors_to_calibrate` names.
    """
    quantized, _ = _translate(fused)
    return quantization._calibrate_quantized_sym(quantized, dict(ranges)).get_backend_symbol(BACKEND)


def tensors_to_calibrate(fused: mx.sym.Symbol) -> List[str]:
    """Names of the outputs in `fused` whose ranges `quantize` has to know; none without oneDNN."""
    return _translate(fused)[1]


class Int8Convolution(NamedTuple):
    """A convolution in 8 bits.

    Attributes
    ----------
    name : str
        Of its node; of its output in the graph with the suffix ``_output``, and the range that its integers
        stand for ``_output_min`` and ``_output_max``.
    before : str
        Of the node in the graph of `fuse_for_int8` that it was made of.
    weight, bias : str
        Of its parameters; the bias is None where it has none.
    level : int
        How many such convolutions are at most between it and the input.
    """

    name: str
    before: str
    weight: str
    bias: Optional[str]
    level: int


def int8_convolutions(quantized: mx.sym.Symbol) -> List[Int8Convolution]:
    """Those of a graph from `quantize`, in its order."""
    found: List[Int8Convolution] = []
    levels: Dict[int, int] = {}
    for node in Graph(quantized, {}).nodes():
        level = max((levels[id(source)] for source, _ in node.inputs), default=0)
        if node.op == CONVOLUTION and node.flag("quantized"):
            bias = None if node.flag("no_bias") else node.inputs[2][0].name
            name, weight = node.name, node.inputs[1][0].name
            found.append(Int8Convolution(name, name[len(PREFIX) :], weight, bias, level))
            level += 1
        levels[id(node)] = level
    return found


def _translate(fused: mx.sym.Symbol) -> Tuple[mx.sym.Symbol, List[str]]:
    # Not `quantize_model_mkldnn`: it calibrates in batches of its own loader through a Module, where sums
    # computed in place overwrite what is then measured (all ranges of a chain of additions come out as one).
    symbol, tensors = quantization._quantize_symbol(
        fused, mx.cpu(), excluded_operators=list(IN_FLOATS), quantized_dtype="auto", quantize_mode="smart"
    )
    return symbol, list(tensors)
