"""A network for inference as an ONNX model, and what may be put before and behind it.

MXNet's own exporter translates the operators; what it does wrong is mended here. It would turn box_nms into a
suppression in which classes suppress one another, so decoding and suppression are built here instead, out of
ONNX's own operators.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence, Tuple

import mxnet as mx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...data.image import IMAGENET_MEAN, IMAGENET_STD
from ...errors import ExportError
from ...nn.ssd import STDS
from ..folder import Part, Writer
from ..parity import ParityResult, Rules
from ..sidecar import INPUT_NAME, PIXELS_NAME, describe_own_input

OPSET, IR_VERSION = 13, 7
"""What the exporter of MXNet 1.9.1 was written for; every current runtime reads them."""

BATCH_NAME = "batch"
"""Of the first dimension, which may have any length."""

Size = Tuple[int, int]


def to_onnx(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    size: Size,
    outputs: Mapping[str, Sequence[int]],
) -> onnx.ModelProto:
    """Translate a graph.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
    parameters : mapping of str to numpy.ndarray
        As from `graph.inference.fold`.
    size : (int, int)
        ``(width, height)`` of the input, ``(batch, 3, height, width)`` float32.
    outputs : mapping of str to sequence of int
        New names of its outputs, and their shapes behind the batch's length, which the exporter leaves open.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        values = {name.split(":", 1)[1]: mx.nd.array(value) for name, value in parameters.items()}
        shape = (size[1], size[0])
        mx.onnx.export_model(
            symbol, values, [(1, 3, *shape)], np.float32, path, dynamic=True,
            dynamic_input_shapes=[(BATCH_NAME, 3, *shape)],
        )  # fmt: skip
        model = onnx.load(path)
    _mend_export(model)
    _name_outputs(model, outputs)
    return model


def _mend_export(model: onnx.ModelProto) -> None:
    """Undo what `mx.onnx.export_model` of MXNet 1.9.1 does wrong.

    It stamps the newest opset of the installed `onnx` on nodes of opset 13 (to see it: `onnx.checker` refuses
    the file), and lists every weight among the inputs, so that runtimes must expect other values in each call
    and fold nothing (to see it: ONNX Runtime then takes three times as long).
    """
    model.opset_import[0].version, model.ir_version = OPSET, IR_VERSION
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _name_outputs(model: onnx.ModelProto, outputs: Mapping[str, Sequence[int]]) -> None:
    renamed = {value.name: name for value, name in zip(model.graph.output, outputs)}
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            for index, tensor in enumerate(tensors):
                tensors[index] = renamed.get(tensor, tensor)
    _set_outputs(model, outputs)


def _set_outputs(model: onnx.ModelProto, outputs: Mapping[str, Sequence[int]]) -> None:
    del model.graph.output[:]
    for name, shape in outputs.items():
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_NAME, *shape])
        model.graph.output.append(value)


class _Nodes:
    """Appends nodes and constants to a model's graph under names of its own."""

    def __init__(self, model: onnx.ModelProto, prefix: str) -> None:
        self._graph, self._prefix, self._count = model.graph, prefix, 0

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a new constant."""
        name = self._name("constant")
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, op: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Append a node; returns the name of its (first) output, made up unless `outputs` are given."""
        names = list(outputs) or [self._name(op)]
        self._graph.node.append(helper.make_node(op, inputs, names, name=self._name("node"), **attributes))
        return names[0]

    def part(self, tensor: str, axis: int, begin: int, end: int) -> str:
        """A slice along one axis."""
        edges = [self.constant([value], np.int64) for value in (begin, end, axis)]
        return self.add("Slice", tensor, *edges)

    def largest(self, tensor: str, count: int) -> Tuple[str, str]:
        """Names of the `count` largest values of each row, best first, and of their places."""
        values, places = self._name("values"), self._name("places")
        count_name = self.constant([count], np.int64)
        self.add("TopK", tensor, count_name, outputs=(values, places), axis=1)
        return values, places

    def widened(self, tensor: str) -> str:
        """With another axis of length 1 at its end; of two axes before."""
        return self.add("Unsqueeze", tensor, self.constant([2], np.int64))

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{self._prefix}/{what}{self._count}"


