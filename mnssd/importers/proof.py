"""Comparison of an imported network with its file: operator by operator, and in an independent engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

import cv2
import mxnet as mx
import numpy as np

from ..boxes import class_scores, decode
from ..data.image import to_network_input
from ..errors import ImportedFileError
from .families import EngineOutputs, Family
from .graph import ReadNetwork
from .reference import compute, raw_heads

TOLERANCE = 1e-3
"""Largest difference of float32 outputs, relative to the largest output: sums of thousands of products in
another order differ by less than 1e-4."""

QUANTIZED_TOLERANCE = 0.1
"""Root mean square difference of the outputs of an engine that rounds every layer to 8 bits, relative to that
of the outputs. One rounding of a layer's values is up to a half of a 255th of their range; 30 layers add
theirs. The weights are the same, so that the difference is the engine's rounding alone."""

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

    with_what: str
    logits: float
    boxes: float
    rms: float
    scores: float
    pixels: float
    confident: int
    is_quantized: bool = False

    def __str__(self) -> str:
        text = f"{self.with_what}: largest difference of the class logits {self.logits:.1e}"
        if self.boxes >= 0:
            text += f", of the box offsets {self.boxes:.1e}, relative to the largest; of the scores"
            text += f" {self.scores:.1e}, of {self.confident} boxes scored above {SHOWN_SCORE}"
            text += f" {self.pixels:.2g} pixels"
        else:
            text += f", relative to the largest; of the probabilities {self.scores:.1e}"
        if self.is_quantized:
            text += f"; root mean square {self.rms:.3f}: it rounds every layer to 8 bits, the import none"
        return text


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
    ours = network_outputs(net, read, images)
    theirs = raw_heads(read, images) if read.is_detector else (compute(read, images, [read.logits])[0], None)
    graph = EngineOutputs("the file's graph, operator by operator", theirs[0], theirs[1], False)
    lines = [str(_compare(net, read, columns, ours, graph, path))]
    engine = family.run_engine(path, read, images)
    if engine is None:
        return [*lines, f"not compared with an independent engine; for that: pip install {family.engine}"]
    return [*lines, str(_compare(net, read, columns, ours, engine, path))]


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
    other: EngineOutputs,
    path: str,
) -> Difference:
    logits = other.logits.reshape(len(other.logits), -1, read.column_count)
    own = ours[0].reshape(*logits.shape[:2], -1)
    own, theirs = (
        (own[..., 1:], logits[..., list(columns)]) if read.is_detector else (own, logits[..., columns])
    )
    difference = Difference(
        other.engine, _relative(own, theirs), -1.0, _rms(own, theirs), _score_difference(read, own, theirs),
        0.0, 0, other.is_quantized,
    )  # fmt: skip
    if read.is_detector and other.boxes is not None:
        _compare_boxes(net, read, (own, ours[1]), (theirs, other.boxes), difference)
    too_large = difference.rms > QUANTIZED_TOLERANCE
    if not other.is_quantized:
        too_large = max(difference.logits, difference.boxes) > TOLERANCE
    if too_large or not np.isfinite(difference.logits + difference.boxes):
        raise ImportedFileError(f"{path}: the imported network computes something else than {difference}")
    return difference


def _compare_boxes(
    net: Any,
    read: ReadNetwork,
    own: Tuple[np.ndarray, np.ndarray],
    other: Tuple[np.ndarray, np.ndarray],
    difference: Difference,
) -> None:
    stds = np.array(read.box_stds) / np.array([0.1, 0.1, 0.2, 0.2])
    boxes = other[1][..., list(read.box_order)] * stds
    difference.boxes = _relative(own[1], boxes)
    anchors = net.anchors if not net.heads.backbone.rotated else unrotated(net, net.anchors[None])[0]
    scores = [class_scores(part[0], read.scores) for part in (own, other)]
    if read.scores == "softmax":
        return  # without the background the scores are not those of the network
    confident = np.maximum(*(part.max(axis=-1) for part in scores)) > SHOWN_SCORE
    difference.confident = int(confident.sum())
    if difference.confident:
        pairs = zip(own[1], boxes, confident)
        difference.pixels = max(
            float(np.abs(decode(a, anchors) - decode(b, anchors))[rows].max(initial=0.0))
            for a, b, rows in pairs
        )


def _score_difference(read: ReadNetwork, own: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(class_scores(own, read.scores) - class_scores(theirs, read.scores)).max())


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
