"""What a reader makes of a file: convolutions and additions between named tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from ..errors import ImportedFileError

LARGEST_SIDE = 4096
"""Of an input, in pixels."""

MOST_VALUES = 100_000_000
"""All weights of a file together; the largest MobileNet SSD has a fifth."""

ACTIVATIONS = ("", "relu", "relu6")


class Rounding(NamedTuple):
    """How an engine stores a tensor: integers from `low` to `high`, ``(integer - zero) * scale``."""

    scale: float
    zero: float
    low: float
    high: float


@dataclass(frozen=True)
class Conv:
    """A convolution with its bias and activation.

    Attributes
    ----------
    name : str
        Of the operator in the file, for messages.
    source, output : str
        Names of tensors.
    weight : numpy.ndarray
        ``(output channels, input channels per group, height, width)`` float32.
    bias : numpy.ndarray
        ``(output channels,)`` float32.
    stride, groups : int
    same : bool
        Whether a side is padded as by TensorFlow's ``SAME``; else by half of the kernel at both ends.
    activation : str
        One of `ACTIVATIONS`.
    clamped : bool
        Whether the activation is only known from the range of a quantized output.
    rounding : Rounding, optional
        Of the output in the file's engine.
    """

    name: str
    source: str
    output: str
    weight: np.ndarray
    bias: np.ndarray
    stride: int = 1
    groups: int = 1
    same: bool = False
    activation: str = ""
    clamped: bool = False
    rounding: Optional[Rounding] = None

    @property
    def kernel(self) -> int:
        return int(self.weight.shape[2])

    @property
    def channels(self) -> int:
        return int(self.weight.shape[0])

    @property
    def is_depthwise(self) -> bool:
        """Whether there is one filter for each channel."""
        return self.groups > 1

    def padding(self, side: int) -> Tuple[int, int]:
        """Zeros before and after a side of that length."""
        if not self.same:
            return (self.kernel // 2, self.kernel // 2)
        total = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
        return (total // 2, total - total // 2)


@dataclass(frozen=True)
class Add:
    """The sum of two tensors."""

    name: str
    first: str
    second: str
    output: str
    rounding: Optional[Rounding] = None


Operator = Union[Conv, Add]


@dataclass
class ConvGraph:
    """Operators in the order in which they are computed; `input` is the tensor of the image."""

    input: str
    operators: List[Operator] = field(default_factory=list)

    def producers(self) -> Dict[str, Operator]:
        """The operator that makes each tensor."""
        return {operator.output: operator for operator in self.operators}

    def convolution(self, tensor: str, what: str) -> Conv:
        """The convolution that makes a tensor; ImportedFileError if it is something else."""
        operator = self.producers().get(tensor)
        if not isinstance(operator, Conv):
            raise ImportedFileError(f"{what}: expected a convolution before tensor {tensor!r}")
        return operator


@dataclass(frozen=True)
class InputPixels:
    """What the network was trained on: pixels in 0 to 1 minus `mean`, divided by `std`, RGB or BGR.

    `mean` and `std` are in the order of the network's channels.
    """

    mean: Tuple[float, ...] = (0.5, 0.5, 0.5)
    std: Tuple[float, ...] = (0.5, 0.5, 0.5)
    is_bgr: bool = False

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """The network's input ``(N, 3, H, W)`` float32 from ``(N, H, W, 3)`` uint8 RGB."""
        ordered = images[..., ::-1] if self.is_bgr else images
        scaled = (ordered / 255.0 - np.array(self.mean)) / np.array(self.std)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


@dataclass(frozen=True)
class AnchorTable:
    """Anchors of a file: ``(A, 4)`` center x, y, width, height, as fractions of the input's sides.

    `rounding` is half of the step in which the file stores them.
    """

    values: np.ndarray
    rounding: float = 1e-6


@dataclass(frozen=True)
class RuleAnchors:
    """Anchors by rule: widths and heights of each map, and steps; see `nn.head_layouts.AnchorLayout`."""

    shapes: Tuple[Tuple[Tuple[float, float], ...], ...]
    steps: Tuple[float, ...] = ()
    clip: bool = False


