"""Detectors and classifiers as export formats see them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Iterator, List, Mapping, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..boxes import STDS
from ..data.image import to_network_input
from ..data.preprocess import Image, read_for_classifier, read_for_network
from ..graph.inference import fold, read_arrays
from ..graph.symbol_graph import Graph
from ..nn.spec import SCORE_FLOOR
from ..options import Size
from .calibrate import Calibration, equalized
from .detection_parity import DetectionParityCheck, Suppression
from .engines import outputs_of
from .layers import LayerGraph, read_layers
from .options import ExportOptions
from .parity import ClassifierParityCheck, ParityCheck
from .sidecar import INPUT_NAME, describe_format_input, describe_input, describe_tensor

if TYPE_CHECKING:
    from onnx import ModelProto

SymbolAndArrays = Tuple[mx.sym.Symbol, Mapping[str, np.ndarray]]
"""A graph and its arrays under the names of a parameter file, ``arg:NAME`` and ``aux:NAME``."""

BATCH = 8
"""Images per batch of the parity check."""


class ExportedNetwork(ABC):
    """A trained network, its structure, and images for the parity check and for calibration.

    Attributes
    ----------
    ctx : mxnet.Context
        Device of the weights.
    size : (int, int)
        ``(width, height)`` of the input.
    heads, outputs : tuple of str
        Tensors before decoding or softmax, and after it. In MXNet's graphs ``_output`` follows these names.
    raw_heads : bool
        Whether the export ends with the heads.
    images : sequence of str, Path, bytes or numpy.ndarray
        Images for the parity check.
    shared : dict
        What several formats need and one of them has made, by a name of their choice.
    """

    heads: ClassVar[Tuple[str, ...]]
    outputs: ClassVar[Tuple[str, ...]]
    large_axes: ClassVar[Tuple[int, ...]]
    """Number of axes of the parameters that ``--fp16-weights`` rounds."""

    def __init__(
        self,
        net: Any,
        spec: Any,
        options: ExportOptions,
        images: Sequence[Image],
        calibration_images: Sequence[Image] = (),
    ) -> None:
        self.net, self.spec, self.options = net, spec, options
        self.size: Size = spec.size
        self.raw_heads = options.raw_heads
        self.ctx = next(iter(net.collect_params().values())).list_ctx()[0]
        self.images, self._calibration_images = images, calibration_images or images
        self.shared: Dict[str, Any] = {}

    @property
    def tensors(self) -> Tuple[str, ...]:
        """Names of what the parity check compares: the heads and, unless `raw_heads`, the outputs."""
        return self.heads if self.raw_heads else (*self.heads, *self.outputs)

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration method and pixels."""
        return Calibration(self.options.calibration, [self.read(image) for image in self._calibration_images])

    def describe_format(self, suffix: str = "", **details: Any) -> Dict[str, Any]:
        """A format's section of the sidecar: its input, its outputs with `suffix`, `details`."""
        names = self.heads if self.raw_heads else self.outputs
        return {
            "input": describe_format_input(self.size, self.options.pixels),
            "outputs": [f"{name}{suffix}" for name in names],
            **details,
        }

    @property
    def decodable(self) -> bool:
        """Whether decoding follows the heads."""
        return False

    def describe_undecoded(self, **details: Any) -> Dict[str, Any]:
        """As `describe_format`, of a format whose engine decodes the heads of a detector."""
        return self.describe_format(**details)

    @cached_property
    def layers(self) -> LayerGraph:
        """The layers of the inference graph, which end with the heads."""
        return read_layers(*self.graph(raw_heads=True), self.size, self.heads)

    def equalized_graph(self, raw_heads: bool = False) -> SymbolAndArrays:
        """As `graph`, for 8-bit integers: the channels of a tensor have similar ranges."""
        symbol, parameters = self.graph(raw_heads)
        return symbol, {**parameters, **self._equalized}

    @cached_property
    def _equalized(self) -> Mapping[str, np.ndarray]:
        symbol, parameters = self.graph(raw_heads=True)
        return equalized(symbol, parameters, self.calibration.images, self.ctx)

    def batches(self) -> Iterator[Tuple[List[str], List[np.ndarray]]]:
        """Names and input pixels of the images of the parity check."""
        for start in range(0, len(self.images), BATCH):
            images = self.images[start : start + BATCH]
            names = [image_name(image, number) for number, image in enumerate(images, start + 1)]
            yield names, [self.read(image) for image in images]

    def network_input(self, pixels: Sequence[np.ndarray]) -> Any:
        """A batch on the network's device."""
        return mx.nd.array(to_network_input(pixels), ctx=self.ctx)

    @abstractmethod
    def describe(self) -> Dict[str, Any]:
        """Sections of the sidecar that hold for all formats."""

    @abstractmethod
    def graph(self, raw_heads: bool = False) -> SymbolAndArrays:
        """The inference graph, ending with the outputs or with the heads."""

    @abstractmethod
    def head_shapes(self) -> Dict[str, Sequence[int]]:
        """Shapes of the heads, without the batch axis."""

    @abstractmethod
    def append_onnx_outputs(self, model: ModelProto) -> None:
        """Append what turns heads into outputs to an ONNX model that ends with the heads."""

    @abstractmethod
    def read(self, image: Image) -> np.ndarray:
        """Pixels of an image at the size of the input, ``(height, width, 3)`` uint8 RGB."""

    @abstractmethod
    def run(self, pixels: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Heads and outputs of the network itself."""

    @abstractmethod
    def exact_check(self) -> ParityCheck:
        """A parity check for formats that compute in float32."""


class ExportedDetector(ExportedNetwork):
    """An `mnssd.nn.SSD` with a `zoo.DetectorSpec`: decoding and non-maximum suppression follow the heads."""

    heads, outputs, large_axes = ("cls_preds", "box_preds"), ("ids", "scores", "bboxes"), (4,)

    @property
    def suppression(self) -> Suppression:
        return Suppression(SCORE_FLOOR, self.net.nms_thresh, self.net.nms_topk, self.net.post_nms)

    def describe_format(self, suffix: str = "", **details: Any) -> Dict[str, Any]:
        """See `ExportedNetwork`; raw heads need the anchors."""
        if self.raw_heads:
            details["anchors"] = self.net.anchors.tolist()
        return super().describe_format(suffix, **details)

    @property
    def decodable(self) -> bool:
        return True

    def describe_undecoded(self, **details: Any) -> Dict[str, Any]:
        section = super().describe_format(**details)
        anchors, scores = self.net.anchors.tolist(), self.net.heads.layout.scores
        return {**section, "outputs": list(self.heads), "anchors": anchors, "scores": scores}

    def describe(self) -> Dict[str, Any]:
        width, height = self.size
        net, heads = self.net, self.head_shapes()
        function = net.heads.layout.scores
        class_scores = f"class scores before the {function}, background first"
        box_offsets = "offsets of center and log size from the anchors, divided by stds"
        return {
            "task": "detection",
            "input": describe_input(self.size),
            "outputs": [
                describe_tensor("ids", (net.post_nms, 1), "index into classes, -1: no detection"),
                describe_tensor("scores", (net.post_nms, 1), "probability, best first"),
                describe_tensor("bboxes", (net.post_nms, 4), "xmin, ymin, xmax, ymax"),
            ],
            "heads": [
                describe_tensor("cls_preds", heads["cls_preds"], class_scores),
                describe_tensor("box_preds", heads["box_preds"], box_offsets, stds=list(STDS)),
            ],
            "boxes": (
                f"pixels of the {width}x{height} input, from 0, not clipped; multiply x by image width /"
                f" {width} and y by image height / {height}"
            ),
            "classes": list(net.classes),
            "thresholds": {
                "score": SCORE_FLOOR,
                "nms_iou": net.nms_thresh,
                "nms_candidates": net.nms_topk,
                "max_detections": net.post_nms,
            },
            "detector": self.spec.as_dict(),
        }

    def graph(self, raw_heads: bool = False) -> SymbolAndArrays:
        heads = trace(self.net.heads)
        names = {symbol.name: name for symbol, name in zip(heads, self.heads)}
        if raw_heads:
            return folded(mx.sym.Group(heads), self.net.heads, names)
        # The nodes of the heads have the same names here: a block restarts its counter on each call.
        outputs = trace(self.net)
        names.update({symbol.name: name for symbol, name in zip(outputs, self.outputs)})
        return folded(mx.sym.Group(outputs), self.net, names)

    def head_shapes(self) -> Dict[str, Sequence[int]]:
        anchors = len(self.net.anchors)
        return {"cls_preds": (anchors, len(self.net.classes) + 1), "box_preds": (anchors, 4)}

    def append_onnx_outputs(self, model: ModelProto) -> None:
        from .onnx_model import append_detections

        scores = self.net.heads.layout.scores
        append_detections(model, self.net.anchors, self.suppression, self.outputs, scores)

    def read(self, image: Image) -> np.ndarray:
        return read_for_network(image, self.size)[0]

    def run(self, pixels: Sequence[np.ndarray]) -> List[np.ndarray]:
        x = self.network_input(pixels)
        return [array.asnumpy() for array in (*self.net.heads(x), *self.net(x))]

    def exact_check(self) -> DetectionParityCheck:
        return DetectionParityCheck(self.suppression, self._decode)

    def _decode(self, cls_preds: np.ndarray, box_preds: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Class probabilities without the background and corners, as the network itself computes them."""
        logits, offsets = (mx.nd.array(array, ctx=self.ctx) for array in (cls_preds, box_preds))
        corners = self.net.bbox_decoder(offsets, self.net.anchor_boxes.data(self.ctx))
        return self.net.class_scores(mx.nd, logits)[:, :, 1:].asnumpy(), corners.asnumpy()


class ExportedClassifier(ExportedNetwork):
    """A classifier with a `zoo.ClassifierSpec`: probabilities follow the logits."""

    heads, outputs, large_axes = ("logits",), ("probabilities",), (2, 4)

    def describe(self) -> Dict[str, Any]:
        count = len(self.spec.classes)
        return {
            "task": "classification",
            "input": describe_input(self.size, self.spec.val_crop),
            "outputs": [describe_tensor("probabilities", (count,), "a probability for each class")],
            "heads": [describe_tensor("logits", (count,), "before the softmax")],
            "classes": list(self.spec.classes),
            "classifier": self.spec.as_dict(),
        }

    def graph(self, raw_heads: bool = False) -> SymbolAndArrays:
        """See `ExportedNetwork`. With `raw_heads` the logits keep the name of their layer."""
        (logits,) = trace(self.net)
        if raw_heads:
            return folded(logits, self.net, {})
        return folded(mx.sym.softmax(logits, name="probabilities"), self.net, {logits.name: "logits"})

    def head_shapes(self) -> Dict[str, Sequence[int]]:
        return {"logits": (len(self.spec.classes),)}

    def append_onnx_outputs(self, model: ModelProto) -> None:
        from .onnx_model import append_softmax

        append_softmax(model, "probabilities")

    def read(self, image: Image) -> np.ndarray:
        return read_for_classifier(image, self.size, self.spec.val_crop)

    def run(self, pixels: Sequence[np.ndarray]) -> List[np.ndarray]:
        logits = self.net(self.network_input(pixels))
        return [logits.asnumpy(), mx.nd.softmax(logits).asnumpy()]

    def exact_check(self) -> ClassifierParityCheck:
        return ClassifierParityCheck()


def image_name(image: Image, number: int) -> str:
    """The path of an image, or its number, counted from 1, if it has none."""
    return str(image) if isinstance(image, (str, Path)) else f"image {number}"


def folded(outputs: mx.sym.Symbol, block: Any, names: Mapping[str, str]) -> SymbolAndArrays:
    """An inference graph with BatchNorm folded into the convolutions; nodes in `names` are renamed."""
    arrays = read_arrays(block)
    graph = Graph(outputs, {name: value.shape for name, value in arrays.items()})
    for node in graph.nodes():
        node.name = names.get(node.name, node.name)
    return fold(graph, arrays)


def trace(block: Any) -> List[mx.sym.Symbol]:
    """Outputs of a block as symbols."""
    return outputs_of(block, mx.sym.var(INPUT_NAME))
