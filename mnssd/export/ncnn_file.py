"""ncnn's files: layers as text (``.param``), and their arrays one after the other (``.bin``).

The formats are those of ncnn's ``docs/developer-guide/param-and-model-file-structure.md``; the numbers of the
parameters are those in ``load_param`` of its layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple, Union

import numpy as np

MAGIC = 7767517
"""First line of the text."""

WEIGHT_FLAGS = {"float32": 0, "float16": 0x01306B47}
"""What precedes the weights of a convolution, by their type. Other arrays have no such flag."""

ARRAY_KEY = -23300
"""A parameter that is an array has this key, minus its own."""

LONGEST_NAME = 255
"""Characters that ncnn reads of a name."""

Number = Union[int, float]
Value = Union[Number, Tuple[Number, ...]]

FIXED_VALUES: Dict[str, Dict[int, Value]] = {
    "Split": {}, "ReLU": {}, "Clip": {0: 0.0, 1: 6.0}, "BinaryOp": {0: 0}, "Pooling": {0: 1, 4: 1},
    "Flip": {0: (1, 2)}, "Interp": {0: 1, 1: 2.0, 2: 2.0}, "Permute": {0: 3}, "Concat": {0: 0},
    "Softmax": {0: 0, 1: 1},
}  # fmt: skip
"""Parameters by kind of layer: RELU6, a sum, the mean over all positions, rows and columns in reverse order,
rows and columns twice, channels last, concatenation and softmax along the first axis."""

ACTIVATIONS: Dict[str, Dict[int, Value]] = {"": {}, "relu": {9: 1}, "relu6": {9: 3, 10: (0.0, 6.0)}}
"""Parameters of a convolution for the activation behind it."""


@dataclass(frozen=True)
class NcnnLayer:
    """A line of the text: kind and name of a layer, its tensors by name, its parameters by their numbers.

    `arrays` follow in the other file; the first one of a convolution is its weights.
    """

    kind: str
    name: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    values: Mapping[int, Value] = field(default_factory=dict)
    arrays: Tuple[np.ndarray, ...] = ()

    def line(self) -> str:
        counts = (str(len(self.inputs)), str(len(self.outputs)))
        values = [_format(key, value) for key, value in self.values.items()]
        return " ".join([self.kind, self.name, *counts, *self.inputs, *self.outputs, *values])


class ConvolutionShape(NamedTuple):
    """Structure of a convolution; kernel, stride and padding are vertical and horizontal.

    `inputs` is the number of channels that an output is made of: 1 if there are as many groups as channels.
    """

    outputs: int
    inputs: int
    kernel: Tuple[int, int]
    stride: Tuple[int, int]
    pad: Tuple[int, int]
    groups: int
    activation: str

    @property
    def kind(self) -> str:
        return "Convolution" if self.groups == 1 else "ConvolutionDepthWise"

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.outputs * self.inputs * self.kernel[0] * self.kernel[1]

    def values(self) -> Dict[int, Value]:
        """The parameters of the layer."""
        groups: Dict[int, Value] = {7: self.groups} if self.groups > 1 else {}
        return {
            0: self.outputs, 1: self.kernel[1], 11: self.kernel[0], 3: self.stride[1], 13: self.stride[0],
            4: self.pad[1], 14: self.pad[0], 5: 1, 6: self.weights, **groups, **ACTIVATIONS[self.activation],
        }  # fmt: skip


def to_param(layers: Sequence[NcnnLayer]) -> str:
    """The text of the layers."""
    tensors = sum(len(layer.outputs) for layer in layers)
    return "\n".join([str(MAGIC), f"{len(layers)} {tensors}", *(layer.line() for layer in layers), ""])


def to_bin(layers: Sequence[NcnnLayer], weights: str) -> bytes:
    """The arrays of the layers; `weights` is the type of those of convolutions, a key of `WEIGHT_FLAGS`."""
    return b"".join(part for layer in layers for part in _parts(layer, weights))


def _parts(layer: NcnnLayer, weights: str) -> Iterator[bytes]:
    for number, array in enumerate(layer.arrays):
        if number == 0 and layer.kind.startswith("Convolution"):
            content = np.ascontiguousarray(array, weights).astype(f"<f{np.dtype(weights).itemsize}").tobytes()
            yield WEIGHT_FLAGS[weights].to_bytes(4, "little")
            yield content + bytes(-len(content) % 4)
        else:
            yield np.ascontiguousarray(array, "<f4").tobytes()


def parse_param(text: str) -> List[NcnnLayer]:
    """Layers of a text that `to_param` has written, without their arrays; ValueError for any other text."""
    layers = [_parse_line(line) for line in text.split("\n")[2:-1]]
    if to_param(layers) != text:
        raise ValueError("not the text of an export")
    for name in {name for layer in layers for name in (layer.kind, layer.name, *layer.outputs)}:
        if not 0 < len(name) <= LONGEST_NAME or not (name.isascii() and name.isprintable()):
            raise ValueError(f"the name {name[:40]!r}")
    return layers


def _parse_line(line: str) -> NcnnLayer:
    kind, name, inputs, outputs, *words = line.split(" ")
    first, last = int(inputs), int(inputs) + int(outputs)
    values = dict(_parse(word) for word in words[last:])
    return NcnnLayer(kind, name, tuple(words[:first]), tuple(words[first:last]), values)


def _format(key: int, value: Value) -> str:
    if isinstance(value, tuple):
        return ",".join([f"{ARRAY_KEY - key}={len(value)}", *map(str, value)])
    return f"{key}={value}"


def _parse(word: str) -> Tuple[int, Value]:
    name, _, content = word.partition("=")
    key, numbers = int(name), [_number(part) for part in content.split(",")]
    return (key, numbers[0]) if key >= 0 else (ARRAY_KEY - key, tuple(numbers[1:]))


def _number(text: str) -> Number:
    return float(text) if "." in text else int(text)


def split_tensors(layers: Sequence[NcnnLayer]) -> List[NcnnLayer]:
    """The layers, with copies of tensors that several of them read: each tensor of ncnn has one reader."""
    readers: Dict[str, int] = {}
    for layer in layers:
        for name in layer.inputs:
            readers[name] = readers.get(name, 0) + 1
    copies = {name: [f"{name}/copy{i}" for i in range(count)] for name, count in readers.items() if count > 1}
    unread = {name: iter(names) for name, names in copies.items()}
    result: List[NcnnLayer] = []
    for layer in layers:
        inputs = tuple(next(unread[name]) if name in unread else name for name in layer.inputs)
        result.append(replace(layer, inputs=inputs))
        for name in layer.outputs:
            if name in copies:
                result.append(NcnnLayer("Split", f"{name}/split", (name,), tuple(copies[name])))
    return result
