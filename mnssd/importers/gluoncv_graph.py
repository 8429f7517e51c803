"""SSD MobileNets in GluonCV's parameter files: the arrays tell the network, the network the rest."""

from __future__ import annotations

from typing import Dict, List, Mapping, Tuple

import numpy as np

from ..errors import ImportedFileError
from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..nn.gluoncv_models import GLUONCV_MODELS
from ..nn.gluoncv_names import GluonCVDetector, convert_detector
from ..nn.head_layouts import LAYOUTS
from .graph import Conv, ConvGraph, InputPixels, ReadNetwork, RuleAnchors, rescaled
from .refusal import refusing

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
"""Of the blocks of MobileNetV1."""

COCO = "_coco"
"""End of the names of GluonCV's networks for COCO, of which there is one with each head."""

TAPS = (11, 13)
"""Blocks whose outputs the predictors read, counted from 1."""

EPSILON = 1e-5
"""Gluon's default of BatchNorm, which the backbone has."""


def read_network(path: str, arrays: Mapping[str, np.ndarray]) -> ReadNetwork:
    """The detector in a parameter file; ImportedFileError names the array that has no equal here."""
    detector = convert_detector(arrays)
    models = (name for name, model in GLUONCV_MODELS.items() if detector and model.head == detector.head)
    name = next((name for name in models if name.endswith(COCO)), "")
    if detector is None or not name:
        names = ", ".join(list(arrays)[:3])
        raise ImportedFileError(
            f"{path}: arrays {names} ...: not an SSD MobileNet of GluonCV; the weights of a classifier or of"
            " a run can be given as --weights"
        )
    with refusing(path, "its arrays"):
        return _Reader(detector, name[: -len(COCO)]).read()


class _Reader:
    def __init__(self, detector: GluonCVDetector, name: str) -> None:
        self.detector, self.name, self.arrays = detector, name, dict(detector.arrays)
        self.model = GLUONCV_MODELS[name + COCO]
        self.graph = ConvGraph("image")

    def read(self) -> ReadNetwork:
        layout = LAYOUTS[self.model.head]
        tensor, maps = self._conv("image", "backbone.features.0", 2, EPSILON), []
        for block, stride in enumerate(STRIDES, start=1):
            for index, own in ((2 * block - 1, stride), (2 * block, 1)):
                tensor = self._conv(tensor, f"backbone.features.{3 * index}", own, EPSILON)
            if block in TAPS:
                maps.append(tensor)
        for index in range(len(layout.extras)):
            tensor = self._conv(maps[-1], f"extras.{index}.0", 1, layout.epsilon)
            maps.append(self._conv(tensor, f"extras.{index}.3", 2, layout.epsilon))
        heads = [
            [self._plain(source, f"{kind}_predictors.{i}") for i, source in enumerate(maps)]
            for kind in ("class", "box")
        ]
        if self.arrays:
            raise ImportedFileError(f"{next(iter(self.arrays))}: an array that this network does not have")
        count = self.detector.class_count
        known = {len(m.classes()): m for m in GLUONCV_MODELS.values() if m.dataset != "custom"}
        names = known[count].classes() if count in known else ()
        notes = [f"the input's size and normalization are taken to be those of {self.name}"]
        return ReadNetwork(
            f"GluonCV, {self.name}", self.graph, (self.model.size,) * 2,
            InputPixels(IMAGENET_MEAN, IMAGENET_STD), count + 1, class_tensors=heads[0],
            box_tensors=heads[1], anchors=self._anchors(), notes=notes, names=names,
        )  # fmt: skip

    def _take(self, name: str, count: int = 0) -> np.ndarray:
        array = self.arrays.pop(name, None)
        if array is None or (count and array.shape != (count,)) or not np.isfinite(array).all():
            found = "missing" if array is None else f"of shape {array.shape}, or not finite"
            raise ImportedFileError(f"{name}: {found}")
        return array

    def _conv(self, tensor: str, name: str, stride: int, epsilon: float) -> str:
        """Append a convolution, the BatchNorm after it and a ReLU; returns its tensor."""
        weight = self._take(f"{name}.weight")
        channels = len(weight)
        groups = channels if weight.ndim == 4 and weight.shape[1] == 1 else 1
        conv = Conv(
            name, tensor, name, weight, np.zeros(channels, np.float32), stride, groups, activation="relu"
        )
        prefix, _, index = name.rpartition(".")
        gamma, beta, mean, variance = (
            self._take(f"{prefix}.{int(index) + 1}.{part}", channels).astype(np.float64)
            for part in ("gamma", "beta", "running_mean", "running_var")
        )
        if not (variance + epsilon > 0).all():
            raise ImportedFileError(f"{prefix}.{int(index) + 1}.running_var: not above 0")
        factor = gamma / np.sqrt(variance + epsilon)
        return self._append(rescaled(conv, factor, beta - mean * factor))

    def _plain(self, tensor: str, name: str) -> str:
        """Append a predictor; returns its tensor."""
        weight = self._take(f"{name}.weight")
        return self._append(Conv(name, tensor, name, weight, self._take(f"{name}.bias", len(weight))))

    def _append(self, conv: Conv) -> str:
        if conv.weight.ndim != 4 or conv.weight.shape[2] != conv.weight.shape[3]:
            raise ImportedFileError(f"{conv.name}.weight: of shape {conv.weight.shape}")
        self.graph.operators.append(conv)
        return conv.output

    def _anchors(self) -> RuleAnchors:
        """Anchors in the file, else those of the network."""
        tables = self.detector.anchors
        if not tables:
            from ..nn.anchors import make_generators  # imports MXNet

            layout, side = LAYOUTS[self.model.head], self.model.size
            generators = make_generators([(2, 2)] * 6, (side, side), layout.anchors)
            tables = [generator.anchors.value.asnumpy() for generator in generators]
        shapes, steps = zip(*(_rule(table) for table in tables))
        return RuleAnchors(tuple(shapes), tuple(steps))


def _rule(table: np.ndarray) -> Tuple[Tuple[Tuple[float, float], ...], float]:
    """Shapes and step in pixels of a map's anchors ``(1, 1, H, W, K * 4)``."""
    if table.ndim != 5 or min(table.shape[2:4]) < 1 or table.shape[4] % 4:
        raise ImportedFileError(f"anchors of shape {table.shape}")
    grid = table[0, 0].reshape(*table.shape[2:4], -1, 4).astype(np.float64)
    step = 2 * float(grid[0, 0, 0, 0])
    rows, columns = ((np.arange(side) + 0.5) * step for side in grid.shape[:2])
    expected: Dict[str, np.ndarray] = {
        "x": columns[None, :, None], "y": rows[:, None, None], "shapes": grid[:1, :1, :, 2:],
    }  # fmt: skip
    parts = {"x": grid[..., 0], "y": grid[..., 1], "shapes": grid[..., 2:]}
    if not step > 0 or any(not np.abs(parts[name] - expected[name]).max() < 1e-2 for name in parts):
        raise ImportedFileError("anchors that are not the same shapes at every position of a map")
    shapes: List[Tuple[float, float]] = [(float(w), float(h)) for w, h in grid[0, 0, :, 2:]]
    return tuple(shapes), step
