"""The network in a parsed TFLite file."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from ..errors import ImportedFileError
from .flatbuffer import FlatGraph, Op
from .graph import MOST_VALUES, Add, AnchorTable, Conv, ConvGraph, InputPixels, ReadNetwork, Rounding
from .reference import POOLED
from .refusal import refusing

POSTPROCESS = "TFLite_Detection_PostProcess"

HANDS_ON = ("RESHAPE", "SQUEEZE", "DEQUANTIZE", "QUANTIZE", "EXPAND_DIMS")
"""Operators whose output has the values of their first input."""

SCORE_FUNCTIONS = {"LOGISTIC": "sigmoid", "SOFTMAX": "softmax"}

POOLING = ("AVERAGE_POOL_2D", "MEAN")

OTHERS = ("CONCATENATION", "PAD", *POOLING, POSTPROCESS)
"""Operators that are read with those before or after them."""

FUSED = {0: "", 1: "relu", 3: "relu6"}
"""Activations by ``ActivationFunctionType``."""

SAME, VALID = 0, 1
"""``Padding`` of the schema."""

RANGES = {3: (0, 255), 9: (-128, 127)}
"""Integers of ``uint8`` and ``int8`` by ``TensorType``."""

BOX_ORDER, NMS_IOU = (1, 0, 3, 2), 0.6
"""TensorFlow's boxes are ty, tx, th, tw; the IoU of its released configurations without the operator."""


def read_network(path: str, flat: FlatGraph) -> ReadNetwork:
    """The detector or classifier; ImportedFileError names the operator that has no equal here."""
    with refusing(path, "the graph"):
        return _Reader(path, flat).read()


class _Heads(NamedTuple):
    """The tensors that a chain of operators ends with: convolutions' outputs, and the score function."""

    tensors: List[int]
    function: str


