"""Which images to label next: those that the detector is unsure of and that differ from each other."""

from __future__ import annotations

from typing import List

import numpy as np

from ..data.sample import Detections

FLOOR = 0.1
"""Share of the largest uncertainty that every image has at least: an image without detections may be one in
which the detector misses everything. Not measured."""


def uncertainty(detections: Detections) -> float:
    """Sum over the detections of 4 p (1 - p) for their scores p: 1 for a score of a half, 0 for 0 and 1."""
    scores = detections.scores.astype(np.float64)
    return float((4 * scores * (1 - scores)).sum())


def choose_images(
    uncertainties: np.ndarray, features: np.ndarray, number: int, labeled: np.ndarray
) -> List[int]:
    """Rows of images, chosen one after the other.

    The next image is the one with the largest product of uncertainty and distance: the distance of its
    features to the nearest image that is labeled or was chosen before, 1 minus the cosine. Distance alone is
    the k-center rule of Sener and Savarese 2018.

    Parameters
    ----------
    uncertainties : numpy.ndarray
        ``(N,)``, at least 0.
    features : numpy.ndarray
        ``(N, D)``.
    number : int
        How many to choose; all if there are fewer.
    labeled : numpy.ndarray
        ``(M, D)`` features of the images that have labels; M may be 0.
    """
    if not len(features):
        return []
    unit, known = _normalized(features), _normalized(labeled.reshape(-1, features.shape[1]))
    weights = np.maximum(uncertainties, FLOOR * uncertainties.max()) if uncertainties.any() else None
    weights = np.ones(len(unit)) if weights is None else weights
    distance = np.ones(len(unit))
    for row in known:
        distance = np.minimum(distance, 1 - unit @ row)
    chosen: List[int] = []
    free = np.ones(len(unit), bool)
    while len(chosen) < min(number, len(unit)):
        best = int(np.where(free, weights * np.maximum(distance, 0), -1).argmax())
        chosen.append(best)
        free[best] = False
        distance = np.minimum(distance, 1 - unit @ unit[best])
    return chosen


def _normalized(features: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    result: np.ndarray = features / np.maximum(length, 1e-12)
    return result
