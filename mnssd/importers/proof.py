"""Comparison of an imported network with its file: operator by operator, and in an independent engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

import cv2
import mxnet as mx
import numpy as np

from ..boxes import STDS, class_scores, decode
from ..data.image import to_network_input
from ..errors import ImportedFileError
from ..export.engines import last_line
from .families import EngineOutputs, Family
from .graph import ReadNetwork
from .reference import graph_outputs

TOLERANCE = 1e-3
"""Largest difference of float32 outputs, relative to the largest output: sums of thousands of products in
another order differ by less than 1e-4."""

QUANTIZED_STEPS = 2.0
"""Largest mean difference of the class logits of an engine that stores every tensor in 8 bits from the file's
graph whose tensors are rounded in the same way, in steps of those bits. The two differ by a step where a sum
lies at the middle between two integers, and dozens of layers carry it on: 1.1 for MobileNetV2, whose
additions round as well, .16 and .51 for detectors."""

DYNAMIC_RMS = 0.1
"""Root mean square difference, relative to that of the logits, of an engine that rounds the inputs of every
layer to 8 bits by their range in each image, which no file tells."""

SHOWN_SCORE = 0.3
"""Boxes of anchors with a higher score are compared."""

GENERATED = 3
"""Number of generated images."""


@dataclass
class Difference:
    """Largest differences between an imported network and something else.

    `logits` and `boxes` are relative to the largest value, `rms` to the root mean square of the logits.
    `scores` are of all classes and anchors; `pixels` of the boxes of the `confident` anchors.
    """

    logits: float
    boxes: float
    rms: float
    scores: float
    pixels: float
    confident: int

    def __str__(self) -> str:
        text = f"largest differences of the class logits {self.logits:.1e}"
        if self.boxes < 0:
            return f"{text} of the largest, of the probabilities {self.scores:.1e}"
        text += f" and of the box offsets {self.boxes:.1e} of the largest, of the scores {self.scores:.1e}"
        if not self.confident:
            return text
        return f"{text}, of {self.confident} boxes scored above {SHOWN_SCORE} {self.pixels:.2g} pixels"


def generated_images(size: Tuple[int, int]) -> np.ndarray:
    """Images ``(N, height, width, 3)`` uint8 of smooth colored noise, the same every time."""
    rng, images = np.random.default_rng(0), []
    for _ in range(GENERATED):
        layers = [
            cv2.resize(rng.uniform(0, 255, (side, side, 3)), size, interpolation=cv2.INTER_CUBIC)
            for side in (3, 8, 40)
        ]
        images.append(np.clip(np.average(layers, axis=0, weights=(3, 2, 1)), 0, 255).astype(np.uint8))
    return np.stack(images)


def prove(
    net: Any, read: ReadNetwork, columns: Sequence[int], family: Family, path: str, images: np.ndarray
) -> List[str]:
    """Compare the network with its file; returns lines for the user.

    Parameters
    ----------
    columns : sequence of int
        Columns of the classes in the file's scores.
    images : numpy.ndarray
        ``(N, height, width, 3)`` uint8 RGB of the input's size.

    Raises
    ------
    ImportedFileError
        If the differences are larger than rounding explains.
    """
    ours, graph = network_outputs(net, read, images), _graph_outputs(read, images)
    difference = _compare(net, read, columns, ours, graph)
    _require_equal(difference, path, "its file, operator by operator")
    lines = [f"equal to the file, operator by operator: {difference}"]
    try:
        engine = family.run_engine(path, read, images)
    except Exception as error:  # the engines have no common base class
        return [*lines, f"not compared with {family.engine}, which cannot run the file ({last_line(error)})"]
    if engine is None and not family.engine:
        return [*lines, "not compared with an independent engine: none runs such files"]
    if engine is None:
        return [*lines, f"not compared with an independent engine; for that: pip install {family.engine}"]
    difference = _compare(net, read, columns, ours, (engine.logits, engine.boxes))
    if not engine.is_quantized:
        _require_equal(difference, path, engine.engine)
        return [*lines, f"equal to {engine.engine}: {difference}"]
    return [*lines, _quantized(read, images, engine, difference, path)]


def _require_equal(difference: Difference, path: str, other: str) -> None:
    if not max(difference.logits, difference.boxes) <= TOLERANCE:
        raise ImportedFileError(f"{path}: the imported network differs from {other}: {difference}")


def _quantized(
    read: ReadNetwork, images: np.ndarray, engine: EngineOutputs, difference: Difference, path: str
) -> str:
    """Compare an engine of 8-bit integers with the file's graph, rounded as there; returns a line."""
    steps = [
        operator.rounding.scale
        for operator in read.graph.operators
        if operator.rounding and operator.output in (*read.class_tensors, read.logits)
    ]
    if not steps:
        if not difference.rms <= DYNAMIC_RMS:
            raise ImportedFileError(f"{path}: differs from {engine.engine}: {difference}")
        return f"{engine.engine}, which rounds the inputs of layers to 8 bits: {difference}"
    rounded = _graph_outputs(read, images, rounded=True)[0]
    mean = float(np.abs(engine.logits.reshape(rounded.shape) - rounded).mean() / max(steps))
    if not mean <= QUANTIZED_STEPS:
        raise ImportedFileError(
            f"{path}: with tensors rounded to 8 bits, the class logits are {mean:.1f} steps from those of"
            f" {engine.engine}"
        )
    return (
        f"equal to {engine.engine}, if tensors are rounded to its 8 bits: class logits {mean:.2f} steps apart"
        f" on average. The import does not round them: {difference}"
    )


