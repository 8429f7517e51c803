"""The predictors in a frozen graph of the Object Detection API, and what is computed of their outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence

import numpy as np

from ..errors import ImportedFileError
from .frozen_file import FrozenGraph, Node, constant
from .graph import AnchorTable, ReadNetwork

POSTPROCESS = "TFLite_Detection_PostProcess"
"""Of ``export_tflite_ssd_graph.py``."""

SCORE_FUNCTIONS = {"Sigmoid": "sigmoid", "Softmax": "softmax"}

HANDS_ON = ("Reshape", "Squeeze", "Identity", "ExpandDims")
"""Operators whose output has the values of their first input, in their order."""

BETWEEN = (*HANDS_ON, "Slice", "RealDiv", *SCORE_FUNCTIONS)
"""Operators between the joined class logits and the scores."""

QUANTIZED = ("FakeQuant", "Quantize", "Dequantize")
"""Begin of the names of operators that round."""

PREDICTORS = ("BiasAdd", "Conv2D")

BOX_ORDER, NMS_IOU = (1, 0, 3, 2), 0.6
"""TensorFlow's boxes are ty, tx, th, tw; the IoU of its released configurations without post-processing."""

STDS = (0.1, 0.1, 0.2, 0.2)
"""Of the released configurations."""

SCALES = ("y_scale", "x_scale", "h_scale", "w_scale")


@dataclass
class Heads:
    """Names of tensors.

    Attributes
    ----------
    classes, boxes : list of str
        Outputs of the predictors of each map; of a classifier its logits, and nothing.
    scores : str
        See `nn.head_layouts.SCORES`; empty if nothing tells.
    has_background : bool
        Whether the first column of the scores is cut off before non-maximum suppression.
    anchors : str
        ``(A, 4)`` top, left, bottom, right; or y, x, height and width if `centers`.
    is_decoded : bool
        Whether the boxes are computed in the graph.
    scales : list of str
        What the offsets ty, tx, th and tw are divided by; empty: by nothing.
    divisors : list of str
        What the class logits are divided by.
    iou : str
        IoU threshold of non-maximum suppression.
    post : Node, optional
        TensorFlow Lite's post-processing.
    """

    classes: List[str]
    boxes: List[str]
    scores: str = ""
    has_background: bool = True
    anchors: str = ""
    centers: bool = False
    is_decoded: bool = False
    scales: List[str] = field(default_factory=list)
    divisors: List[str] = field(default_factory=list)
    iou: str = ""
    post: Optional[Node] = None

    def needed(self) -> List[str]:
        """Tensors to compute."""
        pairs = [name for pair in zip(self.classes, self.boxes) for name in pair] or self.classes
        return [*pairs, *filter(None, (self.anchors, *self.scales, *self.divisors, self.iou))]

    def describe(self, read: ReadNetwork, constants: Mapping[str, np.ndarray]) -> None:
        """Set scores, anchors and boxes of a detector; `constants` are values of tensors by name."""
        read.scores, read.box_order, read.box_stds, read.nms_iou = "sigmoid", BOX_ORDER, STDS, NMS_IOU
        if self.scores:
            read.scores = self.scores
        else:
            read.notes.append("the file has no score function: sigmoid, as TensorFlow's SSD MobileNets")
        if not self.has_background:
            read.background = None
        if any(constants[name].size != 1 or constants[name] != 1 for name in self.divisors):
            raise ImportedFileError("class logits that are divided by another number than 1")
        if self.anchors:
            read.anchors = AnchorTable(_centered(constants.get(self.anchors), self.centers))
        else:
            read.notes.append("the file has no anchors: those of TensorFlow's SSD MobileNets are used")
        if self.post is not None:
            self._describe_post(read, self.post)
        elif self.is_decoded:
            ty, tx, th, tw = (1 / _number(constants, name) if name else 1.0 for name in self.scales)
            read.box_stds = (tx, ty, tw, th)
            read.nms_iou = _number(constants, self.iou) if self.iou else NMS_IOU

    def _describe_post(self, read: ReadNetwork, post: Node) -> None:
        values = {name: float(post.attrs[name].f) for name in (*SCALES, "nms_iou_threshold")}
        for name, value in values.items():
            if not 0 < value < 1e6:
                raise ImportedFileError(f"{post}: {name} {value}")
        ty, tx, th, tw = (1 / values[name] for name in SCALES)
        read.box_stds, read.nms_iou = (tx, ty, tw, th), values["nms_iou_threshold"]
        count = post.number("num_classes")
        if read.column_count not in (count, count + 1):
            raise ImportedFileError(f"{post}: {read.column_count} columns of scores for {count} classes")
        read.background = 0 if read.column_count == count + 1 else None


def _number(constants: Mapping[str, np.ndarray], name: str) -> float:
    value = float(constants[name].reshape(-1)[0]) if name in constants and constants[name].size == 1 else 0.0
    if not 0 < value < 1e6:
        raise ImportedFileError(f"{name!r}: expected a number above 0")
    return value


def _centered(values: Optional[np.ndarray], are_centers: bool) -> np.ndarray:
    """Anchors ``(A, 4)`` as center x, center y, width, height."""
    if values is None or values.ndim != 2 or values.shape[1] != 4:
        found = "not constant" if values is None else f"of shape {values.shape}"
        raise ImportedFileError(f"anchors {found}, expected (A, 4)")
    if not np.isfinite(values).all():
        raise ImportedFileError("anchors that are not finite")
    first, last = values[:, 1::-1].astype(np.float64), values[:, :1:-1].astype(np.float64)
    return np.concatenate([first, last] if are_centers else [(first + last) / 2, last - first], axis=1)


