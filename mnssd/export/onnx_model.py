"""ONNX models built from inference graphs.

MXNet's exporter translates the operators; its mistakes are corrected here. It would turn box_nms into a
suppression across classes, so decoding and suppression are built from ONNX's own operators.
"""

from __future__ import annotations

import ast
import tempfile
from pathlib import Path
from typing import Any, Mapping, Sequence, Tuple

import mxnet as mx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..boxes import STDS
from ..errors import ExportError
from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..options import Size
from .detection_parity import Suppression
from .sidecar import INPUT_NAME, PIXELS_NAME

OPSET, IR_VERSION = 13, 7
"""Versions that the exporter of MXNet 1.9.1 was written for; every current runtime reads them."""

BATCH_NAME = "batch"
"""Name of the first dimension, which may have any length."""


def to_onnx(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    size: Size,
    outputs: Mapping[str, Sequence[int]],
) -> onnx.ModelProto:
    """Translate a graph from `graph.inference.fold` to ONNX.

    Parameters
    ----------
    size : (int, int)
        ``(width, height)`` of the input, ``(batch, 3, height, width)`` float32.
    outputs : mapping of str to sequence of int
        New names of the outputs, and their shapes without the batch axis, which the exporter leaves open.
    """
    _translate_reverse_by_slice()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        values = {name.split(":", 1)[1]: mx.nd.array(value) for name, value in parameters.items()}
        shape = (size[1], size[0])
        mx.onnx.export_model(
            symbol, values, [(1, 3, *shape)], np.float32, path, dynamic=True,
            dynamic_input_shapes=[(BATCH_NAME, 3, *shape)],
        )  # fmt: skip
        model = onnx.load(path)
    _correct_export(model)
    renamed = {value.name: name for value, name in zip(model.graph.output, outputs)}
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [renamed.get(tensor, tensor) for tensor in tensors]
    _set_outputs(model, outputs)
    return model


def _translate_reverse_by_slice() -> None:
    """Let `mx.onnx.export_model` translate ``reverse`` to a Slice with steps of -1, along any axes.

    MXNet 1.9.1 takes one axis only and computes the shape in the graph, so that strict shape inference loses
    it. To see it, export a network with an `nn.input_layer.InputLayer` without this.
    """
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    def convert(node: Any, **kwargs: Any) -> Any:
        name, (source, *_) = node["name"], node["inputs"]
        data = kwargs["outputs_lookup"][source[0]][source[1]].name
        axes = ast.literal_eval(node["attrs"]["axis"])
        axes = [axes] if isinstance(axes, int) else list(axes)
        count, initializers = len(axes), kwargs["initializer"]
        limits = {"starts": [-1] * count, "ends": [np.iinfo(np.int64).min] * count, "axes": axes}
        inputs = [data]
        for part, values in {**limits, "steps": [-1] * count}.items():
            inputs.append(f"{name}_{part}")
            initializers.append(numpy_helper.from_array(np.array(values, np.int64), inputs[-1]))
        return [helper.make_node("Slice", inputs, [name], name=name)]

    MXNetGraph.register("reverse", opset_version=OPSET)(convert)


def _correct_export(model: onnx.ModelProto) -> None:
    """Correct two mistakes of `mx.onnx.export_model` in MXNet 1.9.1.

    It declares the newest opset of the installed `onnx` for nodes of opset 13, so that `onnx.checker` refuses
    the file. It lists every weight as an input, so that runtimes cannot fold constants: ONNX Runtime then
    takes three times as long.
    """
    model.opset_import[0].version, model.ir_version = OPSET, IR_VERSION
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _set_outputs(model: onnx.ModelProto, outputs: Mapping[str, Sequence[int]]) -> None:
    del model.graph.output[:]
    for name, shape in outputs.items():
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_NAME, *shape])
        model.graph.output.append(value)


