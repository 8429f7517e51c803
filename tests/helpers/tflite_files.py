"""TFLite files of narrow SSD MobileNetV1 with random weights, and their outputs computed on the way."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import flatbuffers
import mxnet as mx
import numpy as np
import tflite
from flatbuffers import flexbuffers

CHANNELS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), *[(128, 2)], *[(128, 1)] * 5, (256, 2), (256, 1))
"""Of the separable blocks at width 0.25, and their strides."""

EXTRAS = ((64, 128), (32, 64), (32, 64), (16, 32))
COUNTS = (3, 6, 6, 6, 6, 6)


class Writer:
    """Writes a model operator by operator; `values` are the tensors ``(N, C, H, W)`` that it computes.

    `kind` is ``float``, ``uint8`` or ``int8``. The values are those of real numbers without any rounding of
    activations.
    """

    def __init__(self, kind: str, image: np.ndarray, seed: int = 0) -> None:
        self.kind, self.rng = kind, np.random.default_rng(seed)
        self.tensors: List[Dict[str, Any]] = []
        self.operators: List[Tuple[str, List[int], List[int], Any]] = []
        self.low = {"uint8": 0, "int8": -128, "float": 0}[kind]
        height, width = image.shape[1:3]
        scale = {} if kind == "float" else {"scale": [1 / 128], "zero": [128 + self.low]}
        self.image = self.tensor("image", (1, height, width, 3), self.code, **scale)
        mean, std = (127.5, 127.5) if kind == "float" else (128, 128)
        pixels = (image.astype(np.float64) - mean) / std
        self.values = {self.image: mx.nd.array(pixels.transpose(0, 3, 1, 2))}

    @property
    def code(self) -> int:
        """The type of activations."""
        return {"float": 0, "uint8": 3, "int8": 9}[self.kind]

    def tensor(self, name: str, shape: Sequence[int], code: int, data: bytes = b"", **more: Any) -> int:
        self.tensors.append({"name": name, "shape": list(shape), "code": code, "data": data, **more})
        return len(self.tensors) - 1

    def weight(self, shape: Tuple[int, ...], axis: int) -> Tuple[int, np.ndarray, Any]:
        """A constant ``(O, h, w, I)`` or ``(1, h, w, C)``, its real values and its scales."""
        values = self.rng.normal(0, sqrt(2 / np.prod([s for i, s in enumerate(shape) if i != axis])), shape)
        if self.kind == "float":
            values = values.astype(np.float32)
            return self.tensor("weight", shape, 0, values.tobytes()), values, None
        per_channel = self.kind == "int8"
        axes = tuple(i for i in range(len(shape)) if i != axis) if per_channel else None
        scale = np.abs(values).max(axis=axes, keepdims=True) / 127
        zero = 0 if per_channel else 128
        stored = np.clip(np.rint(values / scale) + zero, self.low, self.low + 255)
        scales = np.asarray(scale, np.float32).reshape(-1)
        index = self.tensor(
            "weight", shape, self.code, stored.astype("i1" if per_channel else "u1").tobytes(),
            scale=scales.tolist(), zero=[zero] * len(scales), axis=axis if per_channel else 0,
        )  # fmt: skip
        exact = scales.astype(np.float64).reshape(scale.shape if per_channel else ())
        return index, (stored - zero) * exact, scales

    def bias(self, source: int, count: int, scales: Any) -> Tuple[int, np.ndarray]:
        values = self.rng.normal(0, 0.3, count)
        if self.kind == "float":
            values = values.astype(np.float32)
            return self.tensor("bias", (count,), 0, values.tobytes()), values
        scale = np.asarray(self.tensors[source]["scale"][0] * scales, np.float32)
        stored = np.rint(values / scale).astype("<i4")
        more = {"scale": scale.tolist(), "zero": [0] * len(scale), "axis": 0}
        return self.tensor("bias", (count,), 2, stored.tobytes(), **more), stored * scale.astype(np.float64)

    def conv(self, source: int, channels: int, kernel: int, stride: int = 1, act: bool = True,
             depthwise: bool = False) -> int:  # fmt: skip
        """Append a convolution with SAME padding; `act` is ReLU6."""
        x = self.values[source]
        inputs = x.shape[1]
        shape = (1, kernel, kernel, inputs) if depthwise else (channels, kernel, kernel, inputs)
        weight, values, scales = self.weight(shape, 3 if depthwise else 0)
        bias, bias_values = self.bias(source, channels, scales)
        sides = [-(-side // stride) for side in x.shape[2:]]
        # TensorFlow's documentation of SAME: the odd zero comes last.
        totals = [max((o - 1) * stride + kernel - i, 0) for o, i in zip(sides, x.shape[2:])]
        pads = [0] * 4 + [part for total in totals for part in (total // 2, total - total // 2)]
        padded = mx.nd.pad(x, mode="constant", pad_width=tuple(pads), constant_value=0)
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        y = mx.nd.Convolution(
            padded, mx.nd.array(values.transpose(order)), mx.nd.array(bias_values), kernel=(kernel, kernel),
            stride=(stride, stride), num_filter=channels, num_group=inputs if depthwise else 1,
        )  # fmt: skip
        y = mx.nd.clip(y, 0, 6) if act else y
        more = {}
        if self.kind != "float":
            top = 6.0 if act else 8.0  # one for all predictors, as int8 joins them
            more = {"scale": [top / (255 if act else 127)], "zero": [self.low + (0 if act else 128)]}
        output = self.tensor(f"conv{len(self.tensors)}", (1, *y.shape[2:], channels), self.code, **more)
        self.values[output] = y
        # The converter drops the activation where the range of the integers has the same effect.
        fused = 3 if act and self.kind != "uint8" else 0
        name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        self.operators.append((name, [source, weight, bias], [output], (stride, fused)))
        return output

    def simple(self, name: str, inputs: List[int], shape: Sequence[int], options: Any = None) -> int:
        """Append an operator that only moves or maps values; the first input tells type and scale."""
        first = self.tensors[inputs[0]]
        scale = {key: first[key] for key in ("scale", "zero") if key in first}
        if scale and name in ("LOGISTIC", "SOFTMAX"):
            scale = {"scale": [1 / 256], "zero": [self.low]}
        output = self.tensor(name.lower(), shape, first["code"], **scale)
        self.operators.append((name, inputs, [output], options))
        return output

    def dequantized(self, source: int) -> int:
        output = self.tensor("real", self.tensors[source]["shape"], 0)
        self.operators.append(("DEQUANTIZE", [source], [output], None))
        return output

    def reshape(self, source: int, shape: Sequence[int]) -> int:
        wanted = self.tensor("shape", (len(shape),), 2, np.array(shape, "<i4").tobytes())
        return self.simple("RESHAPE", [source, wanted], shape)


def backbone(writer: Writer) -> List[int]:
    """MobileNetV1; returns the outputs of blocks 11 and 13."""
    tensor, blocks = writer.conv(writer.image, 8, 3, 2), []
    for channels, stride in CHANNELS:
        tensor = writer.conv(tensor, writer.values[tensor].shape[1], 3, stride, depthwise=True)
        tensor = writer.conv(tensor, channels, 1)
        blocks.append(tensor)
    return [blocks[10], blocks[12]]


def tensorflow_anchors(sides: Sequence[int]) -> np.ndarray:
    """``(A, 4)`` center y, x, height, width, by the rule of TensorFlow's configurations."""
    scales = [*np.linspace(0.2, 0.95, 6), 1.0]
    rows = []
    for index, side in enumerate(sides):
        shapes = [(scales[index], r) for r in (1, 2, 0.5, 3, 0.3333)] + [
            (sqrt(scales[index] * scales[index + 1]), 1)
        ]
        shapes = [(0.1, 1), (0.2, 2), (0.2, 0.5)] if index == 0 else shapes
        for y in range(side):
            for x in range(side):
                rows += [((y + 0.5) / side, (x + 0.5) / side, s / sqrt(r), s * sqrt(r)) for s, r in shapes]
    return np.array(rows, np.float32)


