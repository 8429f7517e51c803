"""An inference graph as a short list of layers, for formats that are written layer by layer.

MXNet's operators are translated once, here: activations become part of the layer before them, convolutions
that `graph.join_predictors` joined are separate again, and a dense layer is a 1x1 convolution. Operators that
have no equal are refused.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from ..errors import ExportError
from ..graph.channels import is_crop
from ..graph.symbol_graph import Graph, Node
from ..options import Size
from .sidecar import INPUT_NAME

Shape = Tuple[int, int, int]
"""Channels, height and width of a tensor."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with symmetric zero padding.

    ``weight`` is ``(outputs, inputs / groups, height, width)``; ``groups`` is 1 or the number of channels.
    Strides and padding are vertical and horizontal. ``activation`` is empty, ``'relu'`` or ``'relu6'``.
    """

    name: str
    source: str
    weight: np.ndarray
    bias: np.ndarray
    stride: Tuple[int, int]
    pad: Tuple[int, int]
    groups: int = 1
    activation: str = ""


@dataclass(frozen=True)
class Sum:
    """The sum of two tensors of the same shape, and an activation as in `Convolution`."""

    name: str
    first: str
    second: str
    activation: str = ""


@dataclass(frozen=True)
class Scale:
    """``x * scale + shift``, an array for each channel."""

    name: str
    source: str
    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Flip:
    """Rows and columns in reverse order."""

    name: str
    source: str


@dataclass(frozen=True)
class Repeat:
    """Every row and every column twice: ``(C, H, W)`` to ``(C, 2 * H, 2 * W)``."""

    name: str
    source: str


@dataclass(frozen=True)
class Crop:
    """The first rows and columns, as many as the shape of the output has."""

    name: str
    source: str


@dataclass(frozen=True)
class Mean:
    """The mean over all positions: ``(C, H, W)`` to ``(C, 1, 1)``."""

    name: str
    source: str


@dataclass(frozen=True)
class Rows:
    """The last tensor of a detector's head: ``(anchors, values)`` of all feature maps, one after the other.

    A source ``(K * values, H, W)`` becomes ``(H * W * K, values)``, K anchors per position.
    """

    name: str
    sources: Tuple[str, ...]
    values: int


@dataclass(frozen=True)
class Vector:
    """The last tensor of a classifier: ``(C, 1, 1)`` to ``(C,)``."""

    name: str
    source: str


Layer = Union[Convolution, Sum, Scale, Flip, Repeat, Crop, Mean, Rows, Vector]


@dataclass(frozen=True)
class LayerGraph:
    """Layers in the order of computation, and the shape of each output but those of `Rows` and `Vector`.

    The input is `sidecar.INPUT_NAME`, normalized. A layer has the name of a node of MXNet's graph, except
    `Rows` and `Vector`, which are the outputs.
    """

    layers: Tuple[Layer, ...]
    shapes: Mapping[str, Shape]


def read_layers(
    symbol: mx.sym.Symbol, parameters: Mapping[str, np.ndarray], size: Size, outputs: Sequence[str]
) -> LayerGraph:
    """Layers of a graph that ends with the heads.

    Parameters
    ----------
    symbol, parameters
        As from `graph.inference.fold`.
    size : (int, int)
        ``(width, height)`` of the input.
    outputs : sequence of str
        Names of the outputs.

    Raises
    ------
    ExportError
        If the graph has an operator without an equal; the message names it.
    """
    return _Reader(symbol, parameters, size).read(outputs)


class _Reader:
    """The state of one translation.

    `_tensors` has, by node, the name of the layer whose output it is. `_rows` has the sources of nodes
    between predictors and output: tensors with channels last, flattened and concatenated.
    """

    def __init__(self, symbol: mx.sym.Symbol, parameters: Mapping[str, np.ndarray], size: Size) -> None:
        self._graph = Graph(symbol, {})
        self._readers = self._graph.readers()
        self._values = {name.split(":", 1)[1]: value for name, value in parameters.items()}
        inner = symbol.get_internals()
        _, shapes, _ = inner.infer_shape(**{INPUT_NAME: (1, 3, size[1], size[0])})
        self._shapes = dict(zip(inner.list_outputs(), shapes))
        self._layers: Dict[str, Layer] = {}
        self._tensors: Dict[Node, str] = {}
        self._rows: Dict[Node, Tuple[str, ...]] = {}

    def read(self, outputs: Sequence[str]) -> LayerGraph:
        translators: Dict[str, Callable[[Node], Any]] = {
            "Convolution": self._convolution, "FullyConnected": self._dense, "slice_axis": self._part,
            "Activation": self._activation, "relu": self._activation, "clip": self._activation,
            "elemwise_add": self._sum, "_plus": self._sum, "broadcast_add": self._sum,
            "broadcast_mul": self._scale, "reverse": self._flip, "Pooling": self._mean,
            "UpSampling": self._repeat, "slice_like": self._crop,
            "transpose": self._transpose, "Flatten": self._flatten, "Concat": self._concat,
            "Reshape": self._reshape, "Dropout": self._copy, "_copy": self._copy,
        }  # fmt: skip
        for node in self._graph.nodes():
            if node.op == "null":
                if node.name == INPUT_NAME:
                    self._tensors[node] = INPUT_NAME
                continue
            if node.op not in translators:
                raise _refusal(node)
            translators[node.op](node)
        last = [self._output(node, name) for (node, _), name in zip(self._graph.outputs, outputs)]
        read = {source for layer in last for source in _sources(layer)}
        layers: List[Layer] = []
        for layer in reversed(list(self._layers.values())):  # without those that nothing reads
            if layer.name in read:
                layers.append(layer)
                read.update(_sources(layer))
        shapes = {layer.name: self._shape(layer.name) for layer in layers}
        return LayerGraph((*reversed(layers), *last), {INPUT_NAME: self._shape(INPUT_NAME), **shapes})

    def _output(self, node: Node, name: str) -> Layer:
        layer = self._layers.get(node.name)
        if isinstance(layer, Rows):
            return replace(layer, name=name)
        source = self._source(node)
        if self._shape(source)[1:] != (1, 1):
            raise _refusal(node, "as the last layer")
        return Vector(name, source)

    def _shape(self, tensor: str) -> Shape:
        shape = self._shapes[tensor if tensor == INPUT_NAME else f"{tensor}_output"]
        return (*shape[1:], 1, 1)[:3]  # type: ignore[return-value]  # a dense layer's is (batch, channels)

    def _source(self, node: Node) -> str:
        """The tensor that a node is; refused if it is none with channels, rows and columns."""
        if node not in self._tensors:
            raise _refusal(node, "before another layer")
        return self._tensors[node]

    def _inputs(self, node: Node) -> Tuple[str, List[np.ndarray]]:
        """The first input of a node, a tensor, and its other inputs, arrays."""
        (data, _), *constants = node.inputs
        if not all(source.name in self._values for source, _ in constants):
            raise _refusal(node, "with computed weights")
        return self._source(data), [self._values[source.name] for source, _ in constants]

    def _add(self, node: Node, layer: Layer) -> None:
        self._layers[layer.name] = layer
        self._tensors[node] = layer.name

    def _copy(self, node: Node) -> None:
        self._tensors[node] = self._source(node.inputs[0][0])

    def _convolution(self, node: Node) -> None:
        source, (weight, *biases) = self._inputs(node)
        groups, channels = int(node.attrs.get("num_group", "1")), self._shape(source)[0]
        kernel, dilation = (_pair(node.attrs.get(name, "(1, 1)")) for name in ("kernel", "dilate"))
        stride, pad = _pair(node.attrs.get("stride", "(1, 1)")), _pair(node.attrs.get("pad", "(0, 0)"))
        plain = groups == 1 or groups == channels == weight.shape[0]
        if node.attrs.get("layout") not in (None, "None", "NCHW") or len(kernel) != 2:
            raise _refusal(node, "of another layout")
        if not plain or dilation != (1, 1):
            raise _refusal(node, "with groups or dilation")
        bias = biases[0] if biases else np.zeros(len(weight), np.float32)
        self._add(node, Convolution(node.name, source, weight, bias, stride, pad, groups))

    def _dense(self, node: Node) -> None:
        source, (weight, *biases) = self._inputs(node)
        if self._shape(source)[1:] != (1, 1):
            raise _refusal(node, "of more than one position")
        bias = biases[0] if biases else np.zeros(len(weight), np.float32)
        self._add(node, Convolution(node.name, source, weight[:, :, None, None], bias, (1, 1), (0, 0)))

    def _part(self, node: Node) -> None:
        """Some channels of a convolution: a convolution with some of its weights."""
        whole = self._layers.get(self._source(node.inputs[0][0]))
        channels = isinstance(whole, Convolution) and whole.groups == 1 and not whole.activation
        if not channels or node.attrs.get("axis") != "1" or not isinstance(whole, Convolution):
            raise _refusal(node)
        end = node.attrs.get("end", "None")
        part = slice(int(node.attrs["begin"]), None if end == "None" else int(end))
        self._add(node, replace(whole, name=node.name, weight=whole.weight[part], bias=whole.bias[part]))

    def _activation(self, node: Node) -> None:
        kind = node.attrs.get("act_type", "relu")
        if node.op == "clip":
            limits = float(node.attrs["a_min"]), float(node.attrs["a_max"])
            kind = "relu6" if limits == (0, 6) else f"clip to {limits}"
        if kind not in ("relu", "relu6"):
            raise _refusal(node, kind)
        before, source = node.inputs[0][0], self._source(node.inputs[0][0])
        layer = self._layers.get(source)
        alone = len(self._readers[before]) == 1 and before.name == source
        if alone and isinstance(layer, (Convolution, Sum)) and not layer.activation:
            del self._layers[source]
            self._add(node, replace(layer, name=node.name, activation=kind))
        else:  # the identity, and the activation
            channels = self._shape(source)[0]
            weight, bias = np.ones((channels, 1, 1, 1), np.float32), np.zeros(channels, np.float32)
            identity = Convolution(node.name, source, weight, bias, (1, 1), (0, 0), channels, kind)
            self._add(node, identity)

    def _sum(self, node: Node) -> None:
        first, second = (source for source, _ in node.inputs)
        if second.name in self._values:
            channels = self._shape(self._source(first))[0]
            self._affine(node, first, np.ones(channels, np.float32), self._values[second.name])
            return
        sources = self._source(first), self._source(second)
        if len({self._shape(source) for source in sources}) > 1:
            raise _refusal(node, "of tensors of different shapes")
        self._add(node, Sum(node.name, *sources))

    def _scale(self, node: Node) -> None:
        source, (scale,) = self._inputs(node)
        self._affine(node, node.inputs[0][0], scale, np.zeros(self._shape(source)[0], np.float32))

    def _affine(self, node: Node, data: Node, scale: np.ndarray, shift: np.ndarray) -> None:
        source = self._source(data)
        channels = self._shape(source)[0]
        if scale.size != channels or shift.size != channels:
            raise _refusal(node, "by more than a number per channel")
        self._add(node, Scale(node.name, source, scale.reshape(-1), shift.reshape(-1)))

    def _flip(self, node: Node) -> None:
        if sorted(_tuple(node.attrs["axis"])) != [2, 3]:
            raise _refusal(node)
        self._add(node, Flip(node.name, self._source(node.inputs[0][0])))

    def _repeat(self, node: Node) -> None:
        if (node.attrs.get("scale"), node.attrs.get("sample_type")) != ("2", "nearest"):
            raise _refusal(node, "other than by repeating every row and column")
        self._add(node, Repeat(node.name, self._source(node.inputs[0][0])))

    def _crop(self, node: Node) -> None:
        source = self._source(node.inputs[0][0])
        if not is_crop(node):
            raise _refusal(node)
        if self._shape(source) == self._shape(node.name):
            self._tensors[node] = source
        else:
            self._add(node, Crop(node.name, source))

    def _mean(self, node: Node) -> None:
        if not node.flag("global_pool") or node.attrs.get("pool_type") != "avg":
            raise _refusal(node, "other than the mean over all positions")
        self._add(node, Mean(node.name, self._source(node.inputs[0][0])))

    def _transpose(self, node: Node) -> None:
        if _tuple(node.attrs["axes"]) != (0, 2, 3, 1):
            raise _refusal(node)
        self._rows[node] = (self._source(node.inputs[0][0]),)

    def _flatten(self, node: Node) -> None:
        before = node.inputs[0][0]
        if before in self._rows:
            self._rows[node] = self._rows[before]
        elif self._shape(self._source(before))[1:] == (1, 1):
            self._copy(node)
        else:
            raise _refusal(node, "of more than one position")

    def _concat(self, node: Node) -> None:
        parts = [self._rows.get(source) for source, _ in node.inputs]
        if node.attrs.get("dim") != "1" or not all(parts):
            raise _refusal(node)
        self._rows[node] = tuple(source for part in parts for source in part or ())

    def _reshape(self, node: Node) -> None:
        shape, before = _tuple(node.attrs["shape"]), node.inputs[0][0]
        if len(shape) != 3 or shape[:2] != (0, -1) or before not in self._rows:
            raise _refusal(node)
        self._layers[node.name] = Rows(node.name, self._rows[before], shape[2])


def _sources(layer: Layer) -> Tuple[str, ...]:
    if isinstance(layer, Rows):
        return layer.sources
    return (layer.first, layer.second) if isinstance(layer, Sum) else (layer.source,)


def _tuple(text: str) -> Tuple[int, ...]:
    value = ast.literal_eval(text)
    return (value,) if isinstance(value, int) else tuple(int(number) for number in value)


def _pair(text: str) -> Tuple[int, int]:
    first, *rest = _tuple(text)
    return first, rest[0] if rest else first


def _refusal(node: Node, what: str = "") -> ExportError:
    kind = f"{node.op} {what}".strip()
    return ExportError(
        f"layer {node.name}: {kind} has no equal in this format; use --format onnx or --format symbol"
    )