def _graph_outputs(
    read: ReadNetwork, images: np.ndarray, rounded: bool = False
) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Outputs of the file's graph, as `EngineOutputs` has them."""
    try:
        return graph_outputs(read, images, rounded)
    except (KeyError, ValueError, mx.MXNetError) as error:
        raise ImportedFileError(
            f"{read.source}: its graph cannot be computed ({last_line(error)})"
        ) from error


def network_outputs(net: Any, read: ReadNetwork, images: np.ndarray) -> Tuple[np.ndarray, Any]:
    """Raw heads of a detector, or logits of a classifier and None; anchors in the order of the file."""
    x = mx.nd.array(to_network_input(list(images)))
    if not read.is_detector:
        return net(x).asnumpy(), None
    classes, boxes = (output.asnumpy() for output in net.heads(x))
    if net.heads.backbone.rotated:
        classes, boxes = (unrotated(net, part) for part in (classes, boxes))
    return classes, boxes


def unrotated(net: Any, values: np.ndarray) -> np.ndarray:
    """``(N, A, V)`` of a network with a turned image, with each map's positions in the usual order."""
    from ..nn.anchors import anchors_per_position

    parts, begin = [], 0
    for index, (width, height) in enumerate(net.map_sizes()):
        count = anchors_per_position(index, net.heads.layout.anchors)
        end = begin + width * height * count
        part = values[:, begin:end].reshape(len(values), height, width, count, -1)[:, ::-1, ::-1]
        parts.append(part.reshape(len(values), end - begin, -1))
        begin = end
    return np.concatenate(parts, axis=1)


def _compare(
    net: Any,
    read: ReadNetwork,
    columns: Sequence[int],
    ours: Tuple[np.ndarray, Any],
    other: Tuple[np.ndarray, Optional[np.ndarray]],
) -> Difference:
    """Differences of the columns of the classes; scores are of all columns that the network has."""
    logits = other[0].reshape(len(other[0]), -1, read.column_count)
    own = ours[0].reshape(*logits.shape[:2], -1)
    theirs, first = logits[..., list(columns)], 0
    if read.is_detector:
        background = (
            np.zeros_like(logits[..., 0]) if read.background is None else logits[..., read.background]
        )
        theirs, first = np.concatenate([background[..., None], theirs], axis=-1), 1
    scores = [class_scores(part, read.scores)[..., first:] for part in (own, theirs)]
    own, theirs = own[..., first:], theirs[..., first:]
    apart = float(np.abs(scores[0] - scores[1]).max())
    difference = Difference(_relative(own, theirs), -1.0, _rms(own, theirs), apart, 0.0, 0)
    if other[1] is not None:
        confident = np.maximum(*(part.max(axis=-1) for part in scores)) > SHOWN_SCORE
        _compare_boxes(net, read, ours[1], other[1], confident, difference)
    return difference


def _compare_boxes(
    net: Any,
    read: ReadNetwork,
    own: np.ndarray,
    theirs: np.ndarray,
    confident: np.ndarray,
    difference: Difference,
) -> None:
    """Add the differences of box offsets, and of the boxes of `confident` anchors ``(N, A)``."""
    theirs = theirs[..., list(read.box_order)] * (np.array(read.box_stds) / np.array(STDS))
    difference.boxes = _relative(own, theirs)
    anchors = net.anchors if not net.heads.backbone.rotated else unrotated(net, net.anchors[None])[0]
    difference.confident = int(confident.sum())
    difference.pixels = max(
        float(np.abs(decode(a, anchors) - decode(b, anchors))[rows].max(initial=0.0))
        for a, b, rows in zip(own, theirs, confident)
    )


def _relative(own: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(own - theirs).max() / max(float(np.abs(theirs).max()), 1e-9))


def _rms(own: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.sqrt(((own - theirs) ** 2).mean() / max(float((theirs**2).mean()), 1e-9)))


def resized(images: Optional[Sequence[str]], size: Tuple[int, int]) -> np.ndarray:
    """Images to compare on, at the input's size: the given files, or generated ones."""
    if not images:
        return generated_images(size)
    from ..data.preprocess import read_for_network

    return np.stack([read_for_network(image, size)[0] for image in images])
