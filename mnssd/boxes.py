"""Box geometry of the package: IoU, SSD offset encoding and clipping, in NumPy.

Boxes are corners ``xmin, ymin, xmax, ymax`` in one of two conventions, chosen by `offset`:

- inclusive (``offset=1``): pixels counted from 0, the last column and row belong to the box, so its width
  is ``xmax - xmin + 1``. Annotations, detections in an image and the VOC metric use it.
- continuous (``offset=0``): the width is ``xmax - xmin``. The network's input uses it: anchors, targets,
  non-maximum suppression (MXNet's ``box_nms``).
"""

from __future__ import annotations

from typing import Any, Sequence, Tuple

import numpy as np

STDS = (0.1, 0.1, 0.2, 0.2)
"""Divisors of the encoded offsets ``dx, dy, dw, dh``: the "variances" of the SSD paper's code (Liu et al.
2016, ``prior_box_layer``) and GluonCV's default ``stds``."""


def class_scores(logits: np.ndarray, function: str = "softmax") -> np.ndarray:
    """Scores ``(..., C + 1)`` of the background and the classes from their logits.

    ``"softmax"`` are probabilities of which only one is high; ``"sigmoid"`` has one for each column alone, as
    in TensorFlow's detectors.
    """
    if function == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(logits / 2)))  # which does not overflow
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def iou(a: Any, b: Any, offset: float = 0.0) -> np.ndarray:
    """Intersection over union ``(...)`` of boxes, broadcast over the leading axes; 0 for inverted boxes.

    Operations are in the order of the VOC devkit: for its float64 boxes, an IoU that equals the threshold
    there does so here.

    Parameters
    ----------
    a, b : numpy.ndarray
        ``(..., 4)`` corners, floating point; for all pairs pass ``a[:, None]`` and ``b``.
    offset : float
        1 for inclusive pixel boxes, 0 for continuous corners.
    """
    (left_a, top_a, right_a, bottom_a), (left_b, top_b, right_b, bottom_b) = _edges(a), _edges(b)
    # In place where possible: target assignment calls this with millions of pairs per second.
    width = np.asarray(np.minimum(right_a, right_b))
    width -= np.maximum(left_a, left_b)
    height = np.asarray(np.minimum(bottom_a, bottom_b))
    height -= np.maximum(top_a, top_b)
    if offset:
        width += offset
        height += offset
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    common = np.multiply(width, height, out=width)
    area_a = (right_a - left_a + offset) * (bottom_a - top_a + offset)
    area_b = (right_b - left_b + offset) * (bottom_b - top_b + offset)
    union = np.subtract(area_a + area_b, common, out=height)
    return np.divide(common, union, out=common, where=union > 0)


def _edges(boxes: np.ndarray) -> Tuple[Any, ...]:
    return tuple(boxes[..., edge] for edge in range(4))


def encode(boxes: np.ndarray, anchors: np.ndarray, stds: Sequence[float] = STDS) -> np.ndarray:
    """SSD offsets ``(N, 4)`` float32 from anchors to boxes (SSD paper, equation 2).

    They are the shift of the center in anchor sizes and the logarithm of the size ratio, divided by `stds`.

    Parameters
    ----------
    boxes : numpy.ndarray
        ``(N, 4)`` continuous corners with a positive width and height.
    anchors : numpy.ndarray
        ``(N, 4)`` center x, center y, width, height in the same pixels.
    stds : sequence of float
    """
    size = boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + size * np.float32(0.5) - anchors[:, :2]) / anchors[:, 2:]
    growth = np.log(size / anchors[:, 2:])
    return (np.hstack([shift, growth]) / np.asarray(stds, np.float32)).astype(np.float32)


def decode(offsets: np.ndarray, anchors: np.ndarray, stds: Sequence[float] = STDS) -> np.ndarray:
    """Continuous corners ``(N, 4)`` of SSD offsets; the inverse of `encode`."""
    shift, growth = np.split(offsets * np.asarray(stds, np.float32), 2, axis=1)
    return corners(np.hstack([anchors[:, :2] + shift * anchors[:, 2:], np.exp(growth) * anchors[:, 2:]]))


def corners(anchors: np.ndarray) -> np.ndarray:
    """``(N, 4)`` continuous corners of anchors given as center x, center y, width, height."""
    center, size = anchors[:, :2], anchors[:, 2:]
    return np.hstack([center - size / 2, center + size / 2])


def clip(boxes: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Inclusive boxes ``(N, 4)`` clipped to an image of `size` = ``(width, height)``, as float32."""
    return np.clip(boxes, 0, [size[0] - 1, size[1] - 1] * 2).astype(np.float32)
