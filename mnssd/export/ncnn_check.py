"""Validation of ncnn's files before ncnn reads them.

ncnn trusts its files: it writes outside of its arrays if a text has more tensors than it claims, and computes
on if an operator does not fit its input. Only layers are accepted that `ncnn_model` writes, with tensors and
arrays that fit.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Callable, Dict, Mapping, Sequence, Tuple

from ..options import Size
from .ncnn_file import ACTIVATIONS, FIXED_VALUES, WEIGHT_FLAGS, ConvolutionShape, NcnnLayer, parse_param
from .sidecar import PIXELS_NAME

Dims = Tuple[int, ...]
"""Shape of a tensor: channels, rows and columns; or rows and columns; or the length of a vector."""

LARGEST = 2**28
"""Most numbers of a tensor, 1 GiB."""


def check_files(
    text: str, content: bytes, weights: str, size: Size, outputs: Mapping[str, Dims]
) -> Dict[str, Dims]:
    """Check the two files of a network; returns the shapes of its tensors by name.

    Parameters
    ----------
    weights : str
        Type of the weights, a key of `WEIGHT_FLAGS`.
    size : (int, int)
        ``(width, height)`` of the input.
    outputs : mapping of str to tuple of int
        The shape that each output must have.

    Raises
    ------
    ValueError
        If a layer is none of an export, or does not fit.
    """
    layers = parse_param(text)
    shapes: Dict[str, Dims] = {}
    unread: Dict[str, Dims] = {}
    position = 0
    for layer in layers:
        if any(name not in unread for name in layer.inputs):
            raise ValueError(f"inputs of layer {layer.name}")
        inputs = [unread.pop(name) for name in layer.inputs]
        shape = _output_shape(layer, inputs, size)
        if not shape or min(shape) < 1 or prod(shape) > LARGEST:
            raise ValueError(f"size of layer {layer.name}")
        new = dict.fromkeys(layer.outputs, shape)
        if len(new) != len(layer.outputs) or set(new) & set(shapes):
            raise ValueError(f"outputs of layer {layer.name}")
        shapes.update(new)
        unread.update(new)
        position = _skip_arrays(layer, [*inputs, shape], content, position, weights)
    if position != len(content):
        raise ValueError(f"{len(content)} bytes of weights instead of {position}")
    if unread != dict(outputs):
        raise ValueError(f"another network, with {unread} instead of {dict(outputs)}")
    return shapes


def _output_shape(layer: NcnnLayer, inputs: Sequence[Dims], size: Size) -> Dims:
    """Shape of the outputs of a layer; ValueError if it cannot have these inputs or its parameters."""
    if layer.kind == "Input":
        _require(layer, not inputs and layer.name == PIXELS_NAME, {0: size[0], 1: size[1], 2: 3})
        return (3, size[1], size[0])
    if layer.kind == "MemoryData":
        rows = layer.values.get(1)
        _require(layer, not inputs, {0: 4, 1: rows})
        return (rows, 4) if isinstance(rows, int) else ()
    if layer.kind not in _SHAPES or not inputs:
        raise ValueError(f"layer {layer.name} of kind {layer.kind}")
    counts = {"Split": (1, len(layer.outputs)), "Concat": (len(inputs), 1), "BinaryOp": (2, 1)}
    if (len(inputs), len(layer.outputs)) != counts.get(layer.kind, (1, 1)):
        raise ValueError(f"number of inputs or outputs of layer {layer.name}")
    return _SHAPES[layer.kind](layer, inputs)


def _require(layer: NcnnLayer, condition: bool, values: Mapping) -> None:
    """ValueError unless `condition` holds and the layer has the parameters `values`, of the same types."""
    if not condition or layer.line() != replace(layer, values=values).line():
        raise ValueError(f"parameters or input of layer {layer.name}")


def _fixed(axes: int) -> Callable[[NcnnLayer, Sequence[Dims]], Dims]:
    """For layers whose output is like each of their inputs, with this number of axes."""

    def shape(layer: NcnnLayer, inputs: Sequence[Dims]) -> Dims:
        alike = len(set(inputs)) == 1 and len(inputs[0]) == axes
        _require(layer, alike, FIXED_VALUES[layer.kind])
        return inputs[0]

    return shape


def _scale(layer: NcnnLayer, inputs: Sequence[Dims]) -> Dims:
    _require(layer, len(inputs[0]) == 3, {0: inputs[0][0], 1: 1})
    return inputs[0]


def _mean(layer: NcnnLayer, inputs: Sequence[Dims]) -> Dims:
    _require(layer, len(inputs[0]) == 3, FIXED_VALUES[layer.kind])
    return inputs[0][:1]


def _interp(layer: NcnnLayer, inputs: Sequence[Dims]) -> Dims:
    _require(layer, len(inputs[0]) == 3, FIXED_VALUES[layer.kind])
    channels, height, width = inputs[0]
    return (channels, 2 * height, 2 * width)


def _crop(layer: NcnnLayer, inputs: Sequence[Dims]) -> Dims:
    width, height = layer.values.get(3), layer.values.get(4)
    if len(inputs[0]) != 3 or not isinstance(width, int) or not isinstance(height, int):
        raise ValueError(f"parameters or input of layer {layer.name}")
    within = 0 < height <= inputs[0][1] and 0 < width <= inputs[0][2]
    _require(layer, within, {0: 0, 1: 0, 2: 0, 3: width, 4: height, 5: inputs[0][0]})
    return (inputs[0][0], height, width)


def _permute(layer: NcnnLayer, inputs: Sequence[Dims]) -> Dims:
    _require(layer, len(inputs[0]) == 3, FIXED_VALUES[layer.kind])
    return (*inputs[0][1:], inputs[0][0])


def _concat(layer: NcnnLayer, inputs: Sequence[Dims]) -> Dims:
    alike = all(len(shape) == 2 and shape[1] == inputs[0][1] for shape in inputs)
    _require(layer, alike, FIXED_VALUES[layer.kind])
    return (sum(shape[0] for shape in inputs), inputs[0][1])


def _reshape(layer: NcnnLayer, inputs: Sequence[Dims]) -> Dims:
    """To channels, to a vector, or to rows."""
    total, width = prod(inputs[0]), layer.values.get(0)
    if len(layer.values) == 3:
        _require(layer, len(inputs[0]) == 1, {0: 1, 1: 1, 2: -1})
        return (total, 1, 1)
    if len(layer.values) == 1:
        _require(layer, inputs[0][1:] == (1, 1), {0: -1})
        return (total,)
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"parameters of layer {layer.name}")
    _require(layer, len(inputs[0]) == 3 and inputs[0][2] % width == 0, {0: width, 1: -1})
    return (total // width, width)


def _convolution(layer: NcnnLayer, inputs: Sequence[Dims]) -> Dims:
    shape = _structure(layer, inputs[0])
    sides = [
        (side + 2 * pad - kernel) // stride + 1
        for side, pad, kernel, stride in zip(inputs[0][1:], shape.pad, shape.kernel, shape.stride)
    ]
    return (shape.outputs, *sides)


def _structure(layer: NcnnLayer, source: Dims) -> ConvolutionShape:
    values = layer.values
    try:
        activation = next(
            name
            for name, part in ACTIVATIONS.items()
            if part == {k: values[k] for k in (9, 10) if k in values}
        )
        numbers = [int(values[key]) for key in (0, 1, 11, 3, 13, 4, 14)]  # type: ignore[arg-type]
        groups = int(values.get(7, 1))  # type: ignore[arg-type]
    except (KeyError, StopIteration, TypeError) as error:
        raise ValueError(f"parameters of layer {layer.name}") from error
    outputs, width, height, right, down, columns, rows = numbers
    whole = groups == 1 or groups == outputs == source[0]
    positive = min(numbers[:5]) > 0 and min(numbers[5:]) >= 0
    if len(source) != 3 or not whole or not positive:
        raise ValueError(f"parameters or input of layer {layer.name}")
    kernel, stride, pad = (height, width), (down, right), (rows, columns)
    shape = ConvolutionShape(outputs, source[0] // groups, kernel, stride, pad, groups, activation)
    _require(layer, layer.kind == shape.kind, shape.values())
    return shape


def _skip_arrays(
    layer: NcnnLayer, tensors: Sequence[Dims], content: bytes, position: int, weights: str
) -> int:
    """Where the arrays of a layer end; ValueError if they are incomplete or of another type.

    `tensors` are the shapes of its inputs and of its outputs.
    """
    if layer.kind == "MemoryData":
        return position + 4 * prod(tensors[0])
    if layer.kind == "Scale":
        return position + 2 * 4 * tensors[0][0]
    if not layer.kind.startswith("Convolution"):
        return position
    shape = _structure(layer, tensors[0])
    flag = int.from_bytes(content[position : position + 4], "little")
    if flag != WEIGHT_FLAGS[weights] or position + 4 > len(content):
        raise ValueError(f"the weights of layer {layer.name} are incomplete or not {weights}")
    length = shape.weights * (2 if weights == "float16" else 4)
    return position + 4 + length + -length % 4 + 4 * shape.outputs


_SHAPES: Dict[str, Callable[[NcnnLayer, Sequence[Dims]], Dims]] = {
    "Split": _fixed(3), "ReLU": _fixed(3), "Clip": _fixed(3), "BinaryOp": _fixed(3), "Flip": _fixed(3),
    "Softmax": _fixed(1), "Scale": _scale, "Pooling": _mean, "Permute": _permute, "Concat": _concat,
    "Interp": _interp, "Crop": _crop, "Reshape": _reshape, "Convolution": _convolution,
    "ConvolutionDepthWise": _convolution,
}  # fmt: skip
"""By kind of layer: the shape of its outputs from the layer and its inputs."""
