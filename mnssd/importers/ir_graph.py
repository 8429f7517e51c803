"""The detector in a parsed OpenVINO IR."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional, Set, Tuple

import numpy as np

from ..errors import ImportedFileError
from .graph import Add, Conv, ConvGraph, InputPixels, ReadNetwork, RuleAnchors
from .ir_file import IRFile, Layer
from .refusal import refusing

CONVOLUTIONS = ("Convolution", "GroupConvolution")

HANDS_ON = ("Reshape", "Unsqueeze", "Squeeze", "Convert")
"""Layers whose output has the values of their first input."""

SHAPES = (
    "ShapeOf", "StridedSlice", "Gather", "ReduceProd", "Const", "Result", "Transpose", "Concat", "SoftMax",
    "Softmax", "Sigmoid", "PriorBoxClustered", "DetectionOutput",
)  # fmt: skip
"""Layers that are read with the outputs, or that only compute shapes."""

SCORE_FUNCTIONS = {"SoftMax": "softmax", "Softmax": "softmax", "Sigmoid": "sigmoid"}

INPUT_SCALES = ("Multiply", "Divide", "Subtract", "Add")
"""Layers that normalize the image, with a constant."""

ROWS = (0, 2, 3, 1)
"""The order of axes before the values of an anchor are next to each other."""


def read_network(ir: IRFile) -> ReadNetwork:
    """The detector; ImportedFileError names the layer that has no equal here."""
    reader = _Reader(ir)
    for layer in ir.layers.values():
        with refusing(ir.path, f"layer {layer.name!r} ({layer.kind})"):
            reader.convert(layer)
    with refusing(ir.path, "the outputs"):
        return reader.detector()


class _Reader:
    def __init__(self, ir: IRFile) -> None:
        self.ir, self.readers = ir, ir.readers()
        parameters = [layer for layer in ir.layers.values() if layer.kind == "Parameter"]
        if len(parameters) != 1 or len(parameters[0].shape) != 4 or parameters[0].shape[1] != 3:
            raise ImportedFileError(f"{ir.path}: expected one input (1, 3, height, width)")
        self.image = parameters[0]
        self.scale, self.shift = np.ones(3), np.zeros(3)  # of pixels from 0 to 255
        self.tensor = self.image.name  # the normalized image
        self.convolutions: Dict[str, Conv] = {}
        self.sums: Dict[str, Add] = {}

    def convert(self, layer: Layer) -> None:
        """Take in a layer."""
        known = (*CONVOLUTIONS, *HANDS_ON, *SHAPES, *INPUT_SCALES, "Clamp", "ReLU", "Parameter")
        if layer.kind not in known:
            raise ImportedFileError("a layer that MobileNet-SSDs do not have")
        if layer.kind in INPUT_SCALES and self.tensor in layer.inputs[:2] and self._has_constant(layer):
            self._normalize(layer)
        elif layer.kind in CONVOLUTIONS:
            self.convolutions[layer.name] = self._convolution(layer)
        elif layer.kind in ("Clamp", "ReLU"):
            self._activate(layer)
        elif layer.kind == "Add":
            self._add(layer)
        elif layer.kind in INPUT_SCALES:
            raise ImportedFileError("arithmetic other than on the image, biases and shortcuts")

    def _has_constant(self, layer: Layer) -> bool:
        return len(layer.inputs) == 2 and any(self.ir.is_constant(name) for name in layer.inputs)

    def _normalize(self, layer: Layer) -> None:
        if layer.inputs[0] != self.tensor or self.convolutions:
            raise ImportedFileError("arithmetic on the image in an unusual place")
        value = self.ir.constant(layer.inputs[1]).astype(np.float64).reshape(-1)
        if len(value) not in (1, 3) or not np.isfinite(value).all():
            raise ImportedFileError(f"a constant of {len(value)} values")
        if layer.kind in ("Multiply", "Divide"):
            factor = value if layer.kind == "Multiply" else 1 / value
            self.scale, self.shift = self.scale * factor, self.shift * factor
        else:
            self.shift = self.shift + (value if layer.kind == "Add" else -value)
        self.tensor = layer.name

    def _convolution(self, layer: Layer) -> Conv:
        source, weight_name = layer.inputs[:2]
        weight = self.ir.constant(weight_name)
        groups = 1
        if layer.kind == "GroupConvolution":
            if weight.ndim != 5 or weight.shape[1:3] != (1, 1):
                raise ImportedFileError(f"weights of shape {weight.shape}; expected one filter per channel")
            groups, weight = weight.shape[0], weight.reshape(weight.shape[0], 1, *weight.shape[3:])
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or weight.dtype != np.float32:
            raise ImportedFileError(f"weights of shape {weight.shape}")
        strides, dilations = layer.integers("strides"), layer.integers("dilations")
        if len(set(strides)) != 1 or set(dilations) - {1}:
            raise ImportedFileError("strides that differ, or a dilation")
        kernel, auto = weight.shape[2], layer.attributes.get("auto_pad", "explicit")
        pads = {*layer.integers("pads_begin"), *layer.integers("pads_end")}
        if auto not in ("explicit", "notset", "same_upper") or (
            auto != "same_upper" and pads != {kernel // 2}
        ):
            raise ImportedFileError(f"padded by {sorted(pads)} ({auto}) with a kernel of {kernel}")
        bias = np.zeros(weight.shape[0], np.float32)
        same = auto == "same_upper" and kernel > 1
        return Conv(f"layer {layer.name!r}", source, layer.name, weight, bias, strides[0], groups, same)

    def _of(self, name: str) -> Conv:
        """The convolution before a bias or an activation, which nothing else may read."""
        conv = self.convolutions.get(name)
        if conv is None or self.readers.get(name) != 1 or conv.activation:
            raise ImportedFileError(f"reads {name!r}, which is no convolution of its own")
        return conv

    def _activate(self, layer: Layer) -> None:
        kind = "relu"
        if layer.kind == "Clamp":
            limits = layer.numbers("min") + layer.numbers("max")
            if limits != (0.0, 6.0):
                raise ImportedFileError(f"limits {limits}, expected 0 and 6")
            kind = "relu6"
        conv = self._of(layer.inputs[0])
        del self.convolutions[layer.inputs[0]]
        self.convolutions[layer.name] = replace(conv, output=layer.name, activation=kind)

    def _add(self, layer: Layer) -> None:
        first, second = layer.inputs[:2]
        if not self.ir.is_constant(second):
            self.sums[layer.name] = Add(f"layer {layer.name!r}", first, second, layer.name)
            return
        conv, bias = self._of(first), self.ir.constant(second)
        if bias.size != conv.channels or bias.dtype != np.float32:
            raise ImportedFileError(f"a bias of shape {bias.shape} for {conv.channels} channels")
        del self.convolutions[first]
        total = conv.bias + bias.reshape(-1)
        self.convolutions[layer.name] = replace(conv, output=layer.name, bias=total)

    def detector(self) -> ReadNetwork:
        """What the output layer makes of the convolutions."""
        outputs = [layer for layer in self.ir.layers.values() if layer.kind == "DetectionOutput"]
        if len(outputs) != 1:
            raise ImportedFileError("expected one DetectionOutput; other networks cannot be imported")
        output = outputs[0]
        expected = {
            "code_type": "caffe.PriorBoxParameter.CENTER_SIZE", "variance_encoded_in_target": "false",
            "share_location": "true",
        }  # fmt: skip
        for name, value in expected.items():
            if output.attributes.get(name, value) != value:
                raise ImportedFileError(f"DetectionOutput with {name} {output.attributes[name]}")
        boxes, _ = self._trace(output.inputs[0])
        classes, function = self._trace(output.inputs[1])
        anchors, stds = self._anchors(output.inputs[2])
        anchor_counts = [self.convolutions[name].channels // 4 for name in boxes]
        columns = {self.convolutions[n].channels // max(c, 1) for n, c in zip(classes, anchor_counts)}
        if len(columns) != 1 or len(boxes) != len(classes) or not function:
            raise ImportedFileError("predictors of boxes and classes that do not belong together")
        count, background = columns.pop(), int(output.attributes.get("background_label_id", "0"))
        order = [name for name in self.ir.layers if name in self.convolutions or name in self.sums]
        graph = ConvGraph(self.tensor, [self.convolutions.get(n) or self.sums[n] for n in order])
        return ReadNetwork(
            "OpenVINO IR", graph, (self.image.shape[3], self.image.shape[2]), self._pixels(), count,
            class_tensors=classes, box_tensors=boxes, scores=function, anchors=anchors, box_stds=stds,
            background=background if 0 <= background < count else None,
            nms_iou=float(output.attributes.get("nms_threshold", "0.45")),
            notes=["the input is taken to be BGR, as of Open Model Zoo's networks"],
        )  # fmt: skip

    def _pixels(self) -> InputPixels:
        if not (self.scale > 0).all():
            raise ImportedFileError(f"the image is multiplied by {self.scale}")
        mean, std = -self.shift / self.scale / 255, 1 / (255 * self.scale)
        return InputPixels(tuple(mean.tolist()), tuple(std.tolist()), is_bgr=True)

    def _trace(self, name: str) -> Tuple[List[str], str]:
        """The convolutions that an input of the output layer joins, and the score function between."""
        found: List[str] = []
        functions: Set[str] = set()
        waiting = [name]
        for _ in range(2 * len(self.ir.layers)):
            if not waiting:
                return found, next(iter(functions), "")
            layer = self.ir.layers[waiting.pop(0)]
            if layer.name in self.convolutions:
                found.append(layer.name)
            elif layer.kind == "Concat":
                waiting = [*layer.inputs, *waiting]
            elif layer.kind in (*HANDS_ON, "Transpose", *SCORE_FUNCTIONS):
                if layer.kind == "Transpose":
                    order = tuple(self.ir.constant(layer.inputs[1]).reshape(-1).tolist())
                    if order != ROWS:
                        raise ImportedFileError(f"layer {layer.name!r}: axes {order}, expected {ROWS}")
                functions |= {SCORE_FUNCTIONS[layer.kind]} if layer.kind in SCORE_FUNCTIONS else set()
                waiting = [layer.inputs[0], *waiting]
            else:
                raise ImportedFileError(f"layer {layer.name!r} ({layer.kind}): not after a predictor")
        raise ImportedFileError(f"layer {name!r}: joins too many layers")

    def _anchors(self, name: str) -> Tuple[RuleAnchors, Tuple[float, float, float, float]]:
        joined = self.ir.layers[name]
        parts = joined.inputs if joined.kind == "Concat" else [name]
        shapes, steps, variances = [], [], set()
        for part in parts:
            layer: Optional[Layer] = self.ir.layers[part]
            while layer is not None and layer.kind in HANDS_ON:
                layer = self.ir.layers[layer.inputs[0]]
            if layer is None or layer.kind != "PriorBoxClustered":
                raise ImportedFileError(f"layer {part!r}: anchors that are no PriorBoxClustered")
            widths, heights = layer.numbers("width"), layer.numbers("height")
            sides = {*layer.numbers("step"), *layer.numbers("step_w"), *layer.numbers("step_h")} - {0.0}
            unusual = layer.attributes.get("clip") in ("true", "1") or layer.numbers("offset") != (0.5,)
            if len(widths) != len(heights) or len(sides) != 1 or unusual:
                raise ImportedFileError(f"layer {layer.name!r}: {layer.attributes}")
            shapes.append(tuple(zip(widths, heights)))
            steps.append(sides.pop())
            variances.add(layer.numbers("variance"))
        (stds,) = variances
        if len(stds) != 4 or not min(stds) > 0:
            raise ImportedFileError(f"variances {stds}")
        return RuleAnchors(tuple(shapes), tuple(steps)), (stds[0], stds[1], stds[2], stds[3])
