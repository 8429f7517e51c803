"""ncnn models of networks: from layers to ncnn's layers."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ..errors import ExportError
from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from .layers import Convolution, Crop, Flip, LayerGraph, Mean, Repeat, Rows, Scale, Sum, Vector
from .ncnn_engine import ANCHORS
from .ncnn_file import FIXED_VALUES, ConvolutionShape, NcnnLayer, Value, split_tensors, to_bin, to_param
from .sidecar import INPUT_NAME, PIXELS_NAME


def to_ncnn(
    graph: LayerGraph, weights: str = "float32", softmax: str = "", anchors: Optional[np.ndarray] = None
) -> Tuple[str, bytes]:
    """The two files of the layers, behind the normalization of pixels ``(3, height, width)`` from 0 to 255.

    Parameters
    ----------
    weights : str
        ``float16``: the weights of convolutions are stored as float16.
    softmax : str
        Name of the probabilities of a classifier, which then are the output.
    anchors : numpy.ndarray, optional
        ``(A, 4)``, a further output, for programs that do not read the sidecar.

    Raises
    ------
    ExportError
        If a weight exceeds the range of float16.
    """
    writer = _Writer(graph)
    writer.write(softmax)
    if anchors is not None:
        writer.write_anchors(anchors)
    layers = split_tensors(writer.layers)
    if weights == "float16":
        _check_range(layers)
    return to_param(layers), to_bin(layers, weights)


def _check_range(layers: List[NcnnLayer]) -> None:
    limit = float(np.finfo(np.float16).max)
    for layer in layers:
        if layer.kind.startswith("Convolution") and np.abs(layer.arrays[0]).max() > limit:
            raise ExportError(
                f"layer {layer.name}: a weight exceeds {limit:g}, float16's limit; use --format ncnn"
            )


class _Writer:
    """The layers of one translation, each with one output of its own name."""

    def __init__(self, graph: LayerGraph) -> None:
        self._graph = graph
        self.layers: List[NcnnLayer] = []

    def write(self, softmax: str) -> None:
        _, height, width = self._graph.shapes[INPUT_NAME]
        self._add("Input", PIXELS_NAME, (), {0: width, 1: height, 2: 3})
        mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
        self._affine(INPUT_NAME, PIXELS_NAME, 1 / (255 * std), -mean / std)
        writers: Dict[type, Any] = {
            Convolution: self._convolution, Sum: self._sum, Scale: self._scale, Flip: self._flip,
            Repeat: self._repeat, Crop: self._crop, Mean: self._mean, Rows: self._rows,
            Vector: self._vector,
        }  # fmt: skip
        for layer in self._graph.layers:
            writers[type(layer)](layer)
        if softmax:
            self._add_fixed("Softmax", softmax, (self.layers[-1].name,))

    def write_anchors(self, anchors: np.ndarray) -> None:
        self._add("MemoryData", ANCHORS, (), {0: anchors.shape[1], 1: len(anchors)}, anchors)

    def _add(
        self, kind: str, name: str, inputs: Tuple[str, ...], values: Dict[int, Value], *arrays: np.ndarray
    ) -> None:
        self.layers.append(NcnnLayer(kind, name, inputs, (name,), values, arrays))

    def _add_fixed(self, kind: str, name: str, inputs: Tuple[str, ...]) -> None:
        self._add(kind, name, inputs, FIXED_VALUES[kind])

    def _affine(self, name: str, source: str, scale: np.ndarray, shift: np.ndarray) -> None:
        self._add("Scale", name, (source,), {0: len(scale), 1: 1}, scale, shift)

    def _scale(self, layer: Scale) -> None:
        self._affine(layer.name, layer.source, layer.scale, layer.shift)

    def _flip(self, layer: Flip) -> None:
        self._add_fixed("Flip", layer.name, (layer.source,))

    def _repeat(self, layer: Repeat) -> None:
        self._add_fixed("Interp", layer.name, (layer.source,))

    def _crop(self, layer: Crop) -> None:
        channels, height, width = self._graph.shapes[layer.name]
        self._add("Crop", layer.name, (layer.source,), {0: 0, 1: 0, 2: 0, 3: width, 4: height, 5: channels})

    def _convolution(self, layer: Convolution) -> None:
        outputs, inputs, height, width = layer.weight.shape
        kernel, groups = (height, width), layer.groups
        shape = ConvolutionShape(outputs, inputs, kernel, layer.stride, layer.pad, groups, layer.activation)
        self._add(shape.kind, layer.name, (layer.source,), shape.values(), layer.weight, layer.bias)

    def _sum(self, layer: Sum) -> None:
        name = f"{layer.name}/sum" if layer.activation else layer.name
        self._add_fixed("BinaryOp", name, (layer.first, layer.second))
        if layer.activation:
            self._add_fixed("ReLU" if layer.activation == "relu" else "Clip", layer.name, (name,))

    def _mean(self, layer: Mean) -> None:
        """ncnn's mean is a vector; the layers behind it take channels, rows and columns."""
        self._add_fixed("Pooling", f"{layer.name}/vector", (layer.source,))
        self._add("Reshape", layer.name, (f"{layer.name}/vector",), {0: 1, 1: 1, 2: -1})

    def _rows(self, layer: Rows) -> None:
        parts = []
        for index, source in enumerate(layer.sources):
            name = f"{layer.name}/map{index}" if len(layer.sources) > 1 else layer.name
            self._add_fixed("Permute", f"{name}/channels_last", (source,))
            self._add("Reshape", name, (f"{name}/channels_last",), {0: layer.values, 1: -1})
            parts.append(name)
        if len(parts) > 1:
            self._add_fixed("Concat", layer.name, tuple(parts))

    def _vector(self, layer: Vector) -> None:
        self._add("Reshape", layer.name, (layer.source,), {0: -1})