class _Nodes:
    """Appends nodes and constants with a common name prefix to a model."""

    def __init__(self, model: onnx.ModelProto, prefix: str) -> None:
        self._graph, self._prefix, self._count = model.graph, prefix, 0

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant; returns its name."""
        name = self._name("constant")
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, op: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Append a node; returns the name of its first output, generated unless `outputs` are given."""
        names = list(outputs) or [self._name(op)]
        self._graph.node.append(helper.make_node(op, inputs, names, name=self._name("node"), **attributes))
        return names[0]

    def slice(self, tensor: str, axis: int, begin: int, end: int) -> str:
        limits = [self.constant([value], np.int64) for value in (begin, end, axis)]
        return self.add("Slice", tensor, *limits)

    def top_k(self, tensor: str, count: int) -> Tuple[str, str]:
        """Names of the `count` largest values of each row, largest first, and of their indices."""
        values, indices = self._name("values"), self._name("places")
        count_name = self.constant([count], np.int64)
        self.add("TopK", tensor, count_name, outputs=(values, indices), axis=1)
        return values, indices

    def unsqueeze(self, tensor: str) -> str:
        """A tensor of two axes with a third of length 1."""
        return self.add("Unsqueeze", tensor, self.constant([2], np.int64))

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{self._prefix}/{what}{self._count}"


def append_detections(
    model: onnx.ModelProto, anchors: np.ndarray, suppression: Suppression, outputs: Sequence[str],
    scores: str = "softmax",
) -> None:  # fmt: skip
    """Append decoding and non-maximum suppression to a model that ends with the heads of an SSD.

    As in `nn.SSD`, only boxes of the same class suppress each other.

    Parameters
    ----------
    model : onnx.ModelProto
        Its outputs are ``(B, A, C + 1)`` class scores, background first, and ``(B, A, 4)`` offsets.
    anchors : numpy.ndarray
        ``(A, 4)`` center x, center y, width, height in pixels of the input.
    outputs : sequence of str
        Names of the new outputs: ``(B, K, 1)`` class indices and ``(B, K, 1)`` scores, float32, and ``(B, K,
        4)`` boxes xmin, ymin, xmax, ymax in pixels of the input; best first, padded with -1.
    scores : str
        What makes class scores of the logits, see `boxes.class_scores`.
    """
    nodes, anchor_count = _Nodes(model, "detections"), len(anchors)
    heads = [value.name for value in model.graph.output]
    classes = model.graph.output[0].type.tensor_type.shape.dim[2].dim_value - 1
    rows = classes * anchor_count
    kept = min(suppression.post_nms, rows)
    candidates = rows if suppression.nms_topk < 0 else min(max(suppression.nms_topk, kept), rows)

    probabilities = _class_scores(nodes, heads[0], scores)
    class_rows = nodes.add("Transpose", nodes.slice(probabilities, 2, 1, classes + 1), perm=[0, 2, 1])
    flat = nodes.add("Flatten", class_rows, axis=1)  # (B, C * A)
    if candidates < rows:  # the others must not suppress anything
        least = nodes.slice(nodes.top_k(flat, candidates)[0], 1, candidates - 1, candidates)
        is_candidate = nodes.add("GreaterOrEqual", flat, least)
        flat = nodes.add("Where", is_candidate, flat, nodes.constant(0))
        class_rows = nodes.add("Reshape", flat, nodes.constant([0, classes, anchor_count], np.int64))
    corners = _decode(nodes, heads[1], anchors)

    # Corners are x first, where ONNX expects y first; the IoU is the same.
    kept_rows = nodes.add(
        "NonMaxSuppression", corners, class_rows, nodes.constant([candidates], np.int64),
        nodes.constant([suppression.nms_thresh]), nodes.constant([suppression.score_floor]),
    )  # fmt: skip
    image, class_index, anchor = (nodes.slice(kept_rows, 1, i, i + 1) for i in range(3))
    count_name = nodes.constant(anchor_count, np.int64)
    row = nodes.add("Add", nodes.add("Mul", class_index, count_name), anchor)
    index = nodes.add("Concat", image, row, axis=1)
    zeros = nodes.add("ConstantOfShape", nodes.add("Shape", flat))
    survivors = nodes.add("ScatterND", zeros, index, nodes.add("GatherND", flat, index))

    best, indices = nodes.top_k(survivors, kept)
    is_detection = nodes.add("Greater", best, nodes.constant(0))
    class_of = nodes.add("Cast", nodes.add("Div", indices, count_name), to=TensorProto.FLOAT)
    anchor_of = nodes.unsqueeze(nodes.add("Mod", indices, count_name))
    boxes = nodes.add("GatherND", corners, anchor_of, batch_dims=1)
    padding, is_detection = nodes.constant(-1), nodes.unsqueeze(is_detection)
    for tensor, name in zip((nodes.unsqueeze(class_of), nodes.unsqueeze(best), boxes), outputs):
        nodes.add("Where", is_detection, tensor, padding, outputs=(name,))
    _set_outputs(model, {name: (kept, values) for name, values in zip(outputs, (1, 1, 4))})


