"""Mosaic augmentation: four images in one (YOLOv4, Bochkovskiy et al. 2020, section 3.3)."""

from __future__ import annotations

from typing import Sequence, Tuple

import cv2
import numpy as np

from ..options import Size
from .transforms import Annotated

SPLIT = (0.3, 0.7)
"""Range of the point where the four images meet, as fractions of the sides."""


def mosaic(parts: Sequence[Annotated], size: Size, rng: np.random.Generator) -> Annotated:
    """Combine four annotated images, each resized to its quarter without keeping the aspect ratio.

    Parameters
    ----------
    parts : sequence of 4 (image, boxes, labels)
        ``(height, width, 3)`` uint8; ``(N, 4)`` float32 in its pixels; ``(N,)``.
    size : (int, int)
        ``(width, height)`` of the result.
    rng : numpy.random.Generator

    Returns
    -------
    (image, boxes, labels)
        The mosaic with all boxes, in its pixels.
    """
    width, height = size
    column, row = (round(side * rng.uniform(*SPLIT)) for side in size)
    canvas = np.empty((height, width, 3), np.uint8)
    all_boxes, all_labels = [], []
    quarters: Sequence[Tuple[int, int, int, int]] = (
        (0, 0, column, row),
        (column, 0, width, row),
        (0, row, column, height),
        (column, row, width, height),
    )
    for (image, boxes, labels), (left, top, right, bottom) in zip(parts, quarters):
        quarter = (right - left, bottom - top)
        smaller = image.shape[1] > quarter[0] and image.shape[0] > quarter[1]
        interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        canvas[top:bottom, left:right] = cv2.resize(image, quarter, interpolation=interpolation)
        step = np.array([quarter[0] / image.shape[1], quarter[1] / image.shape[0]], np.float32)
        all_boxes.append(np.asarray(boxes, np.float32).reshape(-1, 4) * np.tile(step, 2) + [left, top] * 2)
        all_labels.append(np.asarray(labels))
    return canvas, np.concatenate(all_boxes).astype(np.float32), np.concatenate(all_labels)
