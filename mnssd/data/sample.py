"""A labeled image, and the detections in an image.

Boxes are ``xmin, ymin, xmax, ymax`` in pixels of the ORIGINAL image, counted from 0 and inclusive: columns 3
to 7 have xmin 3 and xmax 7 (Pascal VOC's numbers minus one). Sizes are ``(width, height)`` everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from ..options import Size


@dataclass(frozen=True)
class Sample:
    """One image with its boxes.

    Attributes
    ----------
    image_id : str
        File name without folder and ending, unique in a dataset; the VOC image id.
    image_path : str
    boxes : numpy.ndarray
        ``(N, 4)`` float32 xmin, ymin, xmax, ymax in pixels of the image, inclusive. N may be 0.
    labels : numpy.ndarray
        ``(N,)`` int32 indices into the dataset's ``classes``.
    difficult : numpy.ndarray
        ``(N,)`` bool, the VOC flag: ignored by the metrics.
    size : (int, int)
        ``(width, height)`` according to the annotation.
    """

    image_id: str
    image_path: str
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    size: Size


@dataclass(frozen=True)
class Detections:
    """Detections in one image, highest score first.

    Attributes
    ----------
    boxes : numpy.ndarray
        ``(N, 4)`` float32 xmin, ymin, xmax, ymax in pixels of the image, inclusive.
    labels : numpy.ndarray
        ``(N,)`` int32 class indices.
    scores : numpy.ndarray
        ``(N,)`` float32, 0 to 1.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def take(self, rows: Sequence[int]) -> Detections:
        """The detections at `rows`, in that order."""
        index = np.array(rows, np.int64)
        return Detections(self.boxes[index], self.labels[index], self.scores[index])
