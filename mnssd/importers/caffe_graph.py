"""The network in the two files of a Caffe network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, List, Set, Tuple

import numpy as np

from ..errors import ImportedFileError
from .caffe_anchors import read_anchors
from .caffe_file import CaffeNetwork
from .graph import Add, Conv, ConvGraph, InputPixels, Operator, ReadNetwork, rescaled
from .reference import POOLED
from .refusal import refusing

DEPTHWISE = ("DepthwiseConvolution", "ConvolutionDepthwise")
"""Convolutions of forks of Caffe with one filter for each channel."""

HANDS_ON = ("Dropout", "Split")
"""Layers whose output is their input at test time."""

OUTPUTS = ("Permute", "Flatten", "Reshape", "Concat", "Softmax", "Sigmoid", "PriorBox", "DetectionOutput")
"""Layers after the predictors."""

SCORE_FUNCTIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}

ROWS = (0, 2, 3, 1)
"""The order of axes before the values of an anchor are next to each other."""

DETECTOR_PIXELS = InputPixels((0.5,) * 3, (1 / (0.007843 * 255),) * 3, is_bgr=True)
"""chuanqi305's networks: ``(x - 127.5) * 0.007843`` (``demo.py`` at github.com/chuanqi305/MobileNet-SSD)."""

CLASSIFIER_PIXELS = InputPixels(
    (103.94 / 255, 116.78 / 255, 123.68 / 255), (1 / (0.017 * 255),) * 3, is_bgr=True
)
"""shicai's classifiers, in the comment of their prototxt (github.com/shicai/MobileNet-Caffe)."""


def read_network(net: CaffeNetwork) -> ReadNetwork:
    """The detector or classifier; ImportedFileError names the layer that has no equal here."""
    reader = _Reader(net)
    for layer in net.layers:
        with refusing(net.structure, f"layer {layer.name!r} ({layer.type})"):
            reader.convert(layer)
    with refusing(net.structure, "the outputs"):
        return reader.network()