def append_detections(
    model: onnx.ModelProto, anchors: np.ndarray, rules: Rules, outputs: Sequence[str]
) -> None:
    """Put decoding and non-maximum suppression behind the heads of an SSD; they take the outputs' place.

    As `nn.SSD` answers: only boxes of one class suppress one another.

    Parameters
    ----------
    model : onnx.ModelProto
        It answers ``(B, A, C + 1)`` class scores, background first, and ``(B, A, 4)``
        offsets.
    anchors : numpy.ndarray
        ``(A, 4)`` centre x, centre y, width, height in pixels of the input.
    rules : Rules
    outputs : sequence of str
        Names for ``(B, K, 1)`` class indices and ``(B, K, 1)`` scores, float32, and ``(B, K, 4)`` boxes
        xmin, ymin, xmax, ymax in pixels of the input; best first, -1 where there is no detection.
    """
    nodes, anchor_count = _Nodes(model, "detections"), len(anchors)
    heads = [value.name for value in model.graph.output]
    classes = model.graph.output[0].type.tensor_type.shape.dim[2].dim_value - 1
    rows = classes * anchor_count
    kept = min(rules.post_nms, rows)
    candidates = rows if rules.nms_topk < 0 else min(max(rules.nms_topk, kept), rows)

    probabilities = nodes.add("Softmax", heads[0], axis=2)
    scores = nodes.add("Transpose", nodes.part(probabilities, 2, 1, classes + 1), perm=[0, 2, 1])
    flat = nodes.add("Flatten", scores, axis=1)  # (B, C * A)
    if candidates < rows:  # of the others none may suppress anything
        least = nodes.part(nodes.largest(flat, candidates)[0], 1, candidates - 1, candidates)
        taking_part = nodes.add("GreaterOrEqual", flat, least)
        flat = nodes.add("Where", taking_part, flat, nodes.constant(0))
        scores = nodes.add("Reshape", flat, nodes.constant([0, classes, anchor_count], np.int64))
    corners = _decode(nodes, heads[1], anchors)

    # Corners are x first, where ONNX says y first: overlaps are the same.
    found = nodes.add(
        "NonMaxSuppression", corners, scores, nodes.constant([candidates], np.int64),
        nodes.constant([rules.nms_thresh]), nodes.constant([rules.score_floor]),
    )  # fmt: skip
    image, class_index, anchor = (nodes.part(found, 1, i, i + 1) for i in range(3))
    count_name = nodes.constant(anchor_count, np.int64)
    place = nodes.add("Add", nodes.add("Mul", class_index, count_name), anchor)
    where = nodes.add("Concat", image, place, axis=1)
    zeros = nodes.add("ConstantOfShape", nodes.add("Shape", flat))
    survivors = nodes.add("ScatterND", zeros, where, nodes.add("GatherND", flat, where))

    best, places = nodes.largest(survivors, kept)
    there = nodes.add("Greater", best, nodes.constant(0))
    class_of = nodes.add("Cast", nodes.add("Div", places, count_name), to=TensorProto.FLOAT)
    anchor_of = nodes.widened(nodes.add("Mod", places, count_name))
    boxes = nodes.add("GatherND", corners, anchor_of, batch_dims=1)
    nothing, there = nodes.constant(-1), nodes.widened(there)
    for tensor, name in zip((nodes.widened(class_of), nodes.widened(best), boxes), outputs):
        nodes.add("Where", there, tensor, nothing, outputs=(name,))
    _set_outputs(model, {name: (kept, values) for name, values in zip(outputs, (1, 1, 4))})


