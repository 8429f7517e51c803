"""Frozen graphs of TensorFlow with random weights, written without protobuf, and their outputs.

The nodes are those of the Object Detection API: a preprocessor with a loop, slim's MobileNets, the anchors as
``MultipleGridAnchorGenerator`` computes them, and a post-processor.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import mxnet as mx
import numpy as np

from helpers.bundle_files import write_bundle
from helpers.caffe_files import V1_BLOCKS, V2_STAGES, field, varint

EXTRAS = ((32, 64), (16, 32), (16, 32), (16, 32))
TYPES = {"float32": 1, "uint8": 4, "int32": 3}
READING = {"VarHandleOp": "ReadVariableOp", "VariableV2": "Identity"}
OUT = {"bytes": 2, "int": 3, "float": 4, "bool": 5, "type": 6}


def attr(name: str, kind: str, value: Any) -> bytes:
    """An attribute of a node."""
    if kind == "list":
        data = field(1, field(3, b"".join(varint(v) for v in value)))
    elif kind == "shape":
        data = field(7, b"".join(field(2, varint(8) + varint(v % 2**64)) for v in value))
    elif kind == "tensor":
        data = field(8, value)
    elif kind == "bytes":
        data = field(2, value.encode())
    elif kind == "float":
        data = varint(8 * 4 + 5) + np.float32(value).tobytes()
    else:
        data = varint(8 * OUT[kind]) + varint(int(value))
    return field(5, field(1, name.encode()) + field(2, data))


class GraphWriter:
    """Appends nodes; `values` are the tensors ``(N, C, H, W)`` that they compute.

    `norm` is ``fused``, ``unfused`` or ``folded``; with `dynamic` the sides of feature maps are read from
    them, and the image has no fixed size before it is resized. `variables`: operator of weights in `stored`.
    """

    def __init__(self, image: np.ndarray, norm: str = "fused", dynamic: bool = False, width: float = 0.25,
                 explicit: bool = False, seed: int = 0, variables: str = "") -> None:  # fmt: skip
        self.variables, self.stored, self.data = variables, {}, b""  # type: str, Dict[str, np.ndarray], bytes
        self.rng, self.norm, self.dynamic, self.width = np.random.default_rng(seed), norm, dynamic, width
        self.explicit, self.size = explicit, (image.shape[2], image.shape[1])
        pixels = image.astype(np.float64) * 2 / 255 - 1
        self.values: Dict[str, Any] = {"Preprocessor/sub": mx.nd.array(pixels.transpose(0, 3, 1, 2))}

    def node(self, name: str, op: str, inputs: Sequence[str] = (), attrs: Sequence[bytes] = ()) -> str:
        body = field(1, name.encode()) + field(2, op.encode())
        body += b"".join(field(3, source.encode()) for source in inputs) + b"".join(attrs)
        self.data += field(1, body)
        return name

    def const(self, name: str, value: Any, kind: str = "float32", spelled: bool = False) -> str:
        """A constant; `spelled` writes the values as numbers, without those that repeat the last one."""
        array = np.asarray(value, kind)
        shape = b"".join(field(2, varint(8) + varint(side)) for side in array.shape)
        tensor = varint(8) + varint(TYPES[kind]) + field(2, shape)
        if spelled or not array.ndim:
            stored = array.reshape(-1)[:1] if np.unique(array).size == 1 else array.reshape(-1)
            parts = stored.tobytes() if kind == "float32" else b"".join(varint(int(v)) for v in stored)
            tensor += field(5 if kind == "float32" else 7, parts)
        else:
            tensor += field(4, array.tobytes())
        dtype = attr("dtype", "type", TYPES[kind])
        return self.node(name, "Const", (), [dtype, attr("value", "tensor", tensor)])

    def read(self, name: str, value: Any) -> str:
        """A variable, or what freezing leaves of it: a constant and an Identity."""
        if not self.variables:
            return self.node(f"{name}/read", "Identity", [self.const(name, value)])
        self.stored[name] = np.asarray(value, "float32")
        self.node(name, self.variables, (), [attr("shared_name", "bytes", ""), attr("dtype", "type", 1)])
        return self.node(f"{name}/read", READING[self.variables], [name])

    def preprocess(self) -> str:
        """The preprocessor, with a loop over the images that resizes them; returns the normalized image."""
        width, height = self.size
        shape = (-1, -1, -1, 3) if self.dynamic else (1, height, width, 3)
        self.node(
            "image_tensor", "Placeholder", (), [attr("dtype", "type", 4), attr("shape", "shape", shape)]
        )
        self.node("ToFloat", "Cast", ["image_tensor"], [attr("SrcT", "type", 4), attr("DstT", "type", 1)])
        self.node("Preprocessor/map/array", "TensorArrayScatterV3", ["ToFloat"])
        self.node(
            "Preprocessor/map/while/Merge", "Merge", ["Preprocessor/map/array", "Preprocessor/map/while/Next"]
        )
        self.node("Preprocessor/map/while/Switch", "Switch", ["Preprocessor/map/while/Merge"])
        top = self.node(
            "Preprocessor/map/while/Read", "TensorArrayReadV3", ["Preprocessor/map/while/Switch:1"]
        )
        if self.dynamic:
            size = self.const("Preprocessor/map/while/size", [height, width], "int32")
            top = self.node("Preprocessor/map/while/ResizeBilinear", "ResizeBilinear", [top, size])
        self.node("Preprocessor/map/while/Next", "NextIteration", [top])
        self.node("Preprocessor/map/while/Exit", "Exit", ["Preprocessor/map/while/Switch"])
        self.node("Preprocessor/stack", "TensorArrayGatherV3", ["Preprocessor/map/while/Exit"])
        self.const("Preprocessor/mul/x", 2 / 255)
        self.node("Preprocessor/mul", "Mul", ["Preprocessor/mul/x", "Preprocessor/stack"])
        self.const("Preprocessor/sub/y", 1.0)
        return self.node("Preprocessor/sub", "Sub", ["Preprocessor/mul", "Preprocessor/sub/y", "^ToFloat"])

    def conv(self, name: str, source: str, channels: int, kernel: int = 1, stride: int = 1,
             depthwise: bool = False, act: bool = True, head: bool = False) -> str:  # fmt: skip
        """Append a convolution with SAME padding, its BatchNorm or bias, and a ReLU6 if `act`."""
        x = self.values[source]
        inputs = x.shape[1]
        fan = kernel * kernel * (1 if depthwise else inputs)
        shape = (kernel, kernel, inputs, 1 if depthwise else channels)
        weight = self.rng.normal(0, 0.5 / sqrt(fan) if head else sqrt(2 / fan), shape).astype(np.float32)
        sides = [-(-side // stride) for side in x.shape[2:]]
        # TensorFlow's documentation of SAME: the odd zero comes last.
        totals = [max((o - 1) * stride + kernel - i, 0) for o, i in zip(sides, x.shape[2:])]
        pads = [(total // 2, total - total // 2) for total in totals]
        padding, data = "SAME", source
        if self.explicit and kernel > 1:
            pads, padding = [(kernel // 2, kernel // 2)] * 2, "VALID"
            amounts = self.const(f"{name}/paddings", [(0, 0), *pads, (0, 0)], "int32")
            data = self.node(f"{name}/Pad", "Pad", [source, amounts])
        padded = mx.nd.pad(x, mode="constant", pad_width=(0, 0, 0, 0, *pads[0], *pads[1]), constant_value=0)
        y = mx.nd.Convolution(
            padded, mx.nd.array(weight.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))), no_bias=True,
            kernel=(kernel, kernel), stride=(stride, stride), num_filter=channels,
            num_group=inputs if depthwise else 1,
        )  # fmt: skip
        attrs = [attr("strides", "list", (1, stride, stride, 1)), attr("padding", "bytes", padding)]
        op = "DepthwiseConv2dNative" if depthwise else "Conv2D"
        top = self.node(f"{name}/convolution", op, [data, self.read(f"{name}/weights", weight)], attrs)
        top, y = self.biased(name, top, y) if head or self.norm == "folded" else self.normalized(name, top, y)
        if act:
            top, y = self.node(f"{name}/Relu6", "Relu6", [top]), mx.nd.clip(y, 0, 6)
        self.values[top] = y
        return top

    def biased(self, name: str, top: str, y: Any) -> Tuple[str, Any]:
        bias = self.rng.normal(0, 0.3, y.shape[1]).astype(np.float32)
        source = self.read(f"{name}/biases", bias)
        return self.node(f"{name}/BiasAdd", "BiasAdd", [top, source]), y + mx.nd.array(
            bias.reshape(1, -1, 1, 1)
        )

    def normalized(self, name: str, top: str, y: Any) -> Tuple[str, Any]:
        count, name = y.shape[1], f"{name}/BatchNorm"
        arrays = [self.rng.uniform(0.5, 1.5, count), self.rng.normal(0, 0.3, count),
                  self.rng.normal(0, 0.3, count), self.rng.uniform(0.5, 1.5, count)]  # fmt: skip
        gamma, beta, mean, var = (array.astype(np.float32) for array in arrays)
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        g, b, m, v = (self.read(f"{name}/{n}", a) for n, a in zip(names, (gamma, beta, mean, var)))
        factor = gamma / np.sqrt(var + 0.001)
        y = y * mx.nd.array(factor.reshape(1, -1, 1, 1)) + mx.nd.array(
            (beta - mean * factor).reshape(1, -1, 1, 1)
        )
        if self.norm == "fused":
            attrs = [attr("epsilon", "float", 0.001), attr("is_training", "bool", False)]
            return self.node(f"{name}/FusedBatchNorm", "FusedBatchNorm", [top, g, b, m, v], attrs), y
        eps = self.const(f"{name}/batchnorm/add/y", 0.001)
        root = self.node(
            f"{name}/batchnorm/Rsqrt", "Rsqrt", [self.node(f"{name}/batchnorm/add", "Add", [v, eps])]
        )
        scale = self.node(f"{name}/batchnorm/mul", "Mul", [root, g])
        scaled = self.node(f"{name}/batchnorm/mul_1", "Mul", [top, scale])
        shift = self.node(f"{name}/batchnorm/mul_2", "Mul", [m, scale])
        shift = self.node(f"{name}/batchnorm/sub", "Sub", [b, shift])
        return self.node(f"{name}/batchnorm/add_1", "Add", [scaled, shift]), y

    def v1(self, source: str) -> List[str]:
        """MobileNetV1; returns the tensors of its taps."""
        base = "FeatureExtractor/MobilenetV1/MobilenetV1/Conv2d"
        top, outputs = self.conv(f"{base}_0", source, int(32 * self.width), 3, 2), []
        for index, (channels, stride) in enumerate(V1_BLOCKS, start=1):
            top = self.conv(
                f"{base}_{index}_depthwise", top, self.values[top].shape[1], 3, stride, depthwise=True
            )
            top = self.conv(f"{base}_{index}_pointwise", top, int(channels * self.width))
            outputs.append(top)
        return [outputs[10], outputs[12]]

    def v2(self, source: str) -> List[str]:
        """MobileNetV2 with twice `width`; returns the tensors of its taps."""
        base = "FeatureExtractor/MobilenetV2"
        top, number, tap = self.conv(f"{base}/Conv", source, self.divisible(32), 3, 2), 0, ""
        for stage, (channels, count, stride) in enumerate(V2_STAGES):
            for index in range(count):
                name, start = f"{base}/expanded_conv" + (f"_{number}" if number else ""), top
                if stage:
                    top = self.conv(f"{name}/expand", top, self.values[top].shape[1] * 6)
                tap = top if number == 13 else tap
                strides = stride if index == 0 else 1
                top = self.conv(
                    f"{name}/depthwise", top, self.values[top].shape[1], 3, strides, depthwise=True
                )
                top = self.conv(f"{name}/project", top, self.divisible(channels), act=False)
                if index:
                    total = self.values[top] + self.values[start]
                    top = self.node(f"{name}/add", "Add", [top, start])
                    self.values[top] = total
                top, value = self.node(f"{name}/output", "Identity", [top]), self.values[top]
                self.values[top] = value
                number += 1
        return [tap, self.conv(f"{base}/Conv_1", top, 1280)]

    def divisible(self, channels: int) -> int:
        """``_make_divisible`` of slim's ``mobilenet.py``."""
        wanted = channels * 2 * self.width
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * wanted else rounded

    def heads(self, index: int, source: str, count: int, columns: int, lite: bool) -> List[Tuple[str, Any]]:
        """Predictors of a feature map: the reshaped boxes and class scores, and their values."""
        result = []
        for kind, size, tail in (
            ("BoxEncodingPredictor", 4, (1, 4)),
            ("ClassPredictor", columns, (columns,)),
        ):
            name, top = f"BoxPredictor_{index}/{kind}", source
            if lite:
                top = self.conv(f"{name}_depthwise", top, self.values[top].shape[1], 3, depthwise=True)
            top = self.conv(name, top, count * size, act=False, head=True)
            values = self.values[top].asnumpy().transpose(0, 2, 3, 1).reshape(-1, size)
            shape = self.const(f"{name}/shape", (1, len(values), *tail), "int32")
            result.append((self.node(f"{name}/Reshape", "Reshape", [top, shape]), values))
        return result

    def anchors(self, maps: Sequence[str], sizes: Sequence[Tuple[Sequence[float], Sequence[float]]]) -> str:
        """Anchors of scales and ratios for each map, as ``multiple_grid_anchor_generator.py`` makes them."""
        parts, root = [], "MultipleGridAnchorGenerator"
        for index, (source, (scales, ratios)) in enumerate(zip(maps, sizes)):
            base = f"{root}/map{index}"
            roots = self.node(f"{base}/Sqrt", "Sqrt", [self.const(f"{base}/ratios", ratios)])
            wanted = self.const(f"{base}/scales", scales)
            short = min(self.size)
            factors = [self.const(f"{base}/side{way}", short / side) for way, side in zip("xy", self.size)]
            high = self.node(f"{base}/high", "RealDiv", [wanted, roots])
            high = self.node(f"{base}/heights", "Mul", [high, factors[1]])
            wide = self.node(f"{base}/wide", "Mul", [wanted, roots])
            wide = self.node(f"{base}/widths", "Mul", [wide, factors[0]])
            centers = [self.centers(f"{base}/{way}", source, axis) for way, axis in (("y", 2), ("x", 3))]
            rows, columns = self.values[source].shape[2:]
            y, x, h, w = (
                self.spread(f"{base}/grid{name}", tensor, shape, (rows, columns, len(scales)))
                for name, tensor, shape in (
                    ("y", centers[0], (rows, 1, 1)), ("x", centers[1], (1, columns, 1)),
                    ("h", high, (1, 1, -1)), ("w", wide, (1, 1, -1)),
                )
            )  # fmt: skip
            pairs = []
            for name, first, second in (("centers", y, x), ("sizes", h, w)):
                axis = attr("axis", "int", 3)
                stack = self.node(f"{base}/{name}", "Pack", [first, second], [axis, attr("N", "int", 2)])
                shape = self.const(f"{base}/{name}/shape", np.array([-1, 2]), "int32")
                pairs.append(self.node(f"{base}/{name}/flat", "Reshape", [stack, shape]))
            half = self.node(f"{base}/half", "Mul", [self.const(f"{base}/half/x", 0.5), pairs[1]])
            low = self.node(f"{base}/low", "Sub", [pairs[0], half])
            top = self.node(f"{base}/top", "Add", [pairs[0], half])
            axis = self.const(f"{base}/axis", 1, "int32")
            parts.append(self.node(f"{base}/concat", "ConcatV2", [low, top, axis]))
        return self.node(
            "Concatenate/concat", "ConcatV2", [*parts, self.const("Concatenate/concat/axis", 0, "int32")]
        )

    def centers(self, name: str, source: str, axis: int) -> str:
        side = self.values[source].shape[axis]
        if self.dynamic:
            shape = self.node(f"{name}/Shape", "Shape", [source])
            bounds = [
                self.const(f"{name}/{n}", [v], "int32") for n, v in (("b", axis - 1), ("e", axis), ("s", 1))
            ]
            mask = attr("shrink_axis_mask", "int", 1)
            count = self.node(f"{name}/count", "StridedSlice", [shape, *bounds], [mask])
        else:
            count = self.const(f"{name}/count", side, "int32")
        ends = [self.const(f"{name}/start", 0, "int32"), count, self.const(f"{name}/delta", 1, "int32")]
        top = self.node(f"{name}/range", "Range", ends)
        top = self.node(f"{name}/float", "Cast", [top], [attr("DstT", "type", 1)])
        top = self.node(f"{name}/mul", "Mul", [top, self.const(f"{name}/stride", 1 / side)])
        return self.node(f"{name}/add", "Add", [top, self.const(f"{name}/offset", 0.5 / side)])

    def spread(self, name: str, source: str, shape: Sequence[int], whole: Sequence[int]) -> str:
        wanted = self.const(f"{name}/shape", np.array(shape), "int32")
        top = self.node(f"{name}/Reshape", "Reshape", [source, wanted])
        counts = [1 if side != 1 else total for side, total in zip(shape, whole)]
        return self.node(
            f"{name}/Tile", "Tile", [top, self.const(f"{name}/counts", counts, "int32", spelled=True)]
        )

    def postprocess(
        self, boxes: str, classes: str, anchors: str, scales: Sequence[float], iou: float
    ) -> None:
        """Scores, decoded boxes and non-maximum suppression, as far as they are read."""
        base, unpack = "Postprocessor/Decode", [attr("axis", "int", 0), attr("num", "int", 4)]
        anchors = self.node("Postprocessor/Tile", "Tile", [
            self.node("Postprocessor/ExpandDims", "ExpandDims", [anchors, self.const("zero", 0, "int32")]),
            self.const("ones", (1, 1, 1), "int32"),
        ])  # fmt: skip
        flat = self.const("Postprocessor/Reshape/shape", np.array([-1, 4]), "int32")
        order = self.const("Postprocessor/order", (1, 0), "int32")
        for name, source in (("/get_center_coordinates_and_sizes", anchors), ("", boxes)):
            top = self.node(f"{base}{name}/rows", "Reshape", [source, flat])
            top = self.node(f"{base}{name}/transpose", "Transpose", [top, order])
            self.node(f"{base}{name}/unstack", "Unpack", [top], unpack)
        for index, scale in enumerate(scales):
            column = f"{base}/unstack" + (f":{index}" if index else "")
            self.node(f"{base}/truediv_{index}", "RealDiv", [column, self.const(f"{base}/by{index}", scale)])
        top = self.node("Postprocessor/scale_logits", "RealDiv", [classes, self.const("logit_scale", 1.0)])
        top = self.node("Postprocessor/convert_scores", "Sigmoid", [top])
        begin, size = (
            self.const(f"cut{n}", np.array(v), "int32") for n, v in ((0, (0, 0, 1)), (1, (-1, -1, -1)))
        )
        self.node("Postprocessor/Slice", "Slice", [top, begin, size])
        self.const("iou_threshold", iou)
        self.node("nms", "NonMaxSuppressionV3", ["boxes", "scores", "count", "iou_threshold", "low"])

    def write(self, path: Path, saved: bool = False) -> None:
        path.write_bytes(b"\x08\x01" + field(2, field(2, self.data)) if saved else self.data)
        if self.stored:
            write_bundle(path.parent / "variables" / "variables", self.stored)


