"""Anchors (default boxes) of the six feature maps, from the actual sizes of the maps."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np

SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
"""Anchor side on each of the six feature maps as a fraction of the input side: SSD paper (Liu et al. 2016),
section 2.2, with s_min 0.2 and s_max 0.95 as in TensorFlow's released MobileNet SSDs."""

RATIOS = ((1.0, 2.0, 0.5), (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0))
"""Aspect ratios, width over height, on the finest feature map and on the others (SSD paper, section 2.2)."""


def anchor_shapes(index: int, side: float) -> np.ndarray:
    """Widths and heights of the anchors at each position of feature map `index`, 0 (finest) to 5.

    One anchor per ratio at the map's scale, and a square at the geometric mean with the next map's scale (1.0
    after the last), as in the paper. The finest map also has a square of half its scale, as in TensorFlow's
    ``reduce_boxes_in_lowest_layer``, which however drops the other two squares; without them a third of the
    objects with a fifth of the image's side match no anchor.

    `side` is the input's side in pixels, the geometric mean of its sides if it is not square. The result is
    ``(K, 2)`` float64 in input pixels; K is 5 for map 0, else 6.
    """
    scale = SCALES[index]
    following = SCALES[index + 1] if index + 1 < len(SCALES) else 1.0
    ratios = RATIOS[0] if index == 0 else RATIOS[1]
    squares = [np.sqrt(scale * following)] + ([scale / 2] if index == 0 else [])
    shapes = [(scale * np.sqrt(r), scale / np.sqrt(r)) for r in ratios] + [(s, s) for s in squares]
    return np.array(shapes) * side


def anchors_per_position(index: int) -> int:
    """Number of anchors at each position of feature map `index`."""
    return len(anchor_shapes(index, 1.0))


def make_anchors(map_sizes: Sequence[Tuple[int, int]], input_size: Tuple[int, int]) -> np.ndarray:
    """All anchors of a detector, in the order of its predictions: by map, row, column, shape.

    `map_sizes` are the ``(width, height)`` of the feature maps, finest first; `input_size` is that of the
    network's input in pixels. The result is ``(A, 4)`` float32: center x, center y, width, height in input
    pixels.
    """
    width, height = input_size
    side = float(np.sqrt(width * height))
    parts: List[np.ndarray] = []
    for index, (columns, rows) in enumerate(map_sizes):
        shapes = anchor_shapes(index, side)
        # Not the stride: a 300 pixel input has 19 columns of 15.8 pixels, not of 16.
        x = (np.arange(columns) + 0.5) * width / columns
        y = (np.arange(rows) + 0.5) * height / rows
        grid = np.empty((rows, columns, len(shapes), 4))
        grid[..., 0] = x[None, :, None]
        grid[..., 1] = y[:, None, None]
        grid[..., 2:] = shapes
        parts.append(grid.reshape(-1, 4))
    return np.concatenate(parts).astype(np.float32)