@dataclass
class ReadNetwork:
    """A network as a reader found it.

    Attributes
    ----------
    source : str
        Kind of file, such as ``'TFLite, uint8'``.
    graph : ConvGraph
    size : (int, int)
        ``(width, height)`` of the input in pixels.
    pixels : InputPixels
    column_count : int
        Columns of the scores, the background among them if there is one.
    logits : str
        For a classifier: the tensor of its logits.
    class_tensors, box_tensors : sequence of str
        For a detector: outputs of the convolutions that predict class scores and boxes, for each map.
    background : int, optional
        Column of the background; None if there is none.
    scores : str
        See `nn.head_layouts.SCORES`.
    box_order : (int, int, int, int)
        Columns of the boxes' x, y, width and height.
    box_stds : (float, float, float, float)
        What offsets of x, y, width and height are multiplied by.
    anchors : AnchorTable, RuleAnchors or None
        None if the file has no anchors.
    nms_iou : float
    notes : list of str
        What the user should know.
    names : sequence of str
        Names of the classes, without the background, if the file is known to have these; else empty.
    """

    source: str
    graph: ConvGraph
    size: Tuple[int, int]
    pixels: InputPixels
    column_count: int
    logits: str = ""
    class_tensors: Sequence[str] = ()
    box_tensors: Sequence[str] = ()
    background: Optional[int] = 0
    scores: str = "softmax"
    box_order: Tuple[int, int, int, int] = (0, 1, 2, 3)
    box_stds: Tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    anchors: Union[AnchorTable, RuleAnchors, None] = None
    nms_iou: float = 0.45
    notes: List[str] = field(default_factory=list)
    names: Sequence[str] = ()

    @property
    def is_detector(self) -> bool:
        return bool(self.class_tensors)

    def heads(self, rows: Sequence[np.ndarray]) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Logits and boxes as `families.EngineOutputs` has them.

        `rows` are the ``(N, values)`` of `class_tensors` and `box_tensors`, or of `logits`, channels last.
        """
        if not self.is_detector:
            return rows[0], None
        count = len(self.class_tensors)
        classes, boxes = (np.concatenate(group, axis=1) for group in (rows[:count], rows[count:]))
        return classes.reshape(len(classes), -1, self.column_count), boxes.reshape(len(boxes), -1, 4)

    def check(self, path: str) -> None:
        """ImportedFileError for sizes that no MobileNet has, before anything of that size is made."""
        if not all(32 <= side <= LARGEST_SIDE for side in self.size):
            raise ImportedFileError(f"{path}: input of {self.size[0]}x{self.size[1]} pixels")
        for tensor in self.class_tensors or [self.logits]:
            last = self.graph.convolution(tensor, path)
            if self.column_count < 1 or last.channels % self.column_count:
                raise ImportedFileError(
                    f"{path}: {last.name}: {last.channels} outputs for {self.column_count} columns of scores"
                )


def with_identity_expansion(convolution: Conv) -> Conv:
    """A 1x1 convolution that hands on what `convolution` reads; its activation changes nothing there."""
    channels = convolution.channels
    weight = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
    bias = np.zeros(channels, np.float32)
    return replace(convolution, weight=weight, bias=bias, stride=1, groups=1)


def rescaled(conv: Conv, factor: np.ndarray, shift: np.ndarray) -> Conv:
    """`conv` with its output ``(C,)`` multiplied by `factor`, then increased by `shift`."""
    factor = factor.astype(np.float64)
    weight, bias = conv.weight * factor[:, None, None, None], conv.bias * factor + shift
    return replace(conv, weight=weight.astype(np.float32), bias=bias.astype(np.float32))


def widened(conv: Conv, sides: Tuple[int, int]) -> Conv:
    """A 2x2 convolution with SAME padding as a 3x3 one that is equal for inputs of ``(height, width)``."""
    if conv.kernel != 2 or not conv.same:
        return conv
    wide = replace(conv, weight=np.pad(conv.weight, ((0, 0), (0, 0), (0, 1), (0, 1))))
    zeros = [wide.padding(side)[0] - conv.padding(side)[0] for side in sides]  # before the 2x2 weights
    return replace(wide, weight=np.roll(wide.weight, zeros, (2, 3)))
