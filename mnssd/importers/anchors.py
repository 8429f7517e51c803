"""Anchors of a file as rules: shapes for each feature map."""

from __future__ import annotations

from math import sqrt
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..errors import ImportedFileError
from ..nn.head_layouts import AnchorLayout
from .graph import AnchorTable, ReadNetwork, RuleAnchors

Shapes = Tuple[Tuple[float, float], ...]

MIN_SCALE, MAX_SCALE = 0.2, 0.95
"""Of the finest and the coarsest map in TensorFlow's released MobileNet SSDs (``ssd_anchor_generator`` in
``object_detection/samples/configs``)."""


def tensorflow_shapes(maps: int) -> Tuple[Shapes, ...]:
    """Width and height of TensorFlow's anchors, as fractions of the side.

    ``create_ssd_anchors`` in ``object_detection/anchor_generators/multiple_grid_anchor_generator.py``, with
    ``reduce_boxes_in_lowest_layer``.
    """
    step = (MAX_SCALE - MIN_SCALE) / max(maps - 1, 1)
    scales = [*(MIN_SCALE + step * i for i in range(maps)), 1.0]
    result: List[Shapes] = [tuple(_shape(s, r) for s, r in ((0.1, 1.0), (MIN_SCALE, 2.0), (MIN_SCALE, 0.5)))]
    for scale, following in zip(scales[1:], scales[2:]):
        ratios = ((scale, r) for r in (1.0, 2.0, 0.5, 3.0, 0.3333))
        result.append(tuple(_shape(s, r) for s, r in (*ratios, (sqrt(scale * following), 1.0))))
    return tuple(result)


def _shape(scale: float, ratio: float) -> Tuple[float, float]:
    return (scale * sqrt(ratio), scale / sqrt(ratio))


def anchor_layout(
    read: ReadNetwork, map_sizes: Sequence[Tuple[int, int]], counts: Sequence[int], path: str
) -> AnchorLayout:
    """The rule that gives the anchors of a file, or TensorFlow's if it has none.

    Parameters
    ----------
    map_sizes : sequence of (int, int)
        ``(width, height)`` of each feature map.
    counts : sequence of int
        Anchors at each position of each map.

    Raises
    ------
    ImportedFileError
        If the anchors are not the same shapes at every position of a map.
    """
    if isinstance(read.anchors, RuleAnchors):
        rule = read.anchors
        _check_counts(rule.shapes, counts, path)
        return AnchorLayout((), (), rule.steps, "explicit", rule.shapes, rule.clip)
    short = min(read.size)
    known: Optional[Tuple[Shapes, ...]] = _scaled(tensorflow_shapes(len(counts)), short, short, read.size)
    if [len(shapes) for shapes in known or ()] != list(counts):
        known = None
    if read.anchors is None:
        if known is None:
            raise ImportedFileError(f"{path}: has no anchors, and not as many as TensorFlow's networks")
        return AnchorLayout((), (), (), "explicit", known)
    fractions = _by_map(read.anchors, map_sizes, counts, path)
    table = _scaled([tuple(map(tuple, part.tolist())) for part in fractions], *read.size, read.size)
    near = 2 * read.anchors.rounding
    if known and all(np.abs(np.subtract(part, shapes)).max() <= near for part, shapes in zip(table, known)):
        return AnchorLayout((), (), (), "explicit", known)
    return AnchorLayout((), (), (), "explicit", table)


def _scaled(maps: Sequence[Shapes], width: float, height: float, size: Tuple[int, int]) -> Tuple[Shapes, ...]:
    """Fractions of a width and a height in pixels as fractions of the geometric mean of the input's sides."""
    x, y = (length / sqrt(size[0] * size[1]) for length in (width, height))
    return tuple(tuple((w * x, h * y) for w, h in shapes) for shapes in maps)


def _check_counts(shapes: Sequence[Shapes], counts: Sequence[int], path: str) -> None:
    if [len(part) for part in shapes] != list(counts):
        found = [len(part) for part in shapes]
        raise ImportedFileError(f"{path}: {found} anchors at a position, but predictors for {list(counts)}")


def _by_map(
    anchors: AnchorTable, map_sizes: Sequence[Tuple[int, int]], counts: Sequence[int], path: str
) -> List[np.ndarray]:
    """Shapes ``(K, 2)`` of each map; ImportedFileError unless the centers are those of its positions."""
    total = sum(w * h * count for (w, h), count in zip(map_sizes, counts))
    values = np.asarray(anchors.values, np.float64)
    if values.shape != (total, 4):
        raise ImportedFileError(f"{path}: anchors of shape {values.shape}, expected ({total}, 4)")
    parts, begin = [], 0
    for (width, height), count in zip(map_sizes, counts):
        part = values[begin : begin + width * height * count].reshape(height, width, count, 4)
        begin += width * height * count
        x, y = (np.arange(side) + 0.5 for side in (width, height))
        shapes = part[..., 2:].mean(axis=(0, 1))
        errors = (
            part[..., 0] - (x / width)[None, :, None],
            part[..., 1] - (y / height)[:, None, None],
            part[..., 2:] - shapes,
        )
        largest = max(float(np.abs(error).max()) for error in errors)
        if not largest <= 1.01 * anchors.rounding or not shapes.min() > 0:
            raise ImportedFileError(
                f"{path}: anchors of the {width}x{height} map are not the same shapes at every position (they"
                f" differ by {largest:.2g} of the side)"
            )
        parts.append(shapes)
    return parts