def write_ssd(path: Path, image: np.ndarray, kind: str = "float", columns: int = 6, postprocess: bool = True,
              **changes: Any) -> Tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Write a detector; returns its logits ``(A, columns)`` and boxes ``(A, 4)`` for the image.

    `changes` replace options of the post-processing, or ``anchors``.
    """
    writer = Writer(kind, image)
    maps = backbone(writer)
    for squeeze, channels in EXTRAS:
        maps.append(writer.conv(writer.conv(maps[-1], squeeze, 1), channels, 3, 2))
    parts: Dict[int, List[int]] = {4: [], columns: []}
    outputs: Dict[int, List[np.ndarray]] = {4: [], columns: []}
    for source, count in zip(maps, COUNTS):
        for values in (4, columns):
            head = writer.conv(source, count * values, 1, act=False)
            real = writer.values[head].asnumpy().transpose(0, 2, 3, 1).reshape(-1, values)
            parts[values].append(writer.reshape(head, (1, len(real), values)))
            outputs[values].append(real)
    boxes, scores = (np.concatenate(outputs[values]) for values in (4, columns))
    total = len(boxes)
    box_tensor, score_tensor = (writer.simple("CONCATENATION", parts[v], (1, total, v)) for v in (4, columns))
    score_tensor = writer.simple("LOGISTIC", [score_tensor], (1, total, columns))
    if kind == "int8":  # the operator takes floats or uint8
        box_tensor, score_tensor = (writer.dequantized(t) for t in (box_tensor, score_tensor))
    results = [box_tensor, score_tensor]
    if postprocess:
        sides = [writer.values[m].shape[2] for m in maps]
        values = changes.pop("anchors", None)
        values = tensorflow_anchors(sides) if values is None else values
        more: Dict[str, Any] = {}
        data = values.astype(np.float32).tobytes()
        if kind == "uint8":
            more = {"scale": [float(values.max()) / 255], "zero": [0]}
            data = np.rint(values / more["scale"][0]).astype("u1").tobytes()
        anchors = writer.tensor("anchors", values.shape, 3 if more else 0, data, **more)
        options = {
            "max_detections": 10, "max_classes_per_detection": 1,
            "nms_iou_threshold": 0.6, "nms_score_threshold": 1e-8,
            "num_classes": columns - 1, "x_scale": 10.0, "y_scale": 10.0, "w_scale": 5.0, "h_scale": 5.0,
            **changes,
        }  # fmt: skip
        results = [writer.tensor(f"detections{i}", (1, 10), 0) for i in range(4)]
        name = "TFLite_Detection_PostProcess"
        writer.operators.append((name, [box_tensor, score_tensor, anchors], results, options))
    path.write_bytes(serialized(writer, results))
    return scores, boxes


def write_classifier(path: Path, image: np.ndarray, kind: str = "float", classes: int = 5) -> np.ndarray:
    """Write a classifier; returns its logits for the image."""
    writer = Writer(kind, image)
    last = backbone(writer)[1]
    mean = writer.values[last].mean(axis=(2, 3), keepdims=True)
    pooled = writer.simple(
        "AVERAGE_POOL_2D", [last], (1, 1, 1, mean.shape[1]), tuple(writer.values[last].shape[2:])
    )
    writer.values[pooled] = mean
    logits = writer.conv(pooled, classes, 1, act=False)
    flat = writer.reshape(logits, (1, classes))
    path.write_bytes(serialized(writer, [writer.simple("SOFTMAX", [flat], (1, classes))]))
    return writer.values[logits].asnumpy().reshape(-1)


def serialized(writer: Writer, results: List[int]) -> bytes:
    """The flatbuffer."""
    builder = flatbuffers.Builder(1 << 20)
    datas = [tensor["data"] for tensor in writer.tensors]
    buffers = [_table(builder, tflite, "Buffer", {})]
    buffers += [
        _table(builder, tflite, "Buffer", {"Data": builder.CreateByteVector(data)}) for data in datas if data
    ]
    places = iter(range(1, len(buffers)))
    tensors = []
    for tensor in writer.tensors:
        fields = {"Shape": _ints(builder, tensor["shape"]), "Type": tensor["code"]}
        fields["Name"] = builder.CreateString(tensor["name"])
        fields["Buffer"] = next(places) if tensor["data"] else 0
        if "scale" in tensor:
            fields["Quantization"] = _quantization(builder, tensor)
        tensors.append(_table(builder, tflite, "Tensor", fields))
    names = list(dict.fromkeys(operator[0] for operator in writer.operators))
    operators = [_operator(builder, names.index(op[0]), op) for op in writer.operators]
    graph = _table(builder, tflite, "SubGraph", {
        "Tensors": _offsets(builder, tensors), "Inputs": _ints(builder, [writer.image]),
        "Outputs": _ints(builder, results), "Operators": _offsets(builder, operators),
    })  # fmt: skip
    codes = []
    for name in names:
        code = getattr(tflite.BuiltinOperator, name, tflite.BuiltinOperator.CUSTOM)
        fields = {"DeprecatedBuiltinCode": code, "BuiltinCode": code, "Version": 1}
        if code == tflite.BuiltinOperator.CUSTOM:
            fields["CustomCode"] = builder.CreateString(name)
        codes.append(_table(builder, tflite, "OperatorCode", fields))
    model = _table(builder, tflite, "Model", {
        "Version": 3, "OperatorCodes": _offsets(builder, codes), "Subgraphs": _offsets(builder, [graph]),
        "Buffers": _offsets(builder, buffers),
    })  # fmt: skip
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())


def _operator(builder: Any, code: int, operator: Tuple[str, List[int], List[int], Any]) -> int:
    name, inputs, outputs, options = operator
    fields = {"OpcodeIndex": code, "Inputs": _ints(builder, inputs), "Outputs": _ints(builder, outputs)}
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        stride, fused = options
        kind = "Conv2DOptions" if name == "CONV_2D" else "DepthwiseConv2DOptions"
        values = {"Padding": 0, "StrideW": stride, "StrideH": stride, "FusedActivationFunction": fused}
        if name != "CONV_2D":
            values["DepthMultiplier"] = 1
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, kind)
        fields["BuiltinOptions"] = _table(builder, tflite, kind, values)
    elif name == "AVERAGE_POOL_2D":
        values = {
            "Padding": 1,
            "StrideW": 1,
            "StrideH": 1,
            "FilterHeight": options[0],
            "FilterWidth": options[1],
        }
        fields["BuiltinOptionsType"] = tflite.BuiltinOptions.Pool2DOptions
        fields["BuiltinOptions"] = _table(builder, tflite, "Pool2DOptions", values)
    elif name == "CONCATENATION":
        fields["BuiltinOptionsType"] = tflite.BuiltinOptions.ConcatenationOptions
        fields["BuiltinOptions"] = _table(builder, tflite, "ConcatenationOptions", {"Axis": 1})
    elif name == "SOFTMAX":
        fields["BuiltinOptionsType"] = tflite.BuiltinOptions.SoftmaxOptions
        fields["BuiltinOptions"] = _table(builder, tflite, "SoftmaxOptions", {"Beta": 1.0})
    elif isinstance(options, dict):
        flex = flexbuffers.Builder()
        flex.MapFromElements(options)
        fields["CustomOptions"] = builder.CreateByteVector(bytes(flex.Finish()))
    return _table(builder, tflite, "Operator", fields)


def _quantization(builder: Any, tensor: Dict[str, Any]) -> int:
    scale = builder.CreateNumpyVector(np.array(tensor["scale"], np.float32))
    zero = builder.CreateNumpyVector(np.array(tensor["zero"], np.int64))
    fields = {"Scale": scale, "ZeroPoint": zero, "QuantizedDimension": tensor.get("axis", 0)}
    return _table(builder, tflite, "QuantizationParameters", fields)


def _table(builder: Any, module: Any, kind: str, fields: Dict[str, Any]) -> int:
    """A table of the schema, by its generated functions ``KINDStart``, ``KINDAddFIELD`` and ``KINDEnd``."""
    getattr(module, f"{kind}Start")(builder)
    for name, value in fields.items():
        getattr(module, f"{kind}Add{name}")(builder, value)
    return getattr(module, f"{kind}End")(builder)  # type: ignore[no-any-return]


def _ints(builder: Any, values: Sequence[int]) -> int:
    return builder.CreateNumpyVector(np.array(values, np.int32))  # type: ignore[no-any-return]


def _offsets(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()  # type: ignore[no-any-return]
