"""The two forms everything passes around: a labelled image, and what a detector found in one.

Coordinates are float pixels of the ORIGINAL image, ``xmin, ymin, xmax, ymax``, counted from 0; a
box that covers the columns 3 to 7 has xmin 3 and xmax 7, as in Pascal VOC less one. Sizes are
``(width, height)`` everywhere in this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Tuple

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One image with its boxes.

    Attributes
    ----------
    image_id : str
        Name without folder and ending, unique within a dataset; the VOC image id.
    image_path : str
        The image file. It has not been opened: it may turn out to be unreadable.
    boxes : numpy.ndarray
        ``(N, 4)`` float32, see the module's convention. N may be 0.
    labels : numpy.ndarray
        ``(N,)`` int32, index into the dataset's ``classes``.
    difficult : numpy.ndarray
        ``(N,)`` bool, the VOC flag: not counted by the metric.
    size : tuple of int
        ``(width, height)`` in pixels as the annotation states it.
    """

    image_id: str
    image_path: str
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    size: Tuple[int, int]


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, best score first.

    Attributes
    ----------
    boxes : numpy.ndarray
        ``(N, 4)`` float32, in pixels of the original image, see the module's convention.
    labels : numpy.ndarray
        ``(N,)`` int32, index into ``classes``.
    scores : numpy.ndarray
        ``(N,)`` float32 in 0..1.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def take(self, rows: Sequence[int]) -> Detections:
        """The detections of these rows, in their order."""
        chosen = np.array(rows, np.int64)
        return Detections(self.boxes[chosen], self.labels[chosen], self.scores[chosen])