def anchor_sizes(maps: int) -> List[Tuple[Sequence[float], Sequence[float]]]:
    """Scales and ratios of TensorFlow's configurations."""
    scales = [*np.linspace(0.2, 0.95, maps), 1.0]
    rest = [
        ([s] * 5 + [sqrt(s * n)], (1.0, 2.0, 0.5, 3.0, 0.3333, 1.0)) for s, n in zip(scales[1:], scales[2:])
    ]
    return [((0.1, 0.2, 0.2), (1.0, 2.0, 0.5)), *rest]


def write_ssd(
    path: Path, image: np.ndarray, network: str = "v1", columns: int = 6, lite: bool = False,
    saved: bool = False, post: str = "full", scales: Sequence[float] = (10, 10, 5, 5), iou: float = 0.6,
    extras: Sequence[Tuple[int, int]] = EXTRAS, last: int = 3, **options: Any,
) -> Tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Write a detector; returns its logits ``(A, columns)`` and boxes ``(A, 4)`` for the image.

    `post` is ``full``, ``lite`` (TensorFlow Lite's operator) or ``none``; `last` the last layer's kernel.
    """
    writer = GraphWriter(image, **options)
    maps = getattr(writer, network)(writer.preprocess())
    for index, (squeeze, channels) in enumerate(extras, start=2):
        base = f"FeatureExtractor/layer_{{}}_Conv2d_{index}"
        top = writer.conv(base.format(1), maps[-1], squeeze)
        if lite:
            top = writer.conv(base.format(2) + "_depthwise", top, squeeze, 3, 2, depthwise=True)
            maps.append(writer.conv(base.format(2), top, channels))
        else:
            kernel = last if index == len(extras) + 1 else 3
            maps.append(writer.conv(base.format(2), top, channels, kernel, 2))
    rows = [writer.heads(i, source, 6 if i else 3, columns, lite) for i, source in enumerate(maps)]
    joined = []
    for kind, name in enumerate(("concat", "concat_1")):
        axis = writer.const(f"{name}/axis", 1, "int32")
        joined.append(writer.node(name, "ConcatV2", [*(row[kind][0] for row in rows), axis]))
    boxes = writer.node("Squeeze", "Squeeze", [joined[0]], [attr("squeeze_dims", "list", (2,))])
    boxes_values, scores_values = (np.concatenate([row[kind][1] for row in rows]) for kind in (0, 1))
    if post == "full":
        writer.postprocess(boxes, joined[1], writer.anchors(maps, anchor_sizes(len(maps))), scales, iou)
    elif post == "lite":
        from helpers.tflite_files import tensorflow_anchors

        sides = [writer.values[m].shape[2] for m in maps]
        anchors = writer.const("anchors", tensorflow_anchors(sides))
        scores = writer.node("convert_scores", "Sigmoid", [joined[1]])
        names = ("y_scale", "x_scale", "h_scale", "w_scale")
        attrs = [attr(name, "float", value) for name, value in zip(names, scales)]
        attrs += [attr("nms_iou_threshold", "float", iou), attr("num_classes", "int", columns - 1)]
        writer.node(
            "TFLite_Detection_PostProcess", "TFLite_Detection_PostProcess", [boxes, scores, anchors], attrs
        )
    writer.write(path, saved)
    return scores_values, boxes_values


def write_classifier(
    path: Path, image: np.ndarray, classes: int = 5, network: str = "v1", saved: bool = False, **options: Any
) -> np.ndarray:
    """Write a classifier as slim's; returns its logits for the image."""
    writer = GraphWriter(image, **options)
    height, width = image.shape[1:3]
    shape = attr("shape", "shape", (-1, height, width, 3))
    source = writer.node("input", "Placeholder", (), [attr("dtype", "type", 1), shape])
    writer.values[source] = writer.values["Preprocessor/sub"]
    top = getattr(writer, network)(source)[1]
    sides = writer.values[top].shape[2:]
    attrs = [attr("ksize", "list", (1, *sides, 1)), attr("padding", "bytes", "VALID")]
    pooled = writer.node("AvgPool", "AvgPool", [top], attrs)
    writer.values[pooled] = writer.values[top].mean(axis=(2, 3), keepdims=True)
    logits = writer.conv("Logits/Conv2d_1c_1x1", pooled, classes, act=False, head=True)
    flat = writer.node("Logits/SpatialSqueeze", "Squeeze", [logits], [attr("squeeze_dims", "list", (1, 2))])
    writer.node("Predictions/Softmax", "Softmax", [flat])
    writer.write(path, saved)
    return writer.values[logits].asnumpy().reshape(-1)