class _Reader:
    def __init__(self, path: str, flat: FlatGraph) -> None:
        self.path, self.flat, self.total = path, flat, 0
        self.producers: Dict[int, Op] = {}
        for op in flat.operators:
            for output in op.outputs:
                if output in self.producers:
                    raise ImportedFileError(
                        f"{path}: operator {op.index}: makes tensor {output} a second time"
                    )
                self.producers[output] = op
        if len(flat.inputs) != 1:
            raise ImportedFileError(f"{path}: {len(flat.inputs)} inputs, expected an image")
        self.image = flat.tensor(flat.inputs[0])

    def read(self) -> ReadNetwork:
        with refusing(self.path, f"input {self.image.name!r}"):
            size, pixels, notes = self._input()
        graph = ConvGraph(str(self.image.index))
        for op in self.flat.operators:
            with refusing(self.path, f"operator {op.index} {op.name}"):
                self._convert(op, graph)
        post = next((op for op in self.flat.operators if op.name == POSTPROCESS), None)
        with refusing(self.path, "the outputs"):
            kind = self._describe()
            if post is not None:
                read = self._with_postprocess(post, graph, size, pixels)
            elif len(self.flat.outputs) == 2:
                read = self._without_postprocess(graph, size, pixels)
            elif len(self.flat.outputs) == 1:
                read = self._classifier(graph, size, pixels)
            else:
                raise ImportedFileError(
                    f"{len(self.flat.outputs)} outputs; expected {POSTPROCESS}, boxes and scores, or classes"
                )
        read.source, read.notes = kind, [*notes, *read.notes]
        return read

    def _describe(self) -> str:
        kinds = {tensor.kind for tensor in self.flat.tensors if tensor.is_quantized}
        return "TFLite, " + ("uint8" if 3 in kinds else "int8" if 9 in kinds else "float32")

    def _input(self) -> Tuple[Tuple[int, int], InputPixels, List[str]]:
        image = self.image
        if len(image.shape) != 4 or image.shape[3] != 3 or min(image.shape[1:]) < 1:
            raise ImportedFileError(f"shape {image.shape}, expected (1, height, width, 3)")
        size = (image.shape[2], image.shape[1])
        if image.kind == 0:
            note = "float input: pixels are taken to be scaled to -1..1, as in TensorFlow's MobileNets"
            return size, InputPixels(), [note]
        if image.kind not in RANGES or image.scale is None or image.zero is None:
            raise ImportedFileError("expected float32, or uint8 or int8 with a scale")
        zero = float(image.zero[0]) - RANGES[image.kind][0]
        mean, std = zero / 255, 1 / (255 * float(image.scale[0]))
        return size, InputPixels((mean,) * 3, (std,) * 3), []

    def _convert(self, op: Op, graph: ConvGraph) -> None:
        """Append what an operator computes to the graph."""
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            graph.operators.append(self._convolution(op))
        elif op.name == "FULLY_CONNECTED":
            graph.operators.append(self._dense(op))
        elif op.name == "ADD":
            first, second = (str(self._source(tensor)) for tensor in self._tensors(op, 2))
            if FUSED.get(op.options("AddOptions").FusedActivationFunction()) != "":
                raise ImportedFileError("an activation after a sum")
            rounding = self._rounding(op)
            graph.operators.append(Add(self._name(op), first, second, str(op.outputs[0]), rounding))
        elif op.name not in (*HANDS_ON, *SCORE_FUNCTIONS, *OTHERS):
            raise ImportedFileError("an operator that MobileNet-SSDs do not have")

    def _tensors(self, op: Op, count: int) -> List[int]:
        if len(op.inputs) < count or not op.outputs:
            raise ImportedFileError(f"{len(op.inputs)} inputs and {len(op.outputs)} outputs")
        return op.inputs[:count]

    def _name(self, op: Op) -> str:
        return f"operator {op.index} {op.name} ({self.flat.tensor(op.outputs[0]).name})"

    def _source(self, index: int, through: Tuple[str, ...] = HANDS_ON) -> int:
        """The tensor whose values an operator reads, through the operators of these names."""
        for _ in range(len(self.flat.operators) + 1):
            op = self.producers.get(index)
            if op is None or op.name not in through or not op.inputs:
                return index
            index = op.inputs[0]
        raise ImportedFileError(f"tensor {index} depends on itself")

    def _constant(self, index: int) -> np.ndarray:
        """Real numbers of a constant, or of one that a DEQUANTIZE hands on."""
        values = self.flat.tensor(self._source(index)).values()
        self.total += values.size
        if self.total > MOST_VALUES:
            raise ImportedFileError(f"more than {MOST_VALUES} weights")
        return values

    def _convolution(self, op: Op) -> Conv:
        is_depthwise = op.name == "DEPTHWISE_CONV_2D"
        data, weight_index = self._tensors(op, 2)
        options: Any = op.options("DepthwiseConv2DOptions" if is_depthwise else "Conv2DOptions")
        weight = self._constant(weight_index)
        if weight.ndim != 4 or weight.shape[1] != weight.shape[2] or weight.dtype != np.float32:
            raise ImportedFileError(f"weights of shape {weight.shape}")
        # (outputs, height, width, inputs), or (1, height, width, channels) of a depthwise one
        weight = weight.transpose(3, 0, 1, 2) if is_depthwise else weight.transpose(0, 3, 1, 2)
        if options.StrideH() != options.StrideW() or (
            options.DilationHFactor(),
            options.DilationWFactor(),
        ) != (1, 1):
            raise ImportedFileError("strides that differ, or a dilation")
        activation, clamped = self._activation(op, options.FusedActivationFunction())
        through: Tuple[str, ...] = (*HANDS_ON, "PAD")
        pooled = ""
        if weight.shape[2] == 1:
            pooled = POOLED if self._is_pooled(data) else ""
            through = (*HANDS_ON, *POOLING) if pooled else HANDS_ON
        return Conv(
            self._name(op) + pooled, str(self._source(data, through)), str(op.outputs[0]), weight,
            self._bias(op, weight.shape[0]), int(options.StrideH()), weight.shape[0] if is_depthwise else 1,
            self._is_same(op, options, weight.shape[2]), activation, clamped,
            self._rounding(op),
        )  # fmt: skip

    def _rounding(self, op: Op) -> Optional[Rounding]:
        """How the interpreter stores the output of an operator; None if in floats."""
        output = self.flat.tensor(op.outputs[0])
        if output.scale is None or output.zero is None or output.kind not in RANGES:
            return None
        return Rounding(float(output.scale[0]), float(output.zero[0]), *map(float, RANGES[output.kind]))

    def _is_pooled(self, index: int) -> bool:
        op = self.producers.get(index)
        while op is not None and op.name in HANDS_ON and op.inputs:
            op = self.producers.get(op.inputs[0])
        if op is None or op.name not in POOLING:
            return False
        shape = self.flat.tensor(op.outputs[0]).shape
        if len(shape) == 4 and shape[1:3] != (1, 1):
            raise ImportedFileError(f"pooling to {shape[1]}x{shape[2]} places")
        return True

    def _dense(self, op: Op) -> Conv:
        data, weight_index = self._tensors(op, 2)
        weight = self._constant(weight_index)
        if FUSED.get(op.options("FullyConnectedOptions").FusedActivationFunction()) != "":
            raise ImportedFileError("an activation after the classes")
        if weight.ndim != 2 or weight.dtype != np.float32 or not self._is_pooled(data):
            raise ImportedFileError("expected a matrix after pooling")
        weight = weight.reshape(*weight.shape, 1, 1)
        bias = self._bias(op, weight.shape[0])
        name = self._name(op) + POOLED
        source = str(self._source(data, (*HANDS_ON, *POOLING)))
        return Conv(name, source, str(op.outputs[0]), weight, bias, rounding=self._rounding(op))

    def _bias(self, op: Op, count: int) -> np.ndarray:
        if len(op.inputs) < 3 or op.inputs[2] < 0:
            return np.zeros(count, np.float32)
        bias = self._constant(op.inputs[2])
        if bias.shape != (count,) or bias.dtype != np.float32:
            raise ImportedFileError(f"bias of {bias.dtype} {bias.shape}, expected {count} with a scale")
        return bias

    def _is_same(self, op: Op, options: Any, kernel: int) -> bool:
        """Whether the padding is SAME, of the convolution or of a PAD before it; False for a 1x1."""
        if kernel == 1:
            return False
        before = self.producers.get(op.inputs[0])
        if before is None or before.name != "PAD":
            if options.Padding() != SAME:
                raise ImportedFileError("a convolution without padding")
            return True
        amounts = self.flat.tensor(before.inputs[1]).values()
        side = self.flat.tensor(before.inputs[0]).shape[1]
        conv = Conv(
            "", "", "", np.zeros((1, 1, kernel, kernel), np.float32), np.zeros(1), options.StrideH(), 1, True
        )
        rows = [tuple(int(value) for value in row) for row in amounts.tolist()]
        if options.Padding() != VALID or rows[1:3] != [conv.padding(side)] * 2:
            raise ImportedFileError(f"padded by {rows[1:3]} before a {kernel}x{kernel} convolution")
        return True

    def _activation(self, op: Op, fused: int) -> Tuple[str, bool]:
        """Activation of a convolution, and whether only the range of its integers tells.

        A quantized output whose smallest integer is 0 cannot be negative: the converter drops such
        activations.
        """
        if fused not in FUSED:
            raise ImportedFileError(f"activation {fused}")
        output = self.flat.tensor(op.outputs[0])
        if fused or output.scale is None or output.zero is None or output.kind not in RANGES:
            return FUSED[fused], False
        low, high = ((limit - output.zero[0]) * output.scale[0] for limit in RANGES[output.kind])
        if low != 0:
            return "", False
        return ("relu6" if high < 6.1 else "relu"), True

    def _trace(self, index: int) -> _Heads:
        """Where the values of an output come from: the convolutions whose outputs it joins."""
        found: List[int] = []
        functions: Set[str] = set()
        waiting, steps = [index], 0
        while waiting:
            steps += 1
            tensor = waiting.pop(0)
            op = self.producers.get(tensor)
            if steps > 2 * len(self.flat.operators) or op is None or not op.inputs:
                raise ImportedFileError(f"tensor {tensor}: comes from no convolution")
            if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
                found.append(tensor)
            elif op.name == "CONCATENATION":
                waiting = [*op.inputs, *waiting]
            elif op.name in (*HANDS_ON, *SCORE_FUNCTIONS):
                functions |= {SCORE_FUNCTIONS[op.name]} if op.name in SCORE_FUNCTIONS else set()
                waiting = [op.inputs[0], *waiting]
            else:
                raise ImportedFileError(f"operator {op.index} {op.name}: not between predictors and outputs")
        if len(functions) > 1:
            raise ImportedFileError("scores by sigmoid and by softmax")
        return _Heads(found, next(iter(functions), ""))

    def _with_postprocess(
        self, op: Op, graph: ConvGraph, size: Tuple[int, int], pixels: InputPixels
    ) -> ReadNetwork:
        boxes, scores, anchors = self._tensors(op, 3)
        read = self._detector(graph, size, pixels, boxes, scores)
        options = _post_options(op)
        table = self.flat.tensor(anchors)
        values = self._constant(anchors).astype(np.float64)
        if values.ndim != 2 or values.shape[1] != 4:
            raise ImportedFileError(f"anchors of shape {values.shape}")
        rounding = 1e-5 if table.scale is None else float(table.scale[0]) / 2
        read.anchors = AnchorTable(values[:, [1, 0, 3, 2]], rounding)
        stds = [1 / options[f"{name}_scale"] for name in ("x", "y", "w", "h")]
        read.box_stds = (stds[0], stds[1], stds[2], stds[3])
        read.nms_iou = options["nms_iou_threshold"]
        classes = int(options["num_classes"])
        if read.column_count not in (classes, classes + 1):
            raise ImportedFileError(f"{read.column_count} columns of scores for {classes} classes")
        read.background = 0 if read.column_count == classes + 1 else None
        return read

    def _without_postprocess(
        self, graph: ConvGraph, size: Tuple[int, int], pixels: InputPixels
    ) -> ReadNetwork:
        first, second = self.flat.outputs
        is_boxes = self.flat.tensor(first).shape[-1:] == (4,)
        boxes, scores = (first, second) if is_boxes else (second, first)
        read = self._detector(graph, size, pixels, boxes, scores)
        read.box_stds, read.nms_iou = (0.1, 0.1, 0.2, 0.2), NMS_IOU
        read.notes.append("the file has no anchors: those of TensorFlow's SSD MobileNets are used")
        return read

    def _detector(
        self, graph: ConvGraph, size: Tuple[int, int], pixels: InputPixels, boxes: int, scores: int
    ) -> ReadNetwork:
        by_box, by_class = self._trace(boxes), self._trace(scores)
        shape = self.flat.tensor(scores).shape
        if len(shape) < 2 or shape[-1] < 2 or by_box.function or len(by_box.tensors) != len(by_class.tensors):
            raise ImportedFileError(f"scores of shape {shape}; expected predictors of boxes and of classes")
        return ReadNetwork(
            "", graph, size, pixels, shape[-1], class_tensors=[str(t) for t in by_class.tensors],
            box_tensors=[str(t) for t in by_box.tensors], scores=by_class.function or "sigmoid",
            box_order=BOX_ORDER,
        )  # fmt: skip

    def _classifier(self, graph: ConvGraph, size: Tuple[int, int], pixels: InputPixels) -> ReadNetwork:
        heads = self._trace(self.flat.outputs[0])
        if len(heads.tensors) != 1 or heads.function == "sigmoid":
            raise ImportedFileError("expected one layer of classes with a softmax")
        logits = self.flat.tensor(heads.tensors[0])
        has_background = logits.shape[-1] == 1001  # TensorFlow's ImageNet classes
        return ReadNetwork(
            "", graph, size, pixels, int(logits.shape[-1]), logits=str(logits.index),
            background=0 if has_background else None,
        )  # fmt: skip


def _post_options(op: Op) -> Dict[str, float]:
    """The options of the post-processing operator, which are a flexbuffer."""
    from flatbuffers import flexbuffers

    root = flexbuffers.GetRoot(bytearray(op.custom)).AsMap
    names = ("x_scale", "y_scale", "w_scale", "h_scale", "nms_iou_threshold", "num_classes")
    options = {name: float(root[name].AsFloat) for name in names}
    for name, value in options.items():
        if not 0 < value < 1e6:
            raise ImportedFileError(f"{name}: {value}")
    return options
