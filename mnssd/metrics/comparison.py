"""Comparison of two detectors or classifiers on the same images by a paired bootstrap.

Both are resampled alike, so that images that are hard for both do not hide a difference between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Collection, Dict, NamedTuple, Optional, Sequence

import numpy as np

from ..errors import DataError
from ..options import listed
from .bootstrap import RESAMPLES, Interval, mean_over_classes, percentile_interval, resample_accuracy
from .voc import VOCResult, none_if_nan

if TYPE_CHECKING:
    from .classification import ClassificationResult


class Estimate(NamedTuple):
    """A measured value and its 95 % bootstrap interval over the images."""

    value: float
    interval: Interval

    def as_dict(self) -> Dict[str, Any]:
        """Plain values for JSON, with NaN as None."""
        return {"value": none_if_nan(self.value), "interval": self.interval.as_list()}


class Pair(NamedTuple):
    """A score of A, the same of B, and their difference B - A."""

    a: Estimate
    b: Estimate
    difference: Estimate

    def as_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        return {name: estimate.as_dict() for name, estimate in self._asdict().items()}


@dataclass(frozen=True)
class Comparison:
    """Scores of A and B on the same images, and how sure their difference is.

    Attributes
    ----------
    metric : str
        What the scores are, such as ``'mAP (VOC07, IoU 0.5)'`` or ``'top-1'``.
    images : int
        Number of images.
    score : Pair
        mAP or top-1, 0 to 1.
    share_a_better, share_b_better : float
        Share of the resamples in which A, or B, has the higher score.
    per_class : dict of str to Pair
        AP of each class; empty for classifiers.
    dataset, name_a, name_b : str
        Names for the table.
    """

    metric: str
    images: int
    score: Pair
    share_a_better: float
    share_b_better: float
    per_class: Dict[str, Pair] = field(default_factory=dict)
    dataset: str = ""
    name_a: str = "A"
    name_b: str = "B"

    @property
    def better(self) -> Optional[str]:
        """``'a'`` or ``'b'`` if the interval of the difference is on its side of 0, else None."""
        low, high = self.score.difference.interval
        return "b" if low > 0 else "a" if high < 0 else None

    def __str__(self) -> str:
        """The table that `mnssd compare-runs` prints."""
        from .table import format_comparison

        return format_comparison(self)

    def as_dict(self) -> Dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "metric": self.metric,
            "dataset": self.dataset,
            "images": self.images,
            "resamples": RESAMPLES,
            "name_a": self.name_a,
            "name_b": self.name_b,
            **self.score.as_dict(),
            "share_a_better": self.share_a_better,
            "share_b_better": self.share_b_better,
            "better": self.better,
            "per_class": {name: pair.as_dict() for name, pair in self.per_class.items()},
        }


def compare_detections(
    a: VOCResult, b: VOCResult, classes: Optional[Sequence[str]] = None, **names: str
) -> Comparison:
    """Compare two detectors by mAP.

    Parameters
    ----------
    a, b : VOCResult
        Of the same images, with the same metric.
    classes : sequence of str, optional
        Classes of both. Defaults to those of `a`.
    **names
        ``dataset``, ``name_a`` and ``name_b`` of the `Comparison`.

    Raises
    ------
    DataError
        If the images differ, or one of them lacks a class.
    """
    classes = a.classes if classes is None else classes
    _require_same("images", a.image_ids, b.image_ids)
    for result in (a, b):
        _require_same("classes", classes, set(classes) & set(result.classes))
    values = [np.array([[result.ap_per_class[name] for name in classes]]) for result in (a, b)]
    aps = [result.resampled_ap[:, [result.classes.index(name) for name in classes]] for result in (a, b)]
    pairs = {
        name: _pair([row[0, column] for row in values], [ap[:, column] for ap in aps])
        for column, name in enumerate(classes)
    }
    metric = f"mAP ({a.metric.upper()}, IoU {a.iou_threshold:g})"
    means = [float(mean_over_classes(row)[0]) for row in values]
    resampled = [mean_over_classes(ap) for ap in aps]
    return _comparison(metric, a.images, means, resampled, per_class=pairs, **names)


def compare_classifications(a: ClassificationResult, b: ClassificationResult, **names: str) -> Comparison:
    """Compare two classifiers by top-1 accuracy; as `compare_detections`."""
    _require_same("images", a.correct, b.correct)
    resampled = [resample_accuracy(result.correct) for result in (a, b)]
    return _comparison("top-1", a.images, [a.top1, b.top1], resampled, **names)


def _comparison(
    metric: str, images: int, values: Sequence[float], resampled: Sequence[np.ndarray], **more: Any
) -> Comparison:
    difference = resampled[1] - resampled[0]
    known = difference[~np.isnan(difference)]
    a, b = (float(np.mean(better)) if known.size else math.nan for better in (known < 0, known > 0))
    return Comparison(metric, images, _pair(values, resampled), a, b, **more)


def _pair(values: Sequence[float], resampled: Sequence[np.ndarray]) -> Pair:
    (a, b), (resampled_a, resampled_b) = values, resampled
    estimates = ((a, resampled_a), (b, resampled_b), (b - a, resampled_b - resampled_a))
    return Pair(*(Estimate(float(value), percentile_interval(draws)) for value, draws in estimates))


def _require_same(what: str, of_a: Collection[str], of_b: Collection[str]) -> None:
    """Raise DataError unless two collections have the same elements."""
    differing = sorted(set(of_a) ^ set(of_b))
    if differing:
        raise DataError(
            f"the {what} of the two results differ: {listed(differing)}; evaluate both on the same"
        )