class _Reader:
    """Names tensors by the layer that makes them: layers in place give another tensor the same name."""

    def __init__(self, net: CaffeNetwork) -> None:
        self.net = net
        self.made: Dict[str, str] = {net.image: net.image}  # tensors by the name of their blob
        self.operators: Dict[str, Operator] = {}
        self.outputs: Dict[str, Tuple[Any, List[str]]] = {}  # layers after the predictors, and their inputs
        self.pooled: Dict[str, str] = {}
        self.used: Set[str] = set()
        self.names: Set[str] = set()
        self.last = ""
        self.readers: Dict[str, Callable[[Any, List[str]], None]] = {
            "Convolution": self._convolution, "InnerProduct": self._dense, "BatchNorm": self._normalize,
            "Scale": self._scale, "ReLU": self._activate, "ReLU6": self._activate, "Eltwise": self._add,
            "Pooling": self._pool, **dict.fromkeys(DEPTHWISE, self._convolution),
        }  # fmt: skip

    def convert(self, layer: Any) -> None:
        """Take in a layer."""
        if layer.type == "Input":
            return
        if not layer.name or layer.name in self.names or layer.name == self.net.image:
            raise ImportedFileError("a layer without a name of its own")
        self.names.add(layer.name)
        missing = [blob for blob in layer.bottom if blob not in self.made]
        if missing or not len(layer.bottom) or not len(layer.top):
            raise ImportedFileError(f"reads {missing or 'nothing'}, which no layer before it makes")
        sources = [self.made[blob] for blob in layer.bottom]
        tensor = sources[0] if layer.type in HANDS_ON else layer.name
        if layer.type in self.readers:
            self.readers[layer.type](layer, sources)
        elif layer.type in OUTPUTS:
            self.outputs[layer.name] = (layer, sources)
        elif layer.type not in HANDS_ON:
            raise ImportedFileError("a layer that MobileNets do not have")
        self.used.update(sources)
        self.made.update(dict.fromkeys(layer.top, tensor))
        self.last = tensor

    def _convolution(self, layer: Any, sources: List[str]) -> None:
        param = layer.convolution_param
        channels, kernel = int(param.num_output), _side(param, "kernel_size", "kernel", 0)
        stride, pad = _side(param, "stride", "stride", 1), _side(param, "pad", "pad", 0)
        groups = channels if layer.type in DEPTHWISE else int(param.group)
        if kernel < 1 or channels < 1 or set(param.dilation) - {1} or groups not in (1, channels):
            raise ImportedFileError(f"{channels} outputs, kernel {kernel}, {groups} groups, or a dilation")
        if pad != kernel // 2:
            raise ImportedFileError(f"padded by {pad} with a kernel of {kernel}")
        stored = self.net.values(layer.name, 0)
        if stored.size % (channels * kernel * kernel):
            raise ImportedFileError(f"{stored.size} weights for {channels} outputs and a kernel of {kernel}")
        weight = stored.reshape(channels, -1, kernel, kernel)
        if groups > 1 and weight.shape[1] != 1:
            raise ImportedFileError(f"weights of shape {weight.shape}; expected one filter per channel")
        self._append(layer, sources[0], weight, bool(param.bias_term), stride, groups)

    def _dense(self, layer: Any, sources: List[str]) -> None:
        param = layer.inner_product_param
        stored, channels = self.net.values(layer.name, 0), int(param.num_output)
        if param.transpose or channels < 1 or stored.size % channels or sources[0] not in self.pooled:
            raise ImportedFileError(f"{stored.size} weights for {channels} outputs, or not after pooling")
        self._append(layer, sources[0], stored.reshape(channels, -1, 1, 1), bool(param.bias_term), 1, 1)

    def _append(
        self, layer: Any, source: str, weight: np.ndarray, has_bias: bool, stride: int, groups: int
    ) -> None:
        channels = len(weight)
        bias = self.net.values(layer.name, 1, channels) if has_bias else np.zeros(channels, np.float32)
        name = f"layer {layer.name!r}" + (POOLED if source in self.pooled else "")
        source = self.pooled.get(source, source)
        self.operators[layer.name] = Conv(name, source, layer.name, weight, bias, stride, groups)

    def _of(self, tensor: str) -> Conv:
        """The convolution that makes a tensor, which nothing else has read."""
        conv = self.operators.get(tensor)
        if not isinstance(conv, Conv) or conv.activation or tensor in self.used:
            raise ImportedFileError(f"reads {tensor!r}, which is no convolution of its own")
        return conv

    def _replace(self, layer: Any, old: str, conv: Conv) -> None:
        del self.operators[old]
        self.operators[layer.name] = replace(conv, output=layer.name)

    def _normalize(self, layer: Any, sources: List[str]) -> None:
        conv = self._of(sources[0])
        mean, variance = (self.net.values(layer.name, index, conv.channels) for index in (0, 1))
        count = float(self.net.values(layer.name, 2, 1)[0])
        scale = 1 / count if count else 0.0  # the stored sums are of `count` batches
        spread = variance.astype(np.float64) * scale + float(layer.batch_norm_param.eps)
        if not (np.isfinite(spread) & (spread > 0)).all():
            raise ImportedFileError("variances that are not above 0")
        factor = 1 / np.sqrt(spread)
        self._replace(layer, sources[0], rescaled(conv, factor, -mean.astype(np.float64) * scale * factor))

    def _scale(self, layer: Any, sources: List[str]) -> None:
        conv, param = self._of(sources[0]), layer.scale_param
        if len(sources) != 1 or param.axis != 1:
            raise ImportedFileError("a product of two tensors, or along another axis than the channels")
        factor = self.net.values(layer.name, 0, conv.channels)
        shift = self.net.values(layer.name, 1, conv.channels) if param.bias_term else np.zeros_like(factor)
        self._replace(layer, sources[0], rescaled(conv, factor, shift))

    def _activate(self, layer: Any, sources: List[str]) -> None:
        if layer.relu_param.negative_slope:
            raise ImportedFileError(f"a slope of {layer.relu_param.negative_slope} below 0")
        kind = "relu6" if layer.type == "ReLU6" else "relu"
        self._replace(layer, sources[0], replace(self._of(sources[0]), activation=kind))

    def _add(self, layer: Any, sources: List[str]) -> None:
        param = layer.eltwise_param
        if param.operation != 1 or len(sources) != 2 or set(param.coeff) - {1.0}:
            raise ImportedFileError("expected the sum of two tensors")
        name, (first, second) = layer.name, sources
        self.operators[name] = Add(f"layer {name!r}", first, second, name)

    def _pool(self, layer: Any, sources: List[str]) -> None:
        param = layer.pooling_param
        cells = {-(-side // 32) for side in self.net.size}
        if param.pool != 1 or param.pad or not (param.global_pooling or cells == {param.kernel_size}):
            raise ImportedFileError("expected the mean over all positions")
        self.pooled[layer.name] = sources[0]

    def network(self) -> ReadNetwork:
        """What the last layers make of the convolutions."""
        graph = ConvGraph(self.net.image, list(self.operators.values()))
        found = [entry for entry in self.outputs.values() if entry[0].type == "DetectionOutput"]
        if len(found) > 1:
            raise ImportedFileError(f"{len(found)} DetectionOutput layers, expected one")
        return self._detector(graph, *found[0]) if found else self._classifier(graph)

    def _classifier(self, graph: ConvGraph) -> ReadNetwork:
        (tensor,), _ = self._trace(self.last, is_detector=False)
        count = graph.convolution(tensor, "the output").channels
        return ReadNetwork(
            "Caffe", graph, self.net.size, CLASSIFIER_PIXELS, count, logits=tensor, background=None,
            notes=["the input is taken to be BGR minus (103.94, 116.78, 123.68), times 0.017, as shicai's"],
        )  # fmt: skip

    def _detector(self, graph: ConvGraph, layer: Any, sources: List[str]) -> ReadNetwork:
        param = layer.detection_output_param
        if not param.share_location or param.variance_encoded_in_target or param.code_type != 2:
            raise ImportedFileError("boxes that are not shared offsets of center and size with variances")
        if len(sources) < 3:
            raise ImportedFileError(f"{layer.name!r} reads {len(sources)} tensors, expected 3")
        boxes, _ = self._trace(sources[0])
        classes, functions = self._trace(sources[1])
        if len(functions) != 1 or len(boxes) != len(classes):
            raise ImportedFileError("predictors of boxes and classes that do not belong together")
        maps = [graph.convolution(tensor, "the boxes").source for tensor in boxes]
        anchors, stds = read_anchors(self._priors(sources[2]), maps, self.net.size)
        count, background = int(param.num_classes), int(param.background_label_id)
        return ReadNetwork(
            "Caffe", graph, self.net.size, DETECTOR_PIXELS, count, class_tensors=classes, box_tensors=boxes,
            background=background if 0 <= background < count else None, scores=functions.pop(),
            anchors=anchors, box_stds=stds, nms_iou=float(param.nms_param.nms_threshold),
            notes=["the input is taken to be BGR, (x - 127.5) * 0.007843, as chuanqi305's"],
        )  # fmt: skip

    def _trace(self, tensor: str, is_detector: bool = True) -> Tuple[List[str], Set[str]]:
        """The convolutions that a tensor joins, and the score functions between."""
        found: List[str] = []
        functions: Set[str] = set()
        waiting = [(tensor, not is_detector)]
        for _ in range(2 * len(self.net.layers)):
            if not waiting:
                return found, functions
            tensor, has_rows = waiting.pop(0)
            if tensor in self.operators and has_rows:
                found.append(tensor)
                continue
            layer, sources = self.outputs.get(tensor, (None, []))
            if layer is None or layer.type in ("PriorBox", "DetectionOutput"):
                raise ImportedFileError(f"{tensor!r}: expected predictors whose axes are in the order {ROWS}")
            if layer.type == "Permute" and (has_rows or tuple(layer.permute_param.order) != ROWS):
                raise ImportedFileError(f"layer {tensor!r}: axes in another order than {ROWS}")
            if layer.type in SCORE_FUNCTIONS:
                functions.add(SCORE_FUNCTIONS[layer.type])
                if is_detector and layer.type == "Softmax" and layer.softmax_param.axis not in (2, -1):
                    raise ImportedFileError(f"layer {tensor!r}: along another axis than the classes")
            waiting = [*((source, has_rows or layer.type == "Permute") for source in sources), *waiting]
        raise ImportedFileError(f"{tensor!r}: joins too many layers")

    def _priors(self, tensor: str) -> List[Tuple[Any, str]]:
        """The PriorBox layers that a tensor joins, and the feature maps that they read."""
        layer, sources = self.outputs.get(tensor, (None, []))
        is_joined = layer is not None and layer.type == "Concat"
        entries = [self.outputs.get(s, (None, [])) for s in sources] if is_joined else [(layer, sources)]
        if any(part is None or part.type != "PriorBox" for part, _ in entries):
            raise ImportedFileError(f"{tensor!r}: anchors that are no PriorBox layers")
        return [(part, of[0]) for part, of in entries]


def _side(param: Any, name: str, side: str, default: int) -> int:
    """A number that is the same for height and width."""
    values = {int(value) for value in getattr(param, name)}
    values |= {int(getattr(param, f"{side}_{way}")) for way in "hw" if param.HasField(f"{side}_{way}")}
    if len(values) > 1:
        raise ImportedFileError(f"{name} {sorted(values)}; expected one for both sides")
    return values.pop() if values else default
