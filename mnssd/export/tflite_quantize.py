"""8-bit integers for TensorFlow Lite: the steps of tensors and weights.

Activations have one step and zero point per tensor, weights one step per output channel and zero point 0, as
TensorFlow Lite's quantization specification asks for. Biases are not corrected for the rounded weights as in
`export.symbol_quantize`: with corrected biases a detector of VOC's six classes reached mAP .669, without .675
(600 images; .682 before quantization).
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple

import mxnet as mx
import numpy as np

from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from .calibrate import Calibration, Range, find_ranges
from .layers import Convolution, Crop, Flip, LayerGraph, Mean, Repeat, Scale, Sum
from .sidecar import INPUT_NAME

LARGEST_BIAS = 2**30
"""Biases are 32-bit integers in the product of the steps of input and weights."""

SMALLEST_RATIO = 2.0**-28
"""Of the product of the steps of input and weights to the step of the output: kernels refuse much smaller
ones, which a channel with weights near 0 would have."""


class Integers(NamedTuple):
    """What makes numbers of the 8-bit integers of a tensor: ``(q - zero) * step``."""

    step: float
    zero: int


def integers_for(limits: Range) -> Integers:
    """Integers -128 to 127 for a range, which is extended to include 0; the 0 itself is exact."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    step = max((high - low) / 255, 1e-9)
    return Integers(step, int(np.clip(round(-128 - low / step), -128, 127)))


def calibrate(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    graph: LayerGraph,
    calibration: Calibration,
    ctx: Any,
) -> Dict[str, Integers]:
    """Integers of the input and of every layer of a graph that was read from `symbol`.

    Those of the input cover all pixels; the others cover the ranges found on images. Repeated and cropped
    tensors keep the integers of their source.
    """
    kinds = (Convolution, Sum, Mean, Scale, Flip)
    names = [layer.name for layer in graph.layers if isinstance(layer, kinds)]
    tensors = [f"{name}_output" for name in names]
    ranges = find_ranges(symbol, parameters, tensors, calibration.images, calibration.method, ctx)
    integers = {name: integers_for(ranges[tensor]) for name, tensor in zip(names, tensors)}
    for layer in graph.layers:
        if isinstance(layer, (Repeat, Crop)) and layer.source in integers:
            integers[layer.name] = integers[layer.source]
    limits = [(level - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD) for level in (0.0, 1.0)]
    return {**integers, INPUT_NAME: integers_for((float(limits[0].min()), float(limits[1].max())))}


def weight_steps(layer: Convolution, source: Integers, output: Integers) -> np.ndarray:
    """Step of the weights of each output channel, float32."""
    largest = np.abs(layer.weight).reshape(len(layer.weight), -1).max(axis=1) / 127
    for_bias = np.abs(layer.bias) / (source.step * LARGEST_BIAS)
    return np.maximum.reduce(
        [largest, for_bias, np.full(len(largest), SMALLEST_RATIO * output.step / source.step)]
    ).astype(np.float32)


def rounded_weight(layer: Convolution, steps: np.ndarray) -> np.ndarray:
    """The weights as integers -127 to 127."""
    values = np.rint(layer.weight / steps.reshape(-1, 1, 1, 1).astype(np.float64))
    return np.clip(values, -127, 127).astype(np.int8)
