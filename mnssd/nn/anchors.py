"""Anchors (default boxes), from the shapes the feature maps really have."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np

SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
"""Anchor side of each of the six maps, as a share of the input's: SSD paper (Liu et al. 2016) section 2.2
with s_min 0.2 and s_max 0.95, as in TensorFlow's released MobileNet SSDs."""

RATIOS = ((1.0, 2.0, 0.5), (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0))
"""Aspect ratios, width over height, of the finest map and of the others (SSD paper, section 2.2)."""


def anchor_shapes(index: int, side: float) -> np.ndarray:
    """Widths and heights of the anchors at each position of map `index` (0 is the finest).

    The ratios at the map's scale and the square of the geometric mean with the next map's scale (1.0
    after the last), as in the paper. The finest map also has the square of half its scale, as in
    TensorFlow's ``reduce_boxes_in_lowest_layer``, which however drops the other two squares there:
    then a third of the objects of a fifth of the image's side find no anchor at all.

    Parameters
    ----------
    index : int
        Number of the map, 0-5.
    side : float
        Side of the input in pixels; the geometric mean of its sides where it is a rectangle.

    Returns
    -------
    numpy.ndarray
        ``(K, 2)`` float64, width and height in input pixels; K is 5 for map 0, else 6.
    """
    scale = SCALES[index]
    following = SCALES[index + 1] if index + 1 < len(SCALES) else 1.0
    ratios = RATIOS[0] if index == 0 else RATIOS[1]
    squares = [np.sqrt(scale * following)] + ([scale / 2] if index == 0 else [])
    shapes = [(scale * np.sqrt(r), scale / np.sqrt(r)) for r in ratios] + [(s, s) for s in squares]
    return np.array(shapes) * side


def anchors_per_position(index: int) -> int:
    """How many anchors stand at each position of map `index`."""
    return len(anchor_shapes(index, 1.0))


def make_anchors(map_sizes: Sequence[Tuple[int, int]], input_size: Tuple[int, int]) -> np.ndarray:
    """All anchors of a network, in the order in which its heads predict.

    Parameters
    ----------
    map_sizes : sequence of (int, int)
        ``(width, height)`` of each feature map, finest first.
    input_size : (int, int)
        ``(width, height)`` of the network's input in pixels.

    Returns
    -------
    numpy.ndarray
        ``(A, 4)`` float32: centre x, centre y, width, height in input pixels; maps in order, rows
        before columns, shapes at one position last.
    """
    width, height = input_size
    side = float(np.sqrt(width * height))
    parts: List[np.ndarray] = []
    for index, (columns, rows) in enumerate(map_sizes):
        shapes = anchor_shapes(index, side)
        # The real map decides the step: a 300 pixel input has 19 columns of 15.8 pixels, not of 16.
        x = (np.arange(columns) + 0.5) * width / columns
        y = (np.arange(rows) + 0.5) * height / rows
        grid = np.empty((rows, columns, len(shapes), 4))
        grid[..., 0] = x[None, :, None]
        grid[..., 1] = y[:, None, None]
        grid[..., 2:] = shapes
        parts.append(grid.reshape(-1, 4))
    return np.concatenate(parts).astype(np.float32)
