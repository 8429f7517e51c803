"""Networks whose convolutions compute with 8-bit integers, through oneDNN.

They are calibrated on images: what the tensors between the layers hold decides the scales.
Weights have one for each output channel. What is no convolution (decoding, suppression, concatenation)
stays in floating point.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np

from ...errors import ExportError
from ...graph.quantize import LARGEST, fuse_for_int8, int8_convolutions, quantize, tensors_to_calibrate
from ..calibrate import Range, find_ranges, watch
from ..packing import pack_int8, unpack_arrays

CORRECTION_IMAGES = 16
"""On which means are compared: each is one of thousands of numbers an image."""


class Calibration(NamedTuple):
    """How to calibrate (one of `formats.CALIBRATIONS`), and on what: pixels at the size of the input."""

    method: str
    images: Sequence[np.ndarray]

    def as_dict(self) -> Dict[str, Any]:
        """For the sidecar."""
        return {"method": self.method, "images": len(self.images)}


def int8_graph(
    symbol: mx.sym.Symbol, parameters: Mapping[str, np.ndarray], calibration: Calibration, ctx: Any
) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """A graph for oneDNN in 8 bits, and its arrays as `packing.pack_int8` gives them.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
        As from `graph.inference.fold`.
    parameters : mapping of str to numpy.ndarray
    calibration : Calibration
    ctx : mxnet.Context

    Raises
    ------
    ExportError
        Where nothing in the graph can be computed in 8 bits.
    """
    fused = fuse_for_int8(symbol)
    tensors = tensors_to_calibrate(fused)
    if not tensors:
        raise ExportError(
            "nothing in this network can be computed in 8 bits: oneDNN is not there, or switched off"
        )

    def ranges(values: Mapping[str, np.ndarray]) -> Dict[str, Range]:
        return find_ranges(fused, values, tensors, calibration.images, calibration.method, ctx)

    quantized = quantize(fused, ranges(parameters))
    weights = [f"arg:{convolution.weight}" for convolution in int8_convolutions(quantized)]
    packed = pack_int8(parameters, weights)
    rounded = unpack_arrays(packed)
    corrected = correct_biases(fused, quantized, parameters, rounded, calibration.images, ctx)
    biases = {name: value for name, value in corrected.items() if name in packed and name not in weights}
    # Other biases reach further; measured in fp32, where nothing is cut off.
    return quantize(fused, ranges({**parameters, **biases})), {**packed, **biases}


def correct_biases(
    fused: mx.sym.Symbol,
    quantized: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    rounded: Mapping[str, np.ndarray],
    images: Sequence[np.ndarray],
    ctx: Any,
) -> Dict[str, np.ndarray]:
    """The rounded parameters with biases that bring each channel's mean back to what it was before rounding.

    Rounding moves means, and a moved mean moves all that reads it. Nagel et al. 2019 ("Data-Free
    Quantization Through Weight Equalization and Bias Correction"), section 4.2; measured on images
    here, layer by layer, for what is corrected first changes what comes after.

    Parameters
    ----------
    fused, quantized : mxnet.symbol.Symbol
        From `graph.quantize.fuse_for_int8` and, of that, `graph.quantize.quantize`.
    parameters, rounded : mapping of str to numpy.ndarray
        Those of `fused`, and those that `quantized` will run with.
    images : sequence of numpy.ndarray
        The first `CORRECTION_IMAGES` are used.
    ctx : mxnet.Context
    """
    images, corrected = images[:CORRECTION_IMAGES], dict(rounded)
    convolutions = [convolution for convolution in int8_convolutions(quantized) if convolution.bias]
    names = [f"{convolution.before}_output" for convolution in convolutions]
    before = dict(zip(convolutions, _channel_means(fused, parameters, names, images, ctx)))
    for level in sorted({convolution.level for convolution in convolutions}):
        here = [convolution for convolution in convolutions if convolution.level == level]
        names = [f"{convolution.name}_output" for convolution in here]
        for convolution, mean in zip(here, _channel_means(quantized, corrected, names, images, ctx)):
            bias = f"arg:{convolution.bias}"
            corrected[bias] = (corrected[bias] + before[convolution] - mean).astype(np.float32)
    return corrected


def _channel_means(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    images: Sequence[np.ndarray],
    ctx: Any,
) -> List[np.ndarray]:
    """``(channels,)`` of each output, in numbers also where it holds integers."""
    there = set(symbol.get_internals().list_outputs())
    ranges = {name: [f"{name}_min", f"{name}_max"] for name in outputs if f"{name}_min" in there}
    tensors = [tensor for name in outputs for tensor in [name, *ranges.get(name, [])]]
    sums = [np.zeros(1) for _ in outputs]
    for batch in watch(symbol, parameters, tensors, images, ctx):
        for index, name in enumerate(outputs):
            values = batch[name]
            total = values.astype(np.float32).mean(axis=(2, 3)).sum(axis=0)
            if name in ranges:
                largest = max(abs(float(batch[edge].item())) for edge in ranges[name])
                total = total * (largest / LARGEST[str(values.dtype)])
            sums[index] = sums[index] + total
    return [total / len(images) for total in sums]
