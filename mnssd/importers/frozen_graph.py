"""The network in a frozen graph of TensorFlow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from ..errors import ImportedFileError
from .frozen_file import FLOAT, UINT8, FrozenGraph, Node, constant
from .frozen_heads import Heads, find_heads
from .frozen_values import EVALUATED, evaluate
from .graph import (
    LARGEST_SIDE,
    MOST_VALUES,
    Add,
    Conv,
    ConvGraph,
    InputPixels,
    Operator,
    ReadNetwork,
    rescaled,
    widened,
)
from .reference import POOLED
from .refusal import refusing

IMAGES = ("Placeholder", "TensorArrayGatherV3", "ResizeBilinear")
"""Operators that make the image; what is before them is only searched for its size."""

HANDS_ON = ("Identity", "Squeeze", "Reshape", "Cast", "ExpandDims", "Pack", "Unpack", "StopGradient")
"""Operators whose output has the values of their first input."""

NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")

ARITHMETIC = ("BiasAdd", "Add", "AddV2", "Sub", "Mul", "RealDiv")

Affine = Tuple[np.ndarray, np.ndarray]
"""Factor and summand ``(3,)`` of the pixels 0 to 255."""


def read_network(path: str) -> ReadNetwork:
    """The detector or classifier; ImportedFileError names the node that has no equal here."""
    file = FrozenGraph(path)
    with refusing(path, "the outputs"):
        heads = find_heads(file)
        nodes = file.before(heads.needed(), IMAGES)
    reader = _Reader(file)
    for node in nodes:
        with refusing(path, str(node)):
            reader.convert(node)
    with refusing(path, "the outputs"):
        return reader.network(heads)


def image_node(path: str, tensors: Sequence[str]) -> Optional[Node]:
    """The placeholder of images 0 to 255 that tensors depend on; None if it takes other values."""
    found = [node for node in FrozenGraph(path).before(tensors) if node.op == "Placeholder"]
    return found[0] if len(found) == 1 and found[0].attrs["dtype"].type == UINT8 else None


class _Reader:
    """Goes through the nodes in order: a tensor is a constant, an image or the output of an operator."""

    def __init__(self, file: FrozenGraph) -> None:
        self.file, self.total = file, 0
        self.constants: Dict[str, np.ndarray] = {}
        self.images: Dict[str, Affine] = {}
        self.names: Dict[str, str] = {}  # tensors of operators by the names of those that hand them on
        self.shapes: Dict[str, Tuple[int, ...]] = {}  # (1, height, width, channels)
        self.operators: Dict[str, Operator] = {}
        self.padded: Dict[str, List[List[int]]] = {}
        self.pooled: Dict[str, str] = {}
        self.used: Set[str] = set()
        self.input, self.size = "", (0, 0)
        self.readers: Dict[str, Callable[[Node], None]] = {
            "Conv2D": self._convolution, "DepthwiseConv2dNative": self._convolution, "Relu": self._activate,
            "Relu6": self._activate, "Pad": self._pad, "AvgPool": self._pool, "Mean": self._pool,
            **dict.fromkeys(IMAGES, self._image), **dict.fromkeys(NORMS, self._normalize),
            **dict.fromkeys(ARITHMETIC, self._combine), **dict.fromkeys(HANDS_ON, self._hand_on),
        }  # fmt: skip

    def convert(self, node: Node) -> None:
        """Take in a node."""
        args = [self._shape_or_constant(node, source) for source in node.inputs]
        if node.op == "Const":
            self._keep(node, [constant(node)])
        elif node.op in EVALUATED and args and all(arg is not None for arg in args):
            self._keep(node, evaluate(node, [arg for arg in args if arg is not None]))
        elif node.op in self.readers:
            self.readers[node.op](node)
        else:
            raise ImportedFileError("an operator that MobileNet-SSDs do not have")

    def _shape_or_constant(self, node: Node, source: str) -> Optional[np.ndarray]:
        """An input that is a constant; of a node that reads only a shape, anything of that shape."""
        if node.op in ("Shape", "Rank", "Size"):
            shape = self.shapes.get(self.names.get(source, source))
            if shape is not None:
                return np.broadcast_to(np.float32(0), shape)
        return self.constants.get(source)

    def _keep(self, node: Node, values: List[np.ndarray]) -> None:
        self.total += sum(value.size for value in values)
        if self.total > MOST_VALUES:
            raise ImportedFileError(f"more than {MOST_VALUES} constants before it")
        for index, value in enumerate(values):
            self.constants[f"{node.name}:{index}" if index else node.name] = value

    def _floats(self, node: Node, index: int, count: int = 0) -> np.ndarray:
        """An input that is a constant, with one value or `count` values."""
        values = self.constants.get(node.inputs[index])
        if values is None or (count and values.size not in (1, count)):
            found = "none" if values is None else f"{values.size} values"
            raise ImportedFileError(
                f"expected {count or 'a number of'} constants as input {index}, got {found}"
            )
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise ImportedFileError("constants that are not finite")
        return np.broadcast_to(values.reshape(-1), (count,)) if count else values

    def _source(self, node: Node, index: int = 0) -> str:
        """The tensor of an operator that a node reads."""
        name = self.names.get(node.inputs[index], node.inputs[index])
        if name not in self.operators and name not in self.images:
            raise ImportedFileError(f"reads {name!r}, which is neither the image nor computed from it")
        return name

    def _image(self, node: Node) -> None:
        size = _image_size(self.file, node)
        if self.size not in ((0, 0), size):
            raise ImportedFileError(f"images of {self.size} and {size} pixels")
        self.size = size
        self.images[node.name] = (np.ones(3), np.zeros(3))
        self.shapes[node.name] = (1, size[1], size[0], 3)

    def _hand_on(self, node: Node) -> None:
        source = self.names.get(node.inputs[0], node.inputs[0])
        if source in self.images:
            if node.op in ("Pack", "Unpack") and len(node.inputs) > 1:
                raise ImportedFileError("images of several inputs")
            self.images[node.name], self.shapes[node.name] = self.images[source], self.shapes[source]
            return
        if node.op in ("Cast", "Pack", "Unpack"):
            raise ImportedFileError("between the layers of the network")
        self.names[node.name] = self._source(node)
        if source in self.pooled:
            self.pooled[node.name] = self.pooled[source]

    def _combine(self, node: Node) -> None:
        """A sum, difference, product or quotient with a constant, or a sum of two tensors."""
        if len(node.inputs) != 2:
            raise ImportedFileError(f"{len(node.inputs)} inputs")
        places = [index for index in (0, 1) if node.inputs[index] not in self.constants]
        if len(places) == 2:
            self._add(node)
            return
        place = places[0]
        source = self._source(node, place)
        channels = self.shapes[source][3]
        value = self._floats(node, 1 - place, channels)
        factor, shift = np.ones(channels), np.zeros(channels)
        if node.op == "Mul":
            factor = value
        elif node.op == "RealDiv" and place == 0 and (value != 0).all():
            factor = 1 / value
        elif node.op == "Sub":
            factor, shift = (factor, -value) if place == 0 else (-factor, value)
        elif node.op != "RealDiv":
            shift = value
        else:
            raise ImportedFileError("a quotient of other kind than by numbers")
        if source in self.images:
            scale, summand = self.images[source]
            self.images[node.name] = (scale * factor, summand * factor + shift)
            self.shapes[node.name] = self.shapes[source]
        else:
            self._replace(node, source, rescaled(self._of(source), factor, shift))

    def _add(self, node: Node) -> None:
        if node.op not in ("Add", "AddV2"):
            raise ImportedFileError("of two tensors")
        first, second = self._source(node, 0), self._source(node, 1)
        if first in self.images or self.shapes[first] != self.shapes[second]:
            raise ImportedFileError("a sum of tensors of different shapes, or of images")
        self._append(node, Add(str(node), first, second, node.name), self.shapes[first], (first, second))

    def _append(self, node: Node, operator: Operator, shape: Tuple[int, ...], sources: Sequence[str]) -> None:
        self.used.update(sources)
        self.operators[node.name], self.shapes[node.name] = operator, shape

    def _of(self, tensor: str) -> Conv:
        """The convolution that makes a tensor, which nothing else has read."""
        conv = self.operators.get(tensor)
        if not isinstance(conv, Conv) or conv.activation or tensor in self.used:
            raise ImportedFileError(f"reads {tensor!r}, which is no convolution of its own")
        return conv

    def _replace(self, node: Node, old: str, conv: Conv) -> None:
        del self.operators[old]
        self.operators[node.name] = replace(conv, output=node.name)
        self.shapes[node.name] = self.shapes[old]

    def _activate(self, node: Node) -> None:
        source = self._source(node)
        self._replace(node, source, replace(self._of(source), activation=node.op.lower()))

    def _normalize(self, node: Node) -> None:
        source = self._source(node)
        conv = self._of(source)
        if "is_training" in node.attrs and node.attrs["is_training"].b:
            raise ImportedFileError("statistics of the batch; freeze the graph for inference")
        gamma, beta, mean, variance = (self._floats(node, index, conv.channels) for index in (1, 2, 3, 4))
        spread = variance + float(node.attrs["epsilon"].f)
        if not (spread > 0).all():
            raise ImportedFileError("variances that are not above 0")
        factor = gamma / np.sqrt(spread)
        self._replace(node, source, rescaled(conv, factor, beta - mean * factor))

    def _pad(self, node: Node) -> None:
        source, amounts = self._source(node), self._floats(node, 1).astype(int).tolist()
        if len(amounts) != 4 or any(any(row) for row in (amounts[0], amounts[3])):
            raise ImportedFileError(f"padded by {amounts}")
        self.names[node.name], self.padded[node.name] = source, amounts[1:3]

    def _pool(self, node: Node) -> None:
        source = self._source(node)
        height, width = self.shapes[source][1:3]
        if node.op == "Mean":
            is_global = sorted(self._floats(node, 1).astype(int).reshape(-1).tolist()) == [1, 2]
        else:
            is_global = node.numbers("ksize") == [1, height, width, 1] and node.text("padding", "") == "VALID"
        if source in self.images or not is_global:
            raise ImportedFileError("expected the mean over all positions")
        self.names[node.name], self.pooled[node.name] = source, source

    def _convolution(self, node: Node) -> None:
        source, weight = self._source(node), self._floats(node, 1)
        is_pooled = node.inputs[0] in self.pooled
        is_depthwise = node.op != "Conv2D"
        strides, dilations = node.numbers("strides"), node.numbers("dilations")
        if node.text("data_format", "NHWC") != "NHWC" or set(dilations) - {1} or weight.ndim != 4:
            raise ImportedFileError("another order of axes than NHWC, or a dilation")
        if len(strides) != 4 or strides[1] != strides[2] or weight.shape[0] != weight.shape[1]:
            raise ImportedFileError(f"strides {strides}, weights of shape {weight.shape}")
        _, height, width, channels = self.shapes[source]
        # (height, width, inputs, outputs), or (height, width, channels, 1) of a depthwise one
        weight = weight.transpose(2, 3, 0, 1) if is_depthwise else weight.transpose(3, 2, 0, 1)
        if weight.shape[0 if is_depthwise else 1] != channels or (is_depthwise and weight.shape[1] != 1):
            raise ImportedFileError(f"weights of shape {weight.shape} for {channels} channels")
        groups = channels if is_depthwise else 1
        if source in self.images:
            if self.input not in ("", source):
                raise ImportedFileError("reads the image in another form than other convolutions")
            self.input = source
        bias = np.zeros(len(weight), np.float32)
        conv = Conv(
            str(node) + (POOLED if is_pooled else ""), source, node.name, weight.astype(np.float32), bias,
            strides[1], groups,
        )  # fmt: skip
        conv = widened(replace(conv, same=self._is_same(node, conv, (height, width))), (height, width))
        sides = (1, 1) if is_pooled else (-(-height // conv.stride), -(-width // conv.stride))
        self._append(node, conv, (1, *sides, conv.channels), (source,))

    def _is_same(self, node: Node, conv: Conv, sides: Tuple[int, int]) -> bool:
        """Whether the padding is SAME, of the convolution or of a Pad before it; False for a 1x1."""
        padding, rows = node.text("padding", ""), self.padded.get(node.inputs[0])
        if padding == "SAME" and rows is None:
            return conv.kernel > 1
        if padding != "VALID" or (rows is None and conv.kernel > 1):
            raise ImportedFileError(f"padding {padding}, and {rows or 'no Pad'} before it")
        for same in (False, True):
            padded = replace(conv, same=same)
            if rows is None or rows == [list(padded.padding(side)) for side in sides]:
                return same
        raise ImportedFileError(f"padded by {rows} before a {conv.kernel}x{conv.kernel} convolution")

    def network(self, heads: Heads) -> ReadNetwork:
        """What the nodes after the predictors make of the convolutions."""
        graph = ConvGraph(self.input, list(self.operators.values()))
        pixels, notes = self._pixels()
        classes, boxes = (
            [self.names.get(name, name) for name in part] for part in (heads.classes, heads.boxes)
        )
        if not heads.boxes:
            count = graph.convolution(classes[0], "the output").channels
            has_background = count == 1001  # TensorFlow's ImageNet classes
            return ReadNetwork(
                "TensorFlow", graph, self.size, pixels, count, logits=classes[0],
                background=0 if has_background else None, notes=notes,
            )  # fmt: skip
        counts = [graph.convolution(name, "the boxes").channels // 4 for name in boxes]
        channels = graph.convolution(classes[0], "the scores").channels
        read = ReadNetwork(
            "TensorFlow", graph, self.size, pixels, channels // max(counts[0], 1), class_tensors=classes,
            box_tensors=boxes, notes=notes,
        )  # fmt: skip
        heads.describe(read, self.constants)
        return read

    def _pixels(self) -> Tuple[InputPixels, List[str]]:
        if not self.input:
            raise ImportedFileError("no convolution reads an image")
        factor, shift = self.images[self.input]
        node = self.file.nodes.get(self.input)
        if node is not None and node.op == "Placeholder" and node.attrs["dtype"].type == FLOAT:
            note = "float input: pixels are taken to be scaled to -1..1, as in TensorFlow's MobileNets"
            return InputPixels(), [note]
        if not (factor > 0).all():
            raise ImportedFileError(f"pixels that are multiplied by {factor.tolist()}")
        mean, std = -shift / factor / 255, 1 / factor / 255
        return InputPixels(tuple(mean.tolist()), tuple(std.tolist())), []


def _image_size(file: FrozenGraph, node: Node) -> Tuple[int, int]:
    """``(width, height)`` of the images that a node makes."""
    nodes = file.before([node.name])
    sizes: Set[Tuple[int, ...]] = set()
    for resize in nodes:
        if resize.op.startswith("Resize"):
            size = file.producer(resize.inputs[1])
            sizes.add(tuple(constant(size).tolist()) if size.op == "Const" else ())
    for image in nodes:
        if image.op == "Placeholder" and not sizes:
            sizes.add(tuple(int(dim.size) for dim in image.attrs["shape"].shape.dim)[1:3])
    found: Any = sizes.pop() if len(sizes) == 1 else ()
    if len(found) != 2 or not all(0 < side <= LARGEST_SIDE for side in found):
        raise ImportedFileError(
            "images of no fixed size; export with fixed_shape_resizer, or with an input of a fixed shape"
        )
    return (found[1], found[0])
