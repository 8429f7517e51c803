"""TensorFlow Lite models of networks: from layers to operators, channels last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from .layers import Convolution, Crop, Flip, LayerGraph, Mean, Repeat, Rows, Scale, Sum, Vector
from .sidecar import INPUT_NAME, PIXELS_NAME
from .tflite_file import FlatModel, FlatTensor
from .tflite_quantize import LARGEST_BIAS, Integers, rounded_weight, weight_steps

SAME, VALID = 0, 1
"""``Padding`` of the schema."""

ACTIVATIONS = {"": 0, "relu": 1, "relu6": 3}
"""``ActivationFunctionType`` of the schema."""


def to_tflite(
    graph: LayerGraph,
    integers: Mapping[str, Integers],
    pixels: bool,
    weights: str = "float32",
    softmax: str = "",
) -> bytes:
    """A file of the layers, which any number of images can be given to.

    Parameters
    ----------
    integers : mapping of str to Integers
        Those of the input and the layers: convolutions, sums and means are computed in 8-bit integers, what
        is before the first and after the last convolution in floats. Empty: all in floats.
    pixels : bool
        Take ``(N, height, width, 3)`` uint8 RGB and normalize it; else the normalized float32.
    weights : str
        ``float16``: the weights of convolutions are stored as float16.
    softmax : str
        Name of the probabilities of a classifier, which then are the output.
    """
    return _Writer(graph, weights, integers).write(pixels, softmax)


class _Writer:
    """The state of one translation.

    `_tensors` has the index of each layer's output, `_converted` that of the same tensor in floats or in 8
    bits.
    """

    def __init__(self, graph: LayerGraph, weights: str, integers: Mapping[str, Integers]) -> None:
        self._graph, self._weights, self._model = graph, weights, FlatModel()
        self._integers = integers
        self._tensors: Dict[str, int] = {}
        self._converted: Dict[str, int] = {}

    def write(self, pixels: bool, softmax: str) -> bytes:
        inputs = [self._pixels() if pixels else self._model.tensor(self._output(INPUT_NAME))]
        if not pixels:
            self._tensors[INPUT_NAME] = inputs[0]
        writers: Dict[type, Any] = {
            Convolution: self._convolution, Sum: self._sum, Scale: self._scale, Flip: self._flip,
            Repeat: self._repeat, Crop: self._crop, Mean: self._mean, Rows: self._rows,
            Vector: self._vector,
        }  # fmt: skip
        for layer in self._graph.layers:
            self._tensors[layer.name] = writers[type(layer)](layer)
        last = [layer for layer in self._graph.layers if isinstance(layer, (Rows, Vector))]
        outputs = [self._tensors[layer.name] for layer in last]
        if softmax:
            logits = self._model.tensors[outputs[0]]
            probabilities = FlatTensor(softmax, logits.shape, batched=True)
            beta = {"Beta": 1.0}
            outputs = [self._model.add("SOFTMAX", outputs, probabilities, "SoftmaxOptions", **beta)]
        return self._model.to_bytes(inputs, outputs, "mnssd")

    def _shape(self, tensor: str) -> Tuple[int, int, int, int]:
        channels, height, width = self._graph.shapes[tensor]
        return (1, height, width, channels)

    def _output(self, tensor: str, name: str = "") -> FlatTensor:
        return FlatTensor(name or tensor, self._shape(tensor), batched=True)

    def _rounded(self, tensor: str, name: str = "") -> FlatTensor:
        """The output of a layer, in 8 bits if there are integers for it."""
        output = self._output(tensor, name)
        if tensor not in self._integers:
            return output
        step, zero = self._integers[tensor]
        return replace(output, dtype="int8", scale=np.array(step), zero=np.array(zero))

    def _floats(self, tensor: str) -> int:
        """Index of a layer's output in floats."""
        index = self._tensors[tensor]
        return (
            index if self._model.tensors[index].dtype == "float32" else self._convert(tensor, "DEQUANTIZE:2")
        )

    def _input(self, tensor: str) -> int:
        """Index of a layer's output as convolutions take it: in 8 bits if there are integers for it."""
        index = self._tensors[tensor]
        if tensor not in self._integers or self._model.tensors[index].dtype == "int8":
            return index
        return self._convert(tensor, "QUANTIZE")

    def _convert(self, tensor: str, code: str) -> int:
        if tensor not in self._converted:
            name, options = f"{tensor}/{code[:8].lower()}", f"{code.split(':')[0].capitalize()}Options"
            output = self._rounded(tensor, name) if code == "QUANTIZE" else self._output(tensor, name)
            self._converted[tensor] = self._model.add(code, [self._tensors[tensor]], output, options)
        return self._converted[tensor]

    def _pixels(self) -> int:
        """Add the input of pixels and their normalization; returns the index of the input."""
        shape = self._shape(INPUT_NAME)
        index = self._model.tensor(FlatTensor(PIXELS_NAME, shape, "uint8", batched=True))
        levels = self._model.add("CAST", [index], self._output(INPUT_NAME, f"{PIXELS_NAME}/float32"))
        mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
        self._tensors[INPUT_NAME] = self._affine(INPUT_NAME, INPUT_NAME, levels, 1 / (255 * std), -mean / std)
        return index

    def _affine(self, name: str, like: str, data: int, scale: np.ndarray, shift: np.ndarray) -> int:
        """``x * scale + shift`` of a tensor with the shape of the tensor `like`."""
        constants = [
            self._model.constant(f"{name}/{what}", values.reshape(1, 1, 1, -1))
            for what, values in (("scale", scale), ("shift", shift))
        ]
        scaled = self._output(like, f"{name}/scaled")
        product = self._model.add("MUL", [data, constants[0]], scaled, "MulOptions")
        return self._model.add("ADD", [product, constants[1]], self._output(like, name), "AddOptions")

    def _scale(self, layer: Scale) -> int:
        return self._affine(layer.name, layer.name, self._floats(layer.source), layer.scale, layer.shift)

    def _flip(self, layer: Flip) -> int:
        """Along one axis after the other, which every version of the operator can."""
        data = self._floats(layer.source)
        for axis, name in ((1, f"{layer.name}/rows"), (2, layer.name)):
            axes = self._model.constant(f"{name}/axis", [axis], "int32")
            data = self._model.add(
                "REVERSE_V2", [data, axes], self._output(layer.name, name), "ReverseV2Options"
            )
        return data

    def _repeat(self, layer: Repeat) -> int:
        sides = self._model.constant(f"{layer.name}/sides", self._shape(layer.name)[1:3], "int32")
        code, inputs = self._code("RESIZE_NEAREST_NEIGHBOR"), [self._input(layer.source), sides]
        return self._model.add(code, inputs, self._rounded(layer.name), "ResizeNearestNeighborOptions")

    def _crop(self, layer: Crop) -> int:
        _, height, width, _ = self._shape(layer.name)
        begin = self._model.constant(f"{layer.name}/begin", [0, 0, 0, 0], "int32")
        size = self._model.constant(f"{layer.name}/size", [-1, height, width, -1], "int32")
        inputs = [self._input(layer.source), begin, size]
        return self._model.add(self._code("SLICE"), inputs, self._rounded(layer.name), "SliceOptions")

    def _mean(self, layer: Mean) -> int:
        axes = self._model.constant(f"{layer.name}/axes", [1, 2], "int32")
        code, output = self._code("MEAN"), self._rounded(layer.name)
        return self._model.add(code, [self._input(layer.source), axes], output, "ReducerOptions", KeepDims=1)

    def _sum(self, layer: Sum) -> int:
        inputs = [self._input(layer.first), self._input(layer.second)]
        options = {"FusedActivationFunction": ACTIVATIONS[layer.activation]}
        return self._model.add(self._code("ADD"), inputs, self._rounded(layer.name), "AddOptions", **options)

    def _convolution(self, layer: Convolution) -> int:
        data, padding = self._padded(layer)
        is_depthwise = layer.groups > 1
        # (O, I, h, w) to (O, h, w, I), or of a depthwise convolution to (1, h, w, O)
        axes = (1, 2, 3, 0) if is_depthwise else (0, 2, 3, 1)
        weight, bias = self._weights_of(layer, axes)
        options: Dict[str, int] = {
            "Padding": padding, "StrideH": layer.stride[0], "StrideW": layer.stride[1],
            "FusedActivationFunction": ACTIVATIONS[layer.activation],
            "DilationHFactor": 1, "DilationWFactor": 1,
        }  # fmt: skip
        code, kind = self._code("CONV_2D", 3), "Conv2DOptions"
        if is_depthwise:
            code, kind = self._code("DEPTHWISE_CONV_2D", 3), "DepthwiseConv2DOptions"
            options["DepthMultiplier"] = 1
        return self._model.add(code, [data, weight, bias], self._rounded(layer.name), kind, **options)

    def _code(self, name: str, version: int = 2) -> str:
        """An operator, in the version that has 8 bits if there are integers."""
        return f"{name}:{version}" if self._integers else name

    def _weights_of(self, layer: Convolution, axes: Sequence[int]) -> Tuple[int, int]:
        """Add the weights, with `axes` transposed, and the biases of a convolution; returns their indices."""
        names = f"{layer.name}/weight", f"{layer.name}/bias"
        if not self._integers:
            weight = self._constant(names[0], layer.weight.transpose(axes))
            return weight, self._model.constant(names[1], layer.bias)
        source = self._integers[layer.source]
        steps = weight_steps(layer, source, self._integers[layer.name])
        zero, axis = np.zeros(len(steps), np.int64), axes.index(0)
        products = steps * np.float32(source.step)
        biases = np.clip(np.rint(layer.bias / products.astype(np.float64)), -LARGEST_BIAS, LARGEST_BIAS)
        values = rounded_weight(layer, steps).transpose(axes)
        weight = self._model.constant(names[0], values, "int8", scale=steps, zero=zero, axis=axis)
        return weight, self._model.constant(names[1], biases, "int32", scale=products, zero=zero)

    def _padded(self, layer: Convolution) -> Tuple[int, int]:
        """The input of a convolution and its ``Padding``, behind a PAD if that of the schema differs."""
        data, (_, height, width, channels) = self._input(layer.source), self._shape(layer.source)
        if layer.pad == (0, 0):
            return data, VALID
        kernel = layer.weight.shape[2:]
        same = [
            same_padding(side, size, step) for side, size, step in zip((height, width), kernel, layer.stride)
        ]
        if same == [(pad, pad) for pad in layer.pad]:
            return data, SAME
        vertical, horizontal = layer.pad
        name = f"{layer.name}/padded"
        amounts = [[0, 0], [vertical] * 2, [horizontal] * 2, [0, 0]]
        constant = self._model.constant(f"{name}/amounts", amounts, "int32")
        shape = (1, height + 2 * vertical, width + 2 * horizontal, channels)
        output = replace(self._rounded(layer.source, name), shape=shape)
        return self._model.add(self._code("PAD"), [data, constant], output, "PadOptions"), VALID

    def _constant(self, name: str, values: np.ndarray) -> int:
        if self._weights != "float16":
            return self._model.constant(name, values)
        half = self._model.constant(f"{name}/float16", values, "float16")
        return self._model.add("DEQUANTIZE:3", [half], FlatTensor(name, values.shape), "DequantizeOptions")

    def _rows(self, layer: Rows) -> int:
        parts: List[int] = []
        for index, source in enumerate(layer.sources):
            shape = self._shape(source)
            rows = (int(np.prod(shape)) // layer.values, layer.values)
            name = f"{layer.name}/map{index}" if len(layer.sources) > 1 else layer.name
            parts.append(self._reshaped(self._floats(source), name, rows))
        if len(parts) == 1:
            return parts[0]
        total = sum(self._model.tensors[part].shape[1] for part in parts)
        output = FlatTensor(layer.name, (1, total, layer.values), batched=True)
        return self._model.add("CONCATENATION", parts, output, "ConcatenationOptions", Axis=1)

    def _vector(self, layer: Vector) -> int:
        return self._reshaped(self._floats(layer.source), layer.name, self._shape(layer.source)[3:])

    def _reshaped(self, data: int, name: str, shape: Sequence[int]) -> int:
        """A tensor with `shape` for each image."""
        constant = self._model.constant(f"{name}/shape", [-1, *shape], "int32")
        output = FlatTensor(name, (1, *shape), batched=True)
        return self._model.add("RESHAPE", [data, constant], output, "ReshapeOptions")


def same_padding(side: int, kernel: int, stride: int) -> Tuple[int, int]:
    """TensorFlow's SAME padding of a side, at its start and at its end."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2