def _class_scores(nodes: _Nodes, logits: str, function: str) -> str:
    """Scores of the background and the classes; see `boxes.class_scores`."""
    return nodes.add("Sigmoid", logits) if function == "sigmoid" else nodes.add("Softmax", logits, axis=2)


def _decode(nodes: _Nodes, offsets: str, anchors: np.ndarray) -> str:
    """Offsets ``(B, A, 4)`` to corners, as GluonCV's NormalizedBoxCenterDecoder: SSD paper, section 2.2."""
    offsets = nodes.add("Mul", offsets, nodes.constant(STDS))
    centers, sizes = (nodes.constant(part[None]) for part in (anchors[:, :2], anchors[:, 2:]))
    shift = nodes.add("Mul", nodes.slice(offsets, 2, 0, 2), sizes)
    center = nodes.add("Add", shift, centers)
    halves = nodes.constant(anchors[None, :, 2:] / 2)
    half = nodes.add("Mul", nodes.add("Exp", nodes.slice(offsets, 2, 2, 4)), halves)
    return nodes.add("Concat", nodes.add("Sub", center, half), nodes.add("Add", center, half), axis=2)


def append_softmax(model: onnx.ModelProto, output: str) -> None:
    """Append a softmax to a classifier that ends with its logits ``(B, C)``."""
    logits = model.graph.output[0]
    count = logits.type.tensor_type.shape.dim[1].dim_value
    _Nodes(model, "answer").add("Softmax", logits.name, outputs=(output,), axis=1)
    _set_outputs(model, {output: (count,)})


def _take_pixels(model: onnx.ModelProto, size: Size) -> None:
    """Give the model an input of ``(batch, height, width, 3)`` uint8 RGB, which it normalizes."""
    body = list(model.graph.node)
    del model.graph.node[:]
    nodes = _Nodes(model, "normalized")
    levels = nodes.add("Cast", PIXELS_NAME, to=TensorProto.FLOAT)
    mean, std = (np.array(values) * 255 for values in (IMAGENET_MEAN, IMAGENET_STD))
    scaled = nodes.add("Mul", nodes.add("Sub", levels, nodes.constant(mean)), nodes.constant(1 / std))
    nodes.add("Transpose", scaled, outputs=(INPUT_NAME,), perm=[0, 3, 1, 2])
    model.graph.node.extend(body)
    del model.graph.input[:]
    shape = [BATCH_NAME, size[1], size[0], 3]
    model.graph.input.append(helper.make_tensor_value_info(PIXELS_NAME, TensorProto.UINT8, shape))


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """A serialized model of the nodes that compute some float32 tensors, its outputs."""
    needed, nodes = set(names), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    for field in (part.graph.node, part.graph.initializer, part.graph.output):
        del field[:]
    part.graph.node.extend(reversed(nodes))
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    part.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return bytes(part.SerializeToString())


def with_float16(model: onnx.ModelProto, axes: Sequence[int]) -> onnx.ModelProto:
    """A copy that has the weights with these numbers of axes in float16, and casts them to float32."""
    result, casts = onnx.ModelProto(), []
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) in axes:
            name, packed = tensor.name, f"{tensor.name}/float16"
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, packed))
            casts.append(
                helper.make_node("Cast", [packed], [name], name=f"{packed}/cast", to=TensorProto.FLOAT)
            )
    del result.graph.node[:]
    result.graph.node.extend([*casts, *model.graph.node])
    return result


def finish_model(model: onnx.ModelProto, name: str, size: Size, pixels: bool) -> None:
    """Check a model called `name`, and have it normalize uint8 pixels itself if `pixels`.

    Raises
    ------
    ExportError
        If it does not pass ONNX's checker and strict shape inference.
    """
    if pixels:
        _take_pixels(model, size)
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{name}: not a valid ONNX model ({error}); please report it") from error