def find_heads(file: FrozenGraph) -> Heads:
    """The predictors; ImportedFileError if this is neither an SSD nor a classifier."""
    rounded = [node for node in file.nodes.values() if node.op.startswith(QUANTIZED)]
    if rounded:
        raise ImportedFileError(f"{rounded[0]}: a network trained for 8 bits; import its .tflite file")
    joins = {
        node.name: tensors for node in file.nodes.values() for tensors in [_predictors(file, node)] if tensors
    }
    functions = [node for node in file.nodes.values() if node.op in SCORE_FUNCTIONS]
    if not joins:
        return _classifier(file, functions)
    if len(joins) != 2:
        raise ImportedFileError(f"predictors joined by {list(joins)}; expected boxes and class scores")
    chains = {node.name: chain for node in functions for chain in [_chain(file, node, joins)] if chain}
    scores = next((chain[-1].name for chain in chains.values()), "")
    if not scores:
        scores = next((name for name, tensors in joins.items() if "ClassPredictor" in tensors[0]), "")
    boxes = [name for name in joins if name != scores]
    if len(boxes) != 1 or len({joins[chain[-1].name][0] for chain in chains.values()}) > 1:
        raise ImportedFileError(f"which of {list(joins)} are the class scores?")
    heads = Heads(joins[scores], joins[boxes[0]])
    if len(heads.classes) != len(heads.boxes):
        raise ImportedFileError(f"{len(heads.boxes)} predictors of boxes, {len(heads.classes)} of classes")
    for name, chain in chains.items():
        heads.scores = SCORE_FUNCTIONS[file.nodes[name].op]
        heads.divisors = [node.inputs[1] for node in chain if node.op == "RealDiv"]
    posts = [node for node in file.nodes.values() if node.op == POSTPROCESS]
    if posts:
        heads.post, heads.anchors, heads.centers = posts[0], posts[0].inputs[2], True
    else:
        _find_decoding(file, heads)
        heads.has_background = not heads.iou or _is_cut(file, scores)
    return heads


def _classifier(file: FrozenGraph, functions: List[Node]) -> Heads:
    if len(functions) != 1 or functions[0].op != "Softmax":
        raise ImportedFileError("neither predictors of boxes and classes, nor one softmax of a classifier")
    return Heads([_strip(file, functions[0].inputs[0]).name], [])


def _strip(file: FrozenGraph, tensor: str, through: Sequence[str] = HANDS_ON) -> Node:
    """The node that makes the values of a tensor, through the operators of these names."""
    node = file.producer(tensor)
    for _ in range(len(file.nodes)):
        if node.op not in through:
            return node
        node = file.producer(node.inputs[0])
    raise ImportedFileError(f"{node}: depends on itself")


def _predictors(file: FrozenGraph, node: Node) -> List[str]:
    """The convolutions' outputs that a node joins; nothing if it joins anything else."""
    if node.op != "ConcatV2" or len(node.inputs) < 3:
        return []
    parts = []
    for tensor in node.inputs[:-1]:
        if tensor.split(":")[0] not in file.nodes:
            return []
        part = _strip(file, tensor)
        if part.op not in PREDICTORS:
            return []
        parts.append(part.name)
    return parts


def _chain(file: FrozenGraph, node: Node, joins: Mapping[str, List[str]]) -> List[Node]:
    """Nodes from a score function back to joined predictors; nothing if it is computed of something else."""
    chain = [node]
    while chain[-1].name not in joins:
        last = chain[-1]
        if last.op not in BETWEEN or len(chain) > len(file.nodes):
            return []
        chain.append(file.producer(last.inputs[0]))
    return chain


def _readers(file: FrozenGraph) -> Dict[str, List[Node]]:
    """Nodes by the names of those that they read."""
    result: Dict[str, List[Node]] = {}
    for node in file.nodes.values():
        for source in node.inputs:
            result.setdefault(source.split(":")[0], []).append(node)
    return result


def _is_cut(file: FrozenGraph, scores: str) -> bool:
    """Whether the first column of the scores is cut off after them."""
    readers, waiting, known = _readers(file), [scores], {scores}
    while waiting:
        for node in readers.get(waiting.pop(), []):
            if node.op not in BETWEEN or node.name in known:
                continue
            if node.op == "Slice":
                begin = file.producer(node.inputs[1])
                if begin.op == "Const" and constant(begin).reshape(-1)[-1:] == 1:
                    return True
            known.add(node.name)
            waiting.append(node.name)
    return False


def _find_decoding(file: FrozenGraph, heads: Heads) -> None:
    """Find anchors, scales and the IoU threshold in the post-processing, if there is one."""
    readers = _readers(file)
    decode = [n for n in file.nodes.values() if n.op == "Unpack" and n.name.endswith("/Decode/unstack")]
    if len(decode) != 1:
        return
    heads.is_decoded, prefix = True, decode[0].name[: -len("/unstack")]
    heads.scales = [""] * 4
    for node in readers.get(decode[0].name, []):
        if node.op == "RealDiv" and node.inputs[0].split(":")[0] == decode[0].name:
            heads.scales[int((node.inputs[0].split(":") + ["0"])[1])] = node.inputs[1]
    corners = file.producer(f"{prefix}/get_center_coordinates_and_sizes/transpose")
    heads.anchors = _strip(file, corners.inputs[0], (*HANDS_ON, "Tile")).name
    thresholds = (
        node.inputs[3]
        for node in file.nodes.values()
        if node.op.startswith("NonMaxSuppression") and len(node.inputs) > 3
    )
    heads.iou = next(thresholds, "")
