"""Shapes of anchors from the boxes of a dataset or from a file, in place of those of the head."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any, List, Sequence

import numpy as np
import yaml

from .. import boxes
from ..errors import OptionError
from ..options import Size
from .anchors import anchors_per_position
from .head_layouts import AnchorLayout

ROUNDS = 100
"""Most rounds of k-means; on VOC it ends after fewer than 40."""


def shapes_of(anchors: np.ndarray, map_sizes: Sequence[Size], layout: AnchorLayout) -> List[np.ndarray]:
    """Widths and heights of the anchors at a position of each map, ``(K, 2)`` in pixels.

    `anchors` are those that `anchors.make_anchors` makes for the other arguments.
    """
    shapes, begin = [], 0
    for index, (columns, rows) in enumerate(map_sizes):
        count = anchors_per_position(index, layout)
        shapes.append(anchors[begin : begin + count, 2:].astype(np.float64))
        begin += columns * rows * count
    return shapes


def cluster_shapes(shapes: Sequence[np.ndarray], sizes: np.ndarray) -> List[np.ndarray]:
    """Replace the shapes of each map by centers of the boxes whose size is near to them.

    k-means with the distance 1 - IoU (Redmon and Farhadi 2017, section 2), as many centers as the map has
    shapes. The size of a box is the square root of its area; the limit between two maps is the geometric mean
    of their median sizes. A map with fewer boxes than shapes keeps its shapes.

    Parameters
    ----------
    shapes : sequence of numpy.ndarray
        As from `shapes_of`, finest map first.
    sizes : numpy.ndarray
        ``(N, 2)``: widths and heights of the boxes in pixels of the network's input.

    Returns
    -------
    list of numpy.ndarray
        Shapes of each map, small ones first.
    """
    scales = [float(np.median(np.sqrt(part.prod(axis=1)))) for part in shapes]
    limits = [0.0, *(sqrt(a * b) for a, b in zip(scales, scales[1:])), np.inf]
    side = np.sqrt(sizes.prod(axis=1))
    found = []
    for part, low, high in zip(shapes, limits, limits[1:]):
        near = sizes[(side >= low) & (side < high)]
        found.append(_k_means(near, len(part)) if len(near) >= len(part) else part)
    return found


def _k_means(sizes: np.ndarray, count: int) -> np.ndarray:
    """``(count, 2)``; starts from the sizes at equal steps of their areas' ranks."""
    ranks = np.argsort(sizes.prod(axis=1), kind="stable")
    centers = sizes[ranks[np.linspace(0, len(sizes) - 1, count + 2).astype(int)[1:-1]]].astype(np.float64)
    for _ in range(ROUNDS):
        nearest = overlaps(sizes, centers).argmax(axis=1)
        moved = np.array(
            [sizes[nearest == k].mean(axis=0) if (nearest == k).any() else centers[k] for k in range(count)]
        )
        if np.allclose(moved, centers):
            break
        centers = moved
    return centers[np.argsort(centers.prod(axis=1), kind="stable")]


def overlaps(sizes: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """IoU of ``(N, 2)`` widths and heights with ``(K, 2)``, all with the same center."""
    first, second = (np.concatenate([-part / 2, part / 2], axis=1) for part in (sizes, shapes))
    return boxes.iou(first[:, None], second)


def mean_overlap(sizes: np.ndarray, shapes: Sequence[np.ndarray]) -> float:
    """Mean IoU of a box with the best shape of any map, both with the same center."""
    return float(overlaps(sizes, np.concatenate(list(shapes))).max(axis=1).mean())


def explicit_layout(layout: AnchorLayout, shapes: Sequence[np.ndarray], input_size: Size) -> AnchorLayout:
    """Anchors of the given shapes in pixels, at the positions of `layout`.

    Raises ValueError if there are too many or if a side is not above 0.
    """
    unit = 1.0 if layout.steps else sqrt(input_size[0] * input_size[1])
    in_units = tuple(tuple((float(w) / unit, float(h) / unit) for w, h in part) for part in shapes)
    return replace(layout, sizes=(), ratios=(), generator="explicit", shapes=in_units, clip=False)


def read_shapes(path: str, maps: int) -> List[np.ndarray]:
    """Shapes of anchors from a YAML file.

    The file has a list for each of the `maps` feature maps, finest first, of pairs of width and height in
    pixels of the network's input: ``[[[20, 30], [40, 25]], [[80, 80]]]``.

    Raises
    ------
    OptionError
        If the file cannot be read or is not such a list.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content: Any = yaml.safe_load(file)
        shapes = [np.array(part, np.float64) for part in content]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"--anchors {path}: {error}; give default, auto or a YAML file") from error
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise OptionError(f"--anchors {path}: not lists of pairs of width and height: {error}") from error
    if len(shapes) != maps:
        raise OptionError(
            f"--anchors {path}: {len(shapes)} lists of shapes; this head has {maps} feature maps"
        )
    for number, part in enumerate(shapes, 1):
        if part.ndim != 2 or part.shape[1] != 2 or not len(part):
            raise OptionError(
                f"--anchors {path}: list {number}: expected pairs of width and height in pixels"
            )
        if not np.isfinite(part).all() or part.min() <= 0:
            raise OptionError(f"--anchors {path}: list {number}: a width or height is not above 0")
    return shapes
