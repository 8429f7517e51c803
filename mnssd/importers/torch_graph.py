"""SSD MobileNets in PyTorch's state dicts: the names tell the layers, the family the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from ..errors import ImportedFileError
from .graph import MOST_VALUES, Add, Conv, ConvGraph, InputPixels, ReadNetwork, RuleAnchors, rescaled
from .refusal import refusing

EPSILON = 1e-5
"""PyTorch's default of BatchNorm."""

V1_STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
"""Of the layers of MobileNetV1: the first convolution and 13 blocks."""

V2_STRIDES = (2, 1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the layers of MobileNetV2: the first convolution, 17 bottlenecks and the last convolution."""

MAPS, ANCHORS = 6, 6

SIZES = ((60, 105), (105, 150), (150, 195), (195, 240), (240, 285), (285, 330))
RATIOS = (2, 3)

IGNORED = ("num_batches_tracked",)


@dataclass(frozen=True)
class Layout:
    """What the names of a family's arrays begin with, and what its files do not tell.

    Attributes
    ----------
    name : str
    base, extras, classes, boxes : str
    tap : int
        Layer of MobileNetV2 that the first predictors read.
    reads_expansion : bool
        Whether they read its expansion, and not its output.
    side : int
        Of the input in pixels.
    steps : tuple of float
        Of the anchors in pixels.
    pixels : InputPixels
    """

    name: str
    base: str
    extras: str
    classes: str
    boxes: str
    tap: int
    reads_expansion: bool
    side: int
    steps: Tuple[float, ...]
    pixels: InputPixels


LAYOUTS = (
    # vision/ssd at github.com/qfgaohao/pytorch-ssd: config/mobilenetv1_ssd_config.py, mobilenetv1_ssd.py,
    # mobilenetv1_ssd_lite.py and mobilenet_v2_ssd_lite.py.
    Layout(
        "qfgaohao", "base_net", "extras", "classification_headers", "regression_headers", 14, True, 300,
        (16, 32, 64, 100, 150, 300), InputPixels((127 / 255,) * 3, (128 / 255,) * 3),
    ),
    # configs/mobilenet_v2_ssd320_voc0712.yaml, ssd/modeling and ssd/config/defaults.py at
    # github.com/lufficc/SSD.
    Layout(
        "lufficc", "backbone.features", "backbone.extras", "box_head.predictor.cls_headers",
        "box_head.predictor.reg_headers", 13, False, 320, (16, 32, 64, 107, 160, 320),
        InputPixels((123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3),
    ),
)  # fmt: skip


def read_network(path: str, arrays: Mapping[str, np.ndarray]) -> ReadNetwork:
    """The detector in a state dict; ImportedFileError names the array that has no equal here."""
    layout = next((known for known in LAYOUTS if f"{known.base}.0.0.weight" in arrays), None)
    if layout is None or not any(name.startswith(f"{layout.classes}.0.") for name in arrays):
        names = ", ".join(list(arrays)[:3])
        raise ImportedFileError(
            f"{path}: arrays {names} ...: not an SSD MobileNet of qfgaohao or lufficc; the weights of a"
            " classifier can be given as --weights"
        )
    if sum(array.size for array in arrays.values()) > MOST_VALUES:
        raise ImportedFileError(f"{path}: more values than any MobileNet SSD has")
    with refusing(path, "its arrays"):
        return _Reader(layout, arrays).read()


class _Reader:
    def __init__(self, layout: Layout, arrays: Mapping[str, np.ndarray]) -> None:
        self.layout, self.arrays = layout, arrays
        self.graph = ConvGraph("image")
        self.used: Set[str] = set()
        # Arrays of a layer are next to each other: "base_net.1.3.weight" belongs to "base_net.1".
        self.modules: Dict[str, List[str]] = {}
        for module in sorted({name.rpartition(".")[0] for name in arrays}, key=_numbers):
            for prefix in (layout.base, layout.extras, layout.classes, layout.boxes):
                if module.startswith(f"{prefix}."):
                    index = module[len(prefix) + 1 :].split(".")[0]
                    self.modules.setdefault(f"{prefix}.{index}", []).append(module)
                    break

    def read(self) -> ReadNetwork:
        layout = self.layout
        count = len([name for name in self.modules if name.startswith(f"{layout.base}.")])
        if count not in (len(V1_STRIDES), len(V2_STRIDES)):
            raise ImportedFileError(f"{count} layers {layout.base}; expected those of MobileNetV1 or V2")
        is_v1 = count == len(V1_STRIDES)
        maps = self._v1() if is_v1 else self._v2()
        act = "relu" if is_v1 else "relu6"
        for index in range(MAPS - 2):
            name = f"{layout.extras}.{index}"
            is_linear = len(self._convolutions(name)) == 3
            maps.append(self._chain(name, maps[-1], 2, act, is_linear))
        tensors = [
            [self._chain(f"{prefix}.{i}", source, 1, act, True) for i, source in enumerate(maps)]
            for prefix in (layout.classes, layout.boxes)
        ]
        self._check_rest()
        channels = [self.graph.convolution(name, name).channels for name in (tensors[0][0], tensors[1][0])]
        if channels[1] != 4 * ANCHORS or channels[0] % ANCHORS:
            raise ImportedFileError(f"{channels} outputs of the predictors; expected {ANCHORS} anchors")
        shapes = tuple(tuple(_shapes(low, high)) for low, high in SIZES)
        return ReadNetwork(
            f"PyTorch, {layout.name}", self.graph, (layout.side, layout.side), layout.pixels,
            channels[0] // ANCHORS, class_tensors=tensors[0], box_tensors=tensors[1],
            anchors=RuleAnchors(shapes, layout.steps, clip=True),
            notes=[f"the input's size, normalization and anchors are taken to be those of {layout.name}"],
        )  # fmt: skip

    def _v1(self) -> List[str]:
        tensor, outputs = self.graph.input, []
        for index, stride in enumerate(V1_STRIDES):
            tensor = self._chain(f"{self.layout.base}.{index}", tensor, stride, "relu", False)
            outputs.append(tensor)
        return [outputs[11], outputs[13]]

    def _v2(self) -> List[str]:
        tensor, taps = self.graph.input, []
        for index, stride in enumerate(V2_STRIDES):
            name, start = f"{self.layout.base}.{index}", tensor
            is_block = 0 < index < len(V2_STRIDES) - 1
            tensor = self._chain(name, tensor, stride, "relu6", is_block)
            last = self.graph.convolution(tensor, name)
            if is_block and stride == 1 and self._channels(start) == last.channels:
                tensor = f"{name} sum"
                self.graph.operators.append(Add(name, start, last.output, tensor))
            if index == self.layout.tap:
                taps.append(self._convolutions(name)[0] if self.layout.reads_expansion else tensor)
        return [*taps, tensor]

    def _channels(self, tensor: str) -> Optional[int]:
        operator = self.graph.producers().get(tensor)
        while isinstance(operator, Add):
            operator = self.graph.producers().get(operator.second)
        return operator.channels if operator else None

    def _convolutions(self, layer: str) -> List[str]:
        """Names of the convolutions of a layer, in order."""
        return [m for m in self.modules.get(layer, []) if self._get(f"{m}.weight").ndim == 4]

    def _get(self, name: str, count: int = 0) -> np.ndarray:
        array = self.arrays.get(name)
        if array is None or (count and array.shape != (count,)) or not np.isfinite(array).all():
            found = "missing" if array is None else f"of shape {array.shape}, or not finite"
            raise ImportedFileError(f"{name}: {found}")
        self.used.add(name)
        return array

    def _chain(self, layer: str, tensor: str, stride: int, act: str, is_linear: bool) -> str:
        """Append the convolutions of a layer, each with the BatchNorm after it; returns the last tensor.

        The first one larger than 1x1 has the stride. If `is_linear`, the last has no activation.
        """
        modules, names = self.modules.get(layer, []), self._convolutions(layer)
        if not names:
            raise ImportedFileError(f"{layer}: no convolution")
        for name in names:
            weight = self._get(f"{name}.weight")
            if weight.shape[2] != weight.shape[3] or weight.shape[2] not in (1, 3):
                raise ImportedFileError(f"{name}.weight: of shape {weight.shape}")
            channels, kernel = len(weight), weight.shape[2]
            groups = channels if weight.shape[1] == 1 and channels > 1 else 1
            has_bias = f"{name}.bias" in self.arrays
            bias = self._get(f"{name}.bias", channels) if has_bias else np.zeros(channels, np.float32)
            own = stride if kernel > 1 else 1
            conv = Conv(name, tensor, name, weight.astype(np.float32), bias.astype(np.float32), own, groups)
            following = modules[modules.index(name) + 1 :][:1]
            if following and f"{following[0]}.running_var" in self.arrays:
                conv = self._normalized(conv, following[0])
            stride, tensor = (1 if kernel > 1 else stride), name
            kind = "" if is_linear and name == names[-1] else act
            self.graph.operators.append(replace(conv, activation=kind))
        return tensor

    def _normalized(self, conv: Conv, name: str) -> Conv:
        gamma, beta, mean, variance = (
            self._get(f"{name}.{part}", conv.channels).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if not (variance + EPSILON > 0).all():
            raise ImportedFileError(f"{name}.running_var: not above 0")
        factor = gamma / np.sqrt(variance + EPSILON)
        return rescaled(conv, factor, beta - mean * factor)

    def _check_rest(self) -> None:
        rest = [name for name in self.arrays if name not in self.used and not name.endswith(IGNORED)]
        if rest:
            raise ImportedFileError(f"{rest[0]}: an array that this network does not have")


def _numbers(module: str) -> Tuple[int, ...]:
    """The numbers in a name, to sort by."""
    return tuple(int(part) for part in module.split(".") if part.isdigit())


def _shapes(low: float, high: float) -> Sequence[Tuple[float, float]]:
    """Widths and heights of the anchors of a map in pixels, in order."""
    mean = sqrt(low * high)
    sides = [(low * sqrt(r), low / sqrt(r)) for r in RATIOS]
    return [(low, low), (mean, mean), *(pair for w, h in sides for pair in ((w, h), (h, w)))]
