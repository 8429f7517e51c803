"""A labeled image, and the detections in an image.

Boxes are ``xmin, ymin, xmax, ymax`` in pixels of the ORIGINAL image, counted from 0 and inclusive: columns 3
to 7 have xmin 3 and xmax 7 (Pascal VOC's numbers minus one). Sizes are ``(width, height)`` everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..options import Size
from .findings import ERROR, Finding


class OriginalBoxes(NamedTuple):
    """Objects of an image as annotated, kept where clipping changed a box or where the boxes are in doubt.

    Attributes
    ----------
    names : sequence of str
        Class of each object.
    boxes : numpy.ndarray
        ``(N, 4)`` float64, as in `Sample` but not clipped; includes those outside of the image.
    difficult : sequence of bool
    size : (int, int), optional
        Size of the image in the annotation.
    findings : tuple of Finding
        What is wrong with the boxes or the size.
    """

    names: Sequence[str]
    boxes: np.ndarray
    difficult: Sequence[bool]
    size: Optional[Size]
    findings: Tuple[Finding, ...]

    @property
    def in_doubt(self) -> bool:
        """Whether boxes are lost, or may be wrong."""
        return any(finding.level == ERROR for finding in self.findings)


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
        ``(width, height)`` of the image; according to the annotation if the image is unreadable.
    original : OriginalBoxes, optional
        The objects as annotated, if `boxes` differ from them or are in doubt.
    ignored : numpy.ndarray, optional
        ``(K, 4)`` boxes, as `boxes`, that training takes neither for objects nor for background.
    """

    image_id: str
    image_path: str
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    size: Size
    original: Optional[OriginalBoxes] = None
    ignored: Optional[np.ndarray] = None


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