def _decode(nodes: _Nodes, offsets: str, anchors: np.ndarray) -> str:
    """Offsets ``(B, A, 4)`` to corners, as GluonCV's NormalizedBoxCenterDecoder: SSD paper, section 2.2."""
    offsets = nodes.add("Mul", offsets, nodes.constant(STDS))
    centres, sizes = (nodes.constant(part[None]) for part in (anchors[:, :2], anchors[:, 2:]))
    shift = nodes.add("Mul", nodes.part(offsets, 2, 0, 2), sizes)
    centre = nodes.add("Add", shift, centres)
    halves = nodes.constant(anchors[None, :, 2:] / 2)
    half = nodes.add("Mul", nodes.add("Exp", nodes.part(offsets, 2, 2, 4)), halves)
    return nodes.add("Concat", nodes.add("Sub", centre, half), nodes.add("Add", centre, half), axis=2)


def append_softmax(model: onnx.ModelProto, output: str) -> None:
    """Put a softmax behind the one output of a classifier, ``(B, C)``; it takes the output's place."""
    before = model.graph.output[0]
    count = before.type.tensor_type.shape.dim[1].dim_value
    _Nodes(model, "answer").add("Softmax", before.name, outputs=(output,), axis=1)
    _set_outputs(model, {output: (count,)})


def take_pixels(model: onnx.ModelProto, size: Size) -> None:
    """Let the model take ``(batch, height, width, 3)`` uint8 RGB; its normalisation becomes part of it."""
    body = list(model.graph.node)
    del model.graph.node[:]
    nodes = _Nodes(model, "normalised")
    levels = nodes.add("Cast", PIXELS_NAME, to=TensorProto.FLOAT)
    mean, std = (np.array(values) * 255 for values in (IMAGENET_MEAN, IMAGENET_STD))
    scaled = nodes.add("Mul", nodes.add("Sub", levels, nodes.constant(mean)), nodes.constant(1 / std))
    nodes.add("Transpose", scaled, outputs=(INPUT_NAME,), perm=[0, 3, 1, 2])
    model.graph.node.extend(body)
    del model.graph.input[:]
    shape = [BATCH_NAME, size[1], size[0], 3]
    model.graph.input.append(helper.make_tensor_value_info(PIXELS_NAME, TensorProto.UINT8, shape))


def answering(path: Path, names: Sequence[str]) -> bytes:
    """The model in a file, serialized, with other float32 tensors of it as its outputs."""
    model = onnx.load(str(path))
    del model.graph.output[:]
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    serialized: bytes = model.SerializeToString()
    return serialized


def onnx_writer(
    model: onnx.ModelProto,
    size: Size,
    takes_pixels: bool,
    kind: str,
    more: Mapping[str, Any],
    compare: Callable[[Path], Mapping[str, ParityResult]],
) -> Writer:
    """Writes ``NAME.onnx`` or ``NAME-int8.onnx``, once ONNX's checker and its shape inference have passed it.

    Parameters
    ----------
    model : onnx.ModelProto
    size : (int, int)
        ``(width, height)`` of the network's input.
    takes_pixels : bool
        Whether it is to normalise pixels itself.
    kind : str
        ``onnx`` or ``onnx_int8``, the name of its section of the sidecar.
    more : mapping
        Of that section.
    compare : callable
        Given the path of the file, compares it with the network.
    """
    if takes_pixels:
        take_pixels(model, size)
    section = {
        "opset": OPSET,
        "input": describe_own_input(size, takes_pixels),
        "outputs": [value.name for value in model.graph.output],
        **more,
    }

    def write(folder: Path, name: str) -> Part:
        path = folder / (f"{name}.onnx" if kind == "onnx" else f"{name}-int8.onnx")
        try:
            onnx.checker.check_model(model, full_check=True)
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"{path.name}: not a valid model ({error}); please report it") from error
        onnx.save(model, str(path))
        return Part({kind: path}, compare(path), {kind: section})

    return write
