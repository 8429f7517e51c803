"""Bootstrap over images: how much an accuracy depends on the images that it was measured on.

As many images as the dataset has are drawn with replacement, `RESAMPLES` times, and the accuracy is computed
for each such resample. The 2.5th and 97.5th percentiles are the ends of the 95 % interval (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3).

An image that is drawn k times counts as k images with the same objects and detections. Whether a detection is
a true positive depends on its own image only, so it is determined once, and each resample only counts again.
Among detections of equal score, the copies of one follow each other.
"""

from __future__ import annotations

import math
from typing import List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from .average_precision import average_precision

RESAMPLES = 1000
"""Resamples per interval. With 1000, the random error of an end is about 2 % of the interval's width."""

CONFIDENCE = 0.95

_SEED = 0

_VALUES_AT_ONCE = 200_000
"""Drawn images, or points of curves, computed at once; more do not fit in the processor's caches."""


class Interval(NamedTuple):
    """Lower and upper end; both are NaN if nothing could be measured."""

    low: float
    high: float

    def __str__(self) -> str:
        return "-" if math.isnan(self.low) else f"{self.low:.4f} to {self.high:.4f}"

    def as_list(self) -> Optional[List[float]]:
        """Both ends for JSON, which has no NaN: None."""
        return None if math.isnan(self.low) else [self.low, self.high]


class Matches(NamedTuple):
    """Detections and objects of one class that count, by image.

    Per detection, best score first: ``images`` ``(N,)`` int, its image; ``is_true`` ``(N,)`` bool, whether it
    is a true positive. Per image: ``positives`` ``(I,)`` int, the number of positives.
    """

    images: np.ndarray
    is_true: np.ndarray
    positives: np.ndarray


def draw_images(image_ids: Sequence[str]) -> np.ndarray:
    """How often each image is in each resample: ``(RESAMPLES, I)`` uint8.

    The counts depend on the set of ids and not on their order, so the results of two detectors on the same
    images are resampled alike.
    """
    rng, images = np.random.default_rng(_SEED), len(image_ids)
    counts = np.zeros((RESAMPLES, images), np.uint8)
    order = np.array(sorted(range(images), key=image_ids.__getitem__), np.int64)
    step = max(1, _VALUES_AT_ONCE // max(images, 1))
    for start in range(0, RESAMPLES if images else 0, step):
        rows = len(counts[start : start + step])
        drawn = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        block = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)
        counts[start : start + step, order] = block
    return counts


def percentile_interval(values: np.ndarray) -> Interval:
    """The central `CONFIDENCE` of values ``(R,)``; NaN, of resamples without objects, is left out."""
    known = values[~np.isnan(values)]
    if not known.size:
        return Interval(math.nan, math.nan)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return Interval(float(low), float(high))


def resample_accuracy(correct: Mapping[str, bool]) -> np.ndarray:
    """Share of correct images in each resample: ``(RESAMPLES,)``; `correct` is by image id."""
    flags = np.array(list(correct.values()), bool)
    hits = np.array([row[flags].sum() for row in draw_images(list(correct))], np.float64)
    return hits / len(flags) if len(flags) else np.full(RESAMPLES, math.nan)


def resample_ap(
    matches: Sequence[Optional[Matches]],
    metric: str,
    image_ids: Sequence[str],
    counts: Optional[np.ndarray] = None,
) -> np.ndarray:
    """Average precision of each class in each resample: ``(R, C)`` float64.

    Parameters
    ----------
    matches : sequence of Matches or None
        Per class; None for a class without positives.
    metric : str
        ``'voc07'`` or ``'voc12'``.
    image_ids : sequence of str
        The images that `matches` index.
    counts : numpy.ndarray, optional
        ``(R, I)``, how often each image is in each resample. Defaults to `draw_images`.

    Returns
    -------
    numpy.ndarray
        NaN where a class has no positives in a resample.
    """
    counts = draw_images(image_ids) if counts is None else counts
    aps = np.full((len(counts), len(matches)), math.nan)
    curves = {label: _Curve(of_class) for label, of_class in enumerate(matches) if of_class}
    longest = max((curve.points for curve in curves.values()), default=0)
    step = max(1, _VALUES_AT_ONCE // max(longest, len(image_ids), 1))
    for start in range(0, len(counts), step):
        block = counts[start : start + step].astype(np.int32)
        for label, curve in curves.items():
            aps[start : start + step, label] = curve.average_precisions(block, metric)
    return aps


def mean_over_classes(aps: np.ndarray) -> np.ndarray:
    """mAP of each resample ``(R,)`` from ``(R, C)``: the mean of the classes with positives, else NaN."""
    known = ~np.isnan(aps)
    classes = known.sum(axis=1)
    total = np.where(known, aps, 0.0).sum(axis=1)
    return np.where(classes > 0, total / np.maximum(classes, 1), math.nan)


class _Curve:
    """Precision-recall curve of one class in many resamples, at its true positives.

    Precision rises only there, so other points change no average precision.
    """

    def __init__(self, matches: Matches) -> None:
        from scipy.sparse import csr_matrix

        true = np.flatnonzero(matches.is_true)
        false = np.flatnonzero(~matches.is_true)
        next_true = np.searchsorted(true, false)
        before = next_true < len(true)  # those after the last true positive change nothing
        images = matches.images[false[before]]
        shape = (len(true), len(matches.positives))
        # False positives of each image since the previous true positive.
        self._false = csr_matrix((np.ones(len(images), np.int32), (next_true[before], images)), shape)
        self._true_images, self._positives = matches.images[true], matches.positives.astype(np.int32)
        self.points = len(true)

    def average_precisions(self, counts: np.ndarray, metric: str) -> np.ndarray:
        """``(R,)`` for counts ``(R, I)`` int32; NaN without positives."""
        positives = counts @ self._positives
        true = np.cumsum(counts[:, self._true_images], axis=1)
        false = np.cumsum(np.ascontiguousarray((self._false @ counts.T).T), axis=1)
        precision = true / np.maximum(true + false, 1)
        recall = true / np.maximum(positives, 1)[:, None]
        return np.where(positives > 0, average_precision(recall, precision, metric), math.nan)
