"""Which MobileNet the convolutions of a file are, and the names of their arrays here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from ..errors import ImportedFileError
from ..nn.backbones.mobilenet_v2 import FIRST_BLOCK
from .graph import Add, Conv, ConvGraph, Operator, with_identity_expansion

V1_BLOCKS, V2_BLOCKS = 13, 17

EPSILON = 1e-5
"""Of the BatchNorms here: their variance is set so that they add the bias and change nothing else."""


@dataclass
class Trunk:
    """Backbone and extra layers.

    Attributes
    ----------
    network, activation : str
    arrays : dict
        Of the backbone, under the names of a classifier: ``features.0.weight``.
    paths : dict of str to (str, int)
        Path of the layer that makes a tensor (`nn.backbones.Tap`) and its stride.
    extras : list of list of Conv
        Convolutions of each extra layer.
    rotated : bool
        Whether kernels are turned, see `nn.input_layer.InputLayer`.
    """

    network: str
    activation: str
    rotated: bool
    arrays: Dict[str, np.ndarray] = field(default_factory=dict)
    paths: Dict[str, Tuple[str, int]] = field(default_factory=dict)
    extras: List[List[Conv]] = field(default_factory=list)

    def put(self, layer: str, norm: str, conv: Conv) -> None:
        """Arrays of a convolution without bias and the BatchNorm after it."""
        self.put_plain(layer, conv)
        bias = self.arrays.pop(f"{layer}.bias")
        ones = np.ones_like(bias)
        values = {"gamma": ones, "beta": bias, "running_mean": 0 * ones, "running_var": ones - EPSILON}
        self.arrays.update({f"{norm}.{name}": value.astype(np.float32) for name, value in values.items()})

    def put_plain(self, layer: str, conv: Conv) -> None:
        """Arrays of a convolution with bias."""
        weight = conv.weight[:, :, ::-1, ::-1] if self.rotated else conv.weight
        self.arrays[f"{layer}.weight"] = np.ascontiguousarray(weight, np.float32)
        self.arrays[f"{layer}.bias"] = conv.bias.astype(np.float32)


def read_trunk(graph: ConvGraph, operators: Sequence[Operator], path: str) -> Trunk:
    """Recognize the network in `operators`, the graph's without its predictors.

    Raises
    ------
    ImportedFileError
        If they are not a MobileNet, or one that has no equal here; the message names the operator.
    """
    convolutions = [operator for operator in operators if isinstance(operator, Conv)]
    if len(convolutions) < 1 + 2 * V1_BLOCKS:
        raise ImportedFileError(
            f"{path}: {len(convolutions)} convolutions before the predictors; expected a MobileNetV1 or V2"
        )
    has_sums = any(isinstance(operator, Add) for operator in operators)
    rotated = _is_rotated(convolutions, path)
    trunk = Trunk("mobilenet_v2" if has_sums else "mobilenet_v1", convolutions[0].activation, rotated)
    walk = _Walk(graph, list(convolutions), trunk, path)
    walk.first()
    (walk.bottlenecks if has_sums else walk.separable_blocks)()
    trunk.extras = walk.extra_layers()
    _check_sums(operators, walk, path)
    return trunk


def _is_rotated(convolutions: Sequence[Conv], path: str) -> bool:
    strided = [conv for conv in convolutions if conv.stride > 1 and conv.kernel > 1]
    same = [conv for conv in strided if conv.same]
    if same and len(same) < len(strided):
        other = next(conv for conv in strided if not conv.same)
        raise ImportedFileError(f"{path}: {other.name}: padded in another way than {same[0].name}")
    return bool(same)


class _Walk:
    """Takes the convolutions of a trunk one after the other, each of which must read the one before it."""

    def __init__(self, graph: ConvGraph, convolutions: List[Conv], trunk: Trunk, path: str) -> None:
        self._waiting, self._trunk, self._path = convolutions, trunk, path
        self._tensor, self._stride = graph.input, 1
        self._sums = [operator for operator in graph.operators if isinstance(operator, Add)]
        self.merged: Dict[str, str] = {}  # sums of bottlenecks with a shortcut, and the inputs they add

    def take(self, what: str, depthwise: bool, kernel: int, activation: str) -> Conv:
        """The next convolution; ImportedFileError if it is of another kind."""
        if not self._waiting:
            raise ImportedFileError(f"{self._path}: {what} is missing; expected {self._trunk.network}")
        conv = self._waiting.pop(0)
        expected = (self._tensor, depthwise, kernel, activation)
        found = (conv.source, conv.is_depthwise, conv.kernel, conv.activation)
        if found != expected or conv.stride not in (1, 2) or (conv.stride == 2 and kernel == 1):
            kind = "depthwise " if conv.is_depthwise else ""
            raise ImportedFileError(
                f"{self._path}: {conv.name}: a {kind}{conv.kernel}x{conv.kernel} convolution with stride"
                f" {conv.stride} and activation {conv.activation or 'none'}; expected {what} of"
                f" {self._trunk.network}"
            )
        self._tensor, self._stride = conv.output, self._stride * conv.stride
        return conv

    def first(self) -> None:
        """The first convolution."""
        conv = self.take("the first convolution", False, 3, self._trunk.activation)
        self._trunk.put("features.0", "features.1", conv)
        self._mark("features.2")

    def separable_blocks(self) -> None:
        """The blocks of MobileNetV1."""
        trunk, act = self._trunk, self._trunk.activation
        for block in range(V1_BLOCKS):
            base = 6 * block + 3
            trunk.put(f"features.{base}", f"features.{base + 1}", self.take("a depthwise", True, 3, act))
            trunk.put(f"features.{base + 3}", f"features.{base + 4}", self.take("a pointwise", False, 1, act))
            self._mark(f"features.{base + 5}")

    def bottlenecks(self) -> None:
        """The bottlenecks of MobileNetV2, and the convolution after them if there is one."""
        trunk, act = self._trunk, self._trunk.activation
        for block in range(V2_BLOCKS):
            start, base = self._tensor, f"features.{FIRST_BLOCK + block}.out"
            if block == 0 and self._waiting and self._waiting[0].is_depthwise:
                trunk.put(f"{base}.0", f"{base}.1", with_identity_expansion(self._waiting[0]))
            else:
                trunk.put(f"{base}.0", f"{base}.1", self.take("an expansion", False, 1, act))
                self._mark(f"{base}.2")
            trunk.put(f"{base}.3", f"{base}.4", self.take("a depthwise", True, 3, act))
            trunk.put(f"{base}.6", f"{base}.7", self.take("a projection", False, 1, ""))
            self._merge(start)
            self._mark(f"features.{FIRST_BLOCK + block}")
        last = FIRST_BLOCK + V2_BLOCKS
        if self._waiting and self._waiting[0].source == self._tensor and self._waiting[0].kernel == 1:
            trunk.put(f"features.{last}", f"features.{last + 1}", self.take("the last", False, 1, act))
            self._mark(f"features.{last + 2}")

    def extra_layers(self) -> List[List[Conv]]:
        """The convolutions of each extra layer, of which each ends with a map of half the side."""
        layers: List[List[Conv]] = []
        while self._waiting:
            act = self._waiting[0].activation
            layer = [self.take("a 1x1 convolution of an extra layer", False, 1, act)]
            if self._waiting and self._waiting[0].is_depthwise:
                layer.append(self.take("a depthwise", True, 3, act))
                is_linear = bool(self._waiting) and not self._waiting[0].activation
                layer.append(self.take("a pointwise", False, 1, "" if is_linear else act))
            else:
                layer.append(self.take("a 3x3 convolution of an extra layer", False, 3, act))
            if layer[1].stride != 2:
                raise ImportedFileError(f"{self._path}: {layer[1].name}: stride 1 in an extra layer")
            layers.append(layer)
        return layers

    def _merge(self, start: str) -> None:
        """Go on from the sum of a bottleneck's input and output, if there is one."""
        for add in self._sums:
            if {add.first, add.second} == {start, self._tensor}:
                self._tensor = self.merged[add.output] = add.output

    def _mark(self, path: str) -> None:
        self._trunk.paths[self._tensor] = (path, self._stride)


def _check_sums(operators: Sequence[Operator], walk: _Walk, path: str) -> None:
    """ImportedFileError for a sum that is not the shortcut of a bottleneck."""
    for operator in operators:
        if isinstance(operator, Add) and operator.output not in walk.merged:
            raise ImportedFileError(f"{path}: {operator.name}: a sum that is no shortcut of a bottleneck")


def without(graph: ConvGraph, operators: Sequence[Any]) -> List[Operator]:
    """The operators of a graph other than `operators`, as far as they lead to the others."""
    dropped = {id(operator) for operator in operators}
    return [operator for operator in graph.operators if id(operator) not in dropped]
