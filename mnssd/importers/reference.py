"""The graph of a file, computed operator by operator: what an import must agree with."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .graph import Add, Conv, ReadNetwork, Rounding


def compute(
    read: ReadNetwork, images: np.ndarray, tensors: Sequence[str], rounded: bool = False
) -> List[np.ndarray]:
    """Tensors ``(N, C, H, W)`` of the file's graph for images ``(N, H, W, 3)`` uint8 RGB.

    With `rounded`, every tensor is rounded to the integers in which the file's engine stores it.
    """
    values: Dict[str, Any] = {read.graph.input: mx.nd.array(read.pixels.normalize(images))}
    roundings: Dict[str, Rounding] = {}
    for operator in read.graph.operators:
        if isinstance(operator, Add):
            value = values[operator.first] + values[operator.second]
        else:
            source = values[operator.source]
            if operator.name.endswith(POOLED):
                source = source.mean(axis=(2, 3), keepdims=True)
                if rounded and operator.source in roundings:  # pooling keeps the scale of its input
                    source = _round(source, roundings[operator.source])
            value = _convolve(operator, source)
        if rounded and operator.rounding:
            roundings[operator.output] = operator.rounding
            value = _round(value, operator.rounding)
        values[operator.output] = value
    return [values[tensor].asnumpy() for tensor in tensors]


def _convolve(conv: Conv, x: Any) -> Any:
    if conv.kernel > 1:
        (top, bottom), (left, right) = (conv.padding(side) for side in x.shape[2:])
        pads = (0, 0, 0, 0, top, bottom, left, right)
        x = mx.nd.pad(x, mode="constant", pad_width=pads, constant_value=0)
    y = mx.nd.Convolution(
        x, mx.nd.array(conv.weight), mx.nd.array(conv.bias), kernel=(conv.kernel, conv.kernel),
        stride=(conv.stride, conv.stride), num_filter=conv.channels, num_group=conv.groups,
    )  # fmt: skip
    return mx.nd.clip(y, 0, 6) if conv.activation == "relu6" else mx.nd.relu(y) if conv.activation else y


def _round(x: Any, rounding: Rounding) -> Any:
    integers = mx.nd.round(x / rounding.scale) + rounding.zero
    return (mx.nd.clip(integers, rounding.low, rounding.high) - rounding.zero) * rounding.scale


POOLED = " after pooling"
"""End of the name of a convolution that reads the mean of its input over all positions."""


def graph_outputs(
    read: ReadNetwork, images: np.ndarray, rounded: bool = False
) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Outputs of the file's graph, as `families.EngineOutputs` has them."""
    wanted = [*read.class_tensors, *read.box_tensors] or [read.logits]
    parts = compute(read, images, wanted, rounded)
    return read.heads([part.transpose(0, 2, 3, 1).reshape(len(images), -1) for part in parts])
