"""MXNet graphs with 8-bit convolutions, computed by oneDNN.

Calibration images decide the scales of activations; weights have one scale per output channel. Everything but
the convolutions (decoding, suppression, concatenation) stays in floating point.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..errors import ExportError
from ..graph.quantize import LARGEST, fuse_for_int8, int8_convolutions, quantize, tensors_to_calibrate
from .calibrate import Calibration, Range, find_ranges, tensor_values
from .packing import Arrays, pack_int8, unpack_arrays

CORRECTION_IMAGES = 16
"""Images for bias correction; each channel mean is over thousands of values per image."""


def int8_graph(
    symbol: mx.sym.Symbol, parameters: Arrays, calibration: Calibration, ctx: Any, names: Sequence[str] = ()
) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """An 8-bit graph for oneDNN, and its arrays packed by `packing.pack_int8`.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
        As from `graph.inference.fold`, with its `parameters`.
    names : sequence of str
        Nodes of `symbol` that keep their names.

    Raises
    ------
    ExportError
        If nothing in the graph can be computed in 8 bits.
    """
    fused = fuse_for_int8(symbol)
    tensors = tensors_to_calibrate(fused)
    if not tensors:
        raise ExportError("nothing in this network can be computed in 8 bits: oneDNN is missing or disabled")

    def ranges(values: Arrays) -> Dict[str, Range]:
        return find_ranges(fused, values, tensors, calibration.images, calibration.method, ctx)

    quantized = quantize(fused, ranges(parameters))
    weights = [f"arg:{convolution.weight}" for convolution in int8_convolutions(quantized)]
    packed = pack_int8(parameters, weights)
    corrected = correct_biases(fused, quantized, parameters, unpack_arrays(packed), calibration.images, ctx)
    biases = {name: value for name, value in corrected.items() if name in packed and name not in weights}
    # The corrected biases change the ranges; measured in float32, where nothing saturates.
    final = quantize(fused, ranges({**parameters, **biases}))
    return _restore_names(final, names), {**packed, **biases}


def _restore_names(symbol: mx.sym.Symbol, names: Sequence[str]) -> mx.sym.Symbol:
    """Give a fused node the name of the node in it that is in `names`, as a dense layer of logits may be."""
    if {f"{name}_output" for name in names} <= set(symbol.get_internals().list_outputs()):
        return symbol
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        inner = {entry["name"] for subgraph in node.get("subgraphs", []) for entry in subgraph["nodes"]}
        node["name"] = next((name for name in names if name in inner), node["name"])
    return mx.sym.load_json(json.dumps(graph))


def correct_biases(
    fused: mx.sym.Symbol,
    quantized: mx.sym.Symbol,
    parameters: Arrays,
    rounded: Arrays,
    images: Sequence[np.ndarray],
    ctx: Any,
) -> Dict[str, np.ndarray]:
    """The rounded parameters with biases that restore each channel's mean from before rounding.

    Rounding shifts means, and a shifted mean shifts everything after it. Nagel et al. 2019 ("Data-Free
    Quantization Through Weight Equalization and Bias Correction"), section 4.2; here measured on images,
    layer by layer, because the correction of one layer changes the means of the next.

    `fused` runs with `parameters`, `quantized` with the `rounded` ones, on the first `CORRECTION_IMAGES`.
    """
    images, corrected = images[:CORRECTION_IMAGES], dict(rounded)
    convolutions = [convolution for convolution in int8_convolutions(quantized) if convolution.bias]
    names = [f"{convolution.before}_output" for convolution in convolutions]
    expected = dict(zip(convolutions, _channel_means(fused, parameters, names, images, ctx)))
    for level in sorted({convolution.level for convolution in convolutions}):
        layer = [convolution for convolution in convolutions if convolution.level == level]
        names = [f"{convolution.name}_output" for convolution in layer]
        for convolution, mean in zip(layer, _channel_means(quantized, corrected, names, images, ctx)):
            bias = f"arg:{convolution.bias}"
            corrected[bias] = (corrected[bias] + expected[convolution] - mean).astype(np.float32)
    return corrected


def _channel_means(
    symbol: mx.sym.Symbol, parameters: Arrays, outputs: Sequence[str], images: Sequence[np.ndarray], ctx: Any
) -> List[np.ndarray]:
    """``(channels,)`` mean of each output, as real values even if the output holds integers."""
    available = set(symbol.get_internals().list_outputs())
    ranges = {name: [f"{name}_min", f"{name}_max"] for name in outputs if f"{name}_min" in available}
    tensors = [tensor for name in outputs for tensor in [name, *ranges.get(name, [])]]
    sums = [np.zeros(1) for _ in outputs]
    for batch in tensor_values(symbol, parameters, tensors, images, ctx):
        for index, name in enumerate(outputs):
            values = batch[name]
            total = values.astype(np.float32).mean(axis=(2, 3)).sum(axis=0)
            if name in ranges:
                largest = max(abs(float(batch[limit].item())) for limit in ranges[name])
                total = total * (largest / LARGEST[str(values.dtype)])
            sums[index] = sums[index] + total
    return [total / len(images) for total in sums]
