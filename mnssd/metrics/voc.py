"""Average precision of the Pascal VOC devkit (``VOCevaldet.m``).

The rules, for each class:

1. Boxes are inclusive, in pixels of the original image: the width is ``xmax - xmin + 1``, also of an
   intersection.
2. All detections are processed by descending score; equal scores in the order in which they were added.
3. A detection is compared with the object of its image and class that has the highest IoU, difficult objects
   included; the first in the annotation among equals. It matches if the IoU reaches the threshold.
4. A detection that matches a difficult object is ignored. The first that matches any other object is a true
   positive; later ones are false positives, as are detections without a match. An object that is already
   matched is not replaced by the second best.
5. Positives are the objects that are not difficult. A class without positives has NaN as average precision
   and is excluded from the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..boxes import iou
from ..data.sample import Detections, Sample
from ..errors import DataError, OptionError
from ..options import unknown_name
from . import VOC_METRICS
from .average_precision import average_precision
from .bootstrap import Interval, Matches, mean_over_classes, percentile_interval, resample_ap
from .size_recall import SizeRecall, recall_by_size

# (detection, object) pairs compared at once: limits the memory for one class to about 60 MB.
_PAIRS_AT_ONCE = 1_000_000

# Larger coordinates are not pixels of an image, and their areas would overflow.
_MAX_COORDINATE = 1e9


@dataclass(frozen=True)
class Curve:
    """Precision-recall curve of one class: ``(N,)`` float64, one point per detection, highest score first.

    Precision is 0 until the first detection that is not ignored. `scores` are the thresholds of the points.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class VOCResult:
    """Average precision of a detector.

    Attributes
    ----------
    metric : str
        ``'voc07'`` or ``'voc12'``.
    iou_threshold : float
    classes : tuple of str
        In the order of the labels.
    mean_ap : float
        Mean of `ap_per_class` over the classes with positives; NaN if there is none.
    ap_per_class : dict of str to float
        0 to 1; NaN for a class without positives.
    images : int
        Number of evaluated images.
    positives, detections : dict of str to int
        Per class, objects that are not difficult, and detections.
    curves : dict of str to Curve
        For the classes with positives.
    image_ids : tuple of str
        The evaluated images.
    matches : dict of str to Matches
        For the classes with positives; images are indices into `image_ids`.
    sizes : tuple of SizeRecall
        Recall of all classes together by the size of the objects, smallest first.
    """

    metric: str
    iou_threshold: float
    classes: Tuple[str, ...]
    mean_ap: float
    ap_per_class: Dict[str, float]
    images: int
    positives: Dict[str, int]
    detections: Dict[str, int]
    curves: Dict[str, Curve]
    image_ids: Tuple[str, ...] = field(repr=False)
    matches: Dict[str, Matches] = field(repr=False)
    sizes: Tuple[SizeRecall, ...] = field(repr=False)

    @cached_property
    def resampled_ap(self) -> np.ndarray:
        """AP of each class in each resample of the images: ``(RESAMPLES, C)``, see `metrics.bootstrap`."""
        return resample_ap([self.matches.get(name) for name in self.classes], self.metric, self.image_ids)

    @property
    def interval(self) -> Interval:
        """95 % bootstrap interval of `mean_ap` over the images."""
        return percentile_interval(mean_over_classes(self.resampled_ap))

    @property
    def interval_per_class(self) -> Dict[str, Interval]:
        """95 % bootstrap interval of each AP; NaN for a class without positives."""
        return {name: percentile_interval(aps) for name, aps in zip(self.classes, self.resampled_ap.T)}

    def as_dict(self) -> Dict[str, Any]:
        """Plain values for JSON, with NaN as None; without the curves."""
        return {
            "metric": self.metric,
            "mAP": none_if_nan(self.mean_ap),
            "interval": self.interval.as_list(),
            "ap_per_class": {name: none_if_nan(ap) for name, ap in self.ap_per_class.items()},
            "interval_per_class": {name: ends.as_list() for name, ends in self.interval_per_class.items()},
            "images": self.images,
            "iou_threshold": self.iou_threshold,
            "classes": list(self.classes),
            "positives": dict(self.positives),
            "detections": dict(self.detections),
            "recall_by_size": {size.name: size.as_dict() for size in self.sizes},
        }


class VOCMetric:
    """Accumulates detections and ground truth image by image, then computes average precision.

    Parameters
    ----------
    classes : sequence of str
        Labels of detections and samples are indices into it.
    metric : str
        ``'voc07'``: mean of the maximum precision at 11 recalls. ``'voc12'``: area under the monotone
        envelope of the precision, as in VOC 2010 to 2012.
    iou_threshold : float
        IoU threshold for a match, in (0, 1].

    Raises
    ------
    OptionError
        If the metric is unknown, the threshold is out of range, or class names are missing or duplicate.
    """

    def __init__(self, classes: Sequence[str], metric: str = "voc07", iou_threshold: float = 0.5) -> None:
        if metric not in VOC_METRICS:
            raise OptionError(unknown_name("metric", metric, VOC_METRICS))
        if not 0 < iou_threshold <= 1:
            raise OptionError(f"the IoU threshold must be above 0 and at most 1, not {iou_threshold}")
        self.classes = distinct_names(classes)
        self.metric = metric
        self.iou_threshold = float(iou_threshold)
        self._index_of_image: Dict[str, int] = {}
        self._objects: List[_Rows] = []
        self._detections: List[_Rows] = []

    def add(self, detections: Detections, sample: Sample) -> None:
        """Add one image: its detections and its ground truth.

        Raises
        ------
        DataError
            If the image was added before, a label is out of range, or a score or box is not finite. The
            message has the image id.
        """
        self.add_ground_truth(sample)
        self.add_detections([sample.image_id] * len(detections.scores), detections)

    def add_ground_truth(self, sample: Sample) -> None:
        """Add the objects of one image; raises as `add`. Detections may follow in any order of images."""
        if sample.image_id in self._index_of_image:
            raise DataError(f"image {sample.image_id!r} was added twice; add each image once")
        index = len(self._index_of_image)
        image_ids = [sample.image_id] * len(sample.labels)
        columns = checked_columns(
            self.classes, "ground truth", image_ids, sample.labels, sample.difficult, sample.boxes
        )
        self._index_of_image[sample.image_id] = index
        self._objects.append(_rows([index] * len(image_ids), *columns))

    def add_detections(self, image_ids: Sequence[str], detections: Detections) -> None:
        """Add detections, one per image id, in any order.

        float64 boxes and scores keep their precision.

        Raises
        ------
        DataError
            As `add`, or if the ground truth of an image was not added.
        """
        try:
            images = [self._index_of_image[image_id] for image_id in image_ids]
        except KeyError as error:
            raise DataError(f"image {error.args[0]!r} has detections but is not in the dataset") from None
        columns = checked_columns(
            self.classes, "detections", image_ids, detections.labels, detections.scores, detections.boxes
        )
        self._detections.append(_rows(images, *columns))

    def result(self) -> VOCResult:
        """Average precision of the images added so far."""
        # Kept concatenated, for further calls.
        self._objects, self._detections = [_concatenate(self._objects)], [_concatenate(self._detections)]
        objects, detections = self._objects[0], self._detections[0]
        aps: Dict[str, float] = {}
        curves: Dict[str, Curve] = {}
        matches: Dict[str, Matches] = {}
        positives: Dict[str, int] = {}
        is_matched = np.zeros(len(objects.labels), bool)
        for label, name in enumerate(self.classes):
            own = np.flatnonzero(objects.labels == label)
            of_class = objects.take(own)
            images = of_class.images[of_class.values == 0]
            positives[name] = len(images)
            aps[name] = math.nan
            if positives[name]:
                found = detections.of_label(label)
                found = found.take(np.argsort(-found.values, kind="stable"))
                is_true, is_ignored, matched = _match(found, of_class, self.iou_threshold)
                is_matched[own[matched]] = True
                curve = _curve(found.values, is_true, is_ignored, positives[name])
                curves[name] = curve
                aps[name] = float(average_precision(curve.recall, curve.precision, self.metric))
                per_image = np.bincount(images, minlength=len(self._index_of_image))
                matches[name] = Matches(found.images[~is_ignored], is_true[~is_ignored], per_image)
        counts = np.bincount(detections.labels, minlength=len(self.classes))
        with_positives = [aps[name] for name in curves]
        countable = objects.values == 0
        return VOCResult(
            metric=self.metric,
            iou_threshold=self.iou_threshold,
            classes=self.classes,
            mean_ap=float(np.mean(with_positives)) if with_positives else math.nan,
            ap_per_class=aps,
            images=len(self._index_of_image),
            positives=positives,
            detections={name: int(count) for name, count in zip(self.classes, counts)},
            curves=curves,
            image_ids=tuple(self._index_of_image),
            matches=matches,
            sizes=tuple(recall_by_size(objects.boxes[countable], is_matched[countable])),
        )


class _Rows(NamedTuple):
    """Objects or detections, one per row.

    ``images`` and ``labels`` are ``(N,)`` int32; ``values`` ``(N,)`` float64, scores or 1 for difficult
    objects; ``boxes`` ``(N, 4)`` float64 in the devkit's pixels.
    """

    images: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    boxes: np.ndarray

    def of_label(self, label: int) -> _Rows:
        return self.take(np.flatnonzero(self.labels == label))

    def take(self, rows: np.ndarray) -> _Rows:
        return _Rows(*(column[rows] for column in self))


def _rows(images: List[int], labels: np.ndarray, values: np.ndarray, boxes: np.ndarray) -> _Rows:
    # The devkit's pixels are counted from 1. IoU depends on the origin only by rounding: in these numbers it
    # equals the devkit's to the last bit.
    return _Rows(np.array(images, np.int32), labels, values, boxes + 1.0)


def _concatenate(parts: List[_Rows]) -> _Rows:
    empty = _rows([], np.zeros(0, np.int32), np.zeros(0), np.zeros((0, 4)))
    return _Rows(*map(np.concatenate, zip(empty, *parts)))


def _match(
    detections: _Rows, objects: _Rows, iou_threshold: float
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which detections of one class, best score first, are true positives, and which are ignored.

    The third are the rows of the objects that the true positives match.
    """
    best_object, best_iou = _best_objects(detections, objects)
    matched = best_iou >= iou_threshold
    difficult = np.zeros(len(matched), bool)
    difficult[matched] = objects.values[best_object[matched]] != 0
    # The match of highest score is the object's true positive.
    candidates = np.flatnonzero(matched & ~difficult)
    matched_objects, first = np.unique(best_object[candidates], return_index=True)
    is_true = np.zeros(len(matched), bool)
    is_true[candidates[first]] = True
    return is_true, difficult, matched_objects


def _curve(scores: np.ndarray, is_true: np.ndarray, is_ignored: np.ndarray, positives: int) -> Curve:
    """Precision-recall curve of the detections of one class, best score first."""
    true = np.cumsum(is_true)
    false = np.cumsum(~is_true & ~is_ignored)
    # 0 / 0 while all detections are ignored; MATLAB's NaN there never is the maximum.
    precision = true / np.maximum(true + false, 1)
    return Curve(recall=true / positives, precision=precision, scores=scores)


def _best_objects(detections: _Rows, objects: _Rows) -> Tuple[np.ndarray, np.ndarray]:
    """For each detection, the row of the object of highest IoU in its image (any if it is 0), and the IoU."""
    best, best_iou = np.zeros(len(detections.images), np.int64), np.zeros(len(detections.images))
    # Objects are in the order in which their images were added: those of one image are consecutive.
    start = np.searchsorted(objects.images, detections.images, side="left")
    count = np.searchsorted(objects.images, detections.images, side="right") - start
    candidates = np.flatnonzero(count)
    pairs_before = np.concatenate([[0], np.cumsum(count[candidates])])
    done = 0
    while done < len(candidates):
        upto = int(np.searchsorted(pairs_before, pairs_before[done] + _PAIRS_AT_ONCE, side="right")) - 1
        upto = max(upto, done + 1)
        rows = candidates[done:upto]
        begin = pairs_before[done:upto] - pairs_before[done]  # first pair of each detection
        total = int(pairs_before[upto] - pairs_before[done])
        step = np.arange(total) - np.repeat(begin, count[rows])
        pair_object = np.repeat(start[rows], count[rows]) + step
        boxes = np.repeat(detections.boxes[rows], count[rows], axis=0)
        pair_iou = iou(boxes, objects.boxes[pair_object], offset=1)
        best_iou[rows] = np.maximum.reduceat(pair_iou, begin)
        # The first of equals, in the order of the annotation.
        is_best = pair_iou == np.repeat(best_iou[rows], count[rows])
        best[rows] = pair_object[np.minimum.reduceat(np.where(is_best, np.arange(total), total), begin)]
        done = upto
    return best, best_iou


def distinct_names(classes: Sequence[str]) -> Tuple[str, ...]:
    """`classes` as a tuple; raises OptionError if it is empty or has duplicates."""
    if not classes or len(set(classes)) < len(classes):
        raise OptionError(f"classes: expected distinct names, got {list(classes)}")
    return tuple(classes)


def checked_columns(
    classes: Sequence[str],
    source: str,
    image_ids: Sequence[str],
    labels: np.ndarray,
    values: np.ndarray,
    boxes: np.ndarray,
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels as int32, scores or difficult flags and boxes ``(N, 4)`` as float64, copied.

    Raises DataError with the image id if the lengths differ, a label is out of range or a number not finite.
    """
    labels, values = np.array(labels, np.int32), np.array(values, np.float64)
    boxes = np.array(boxes, np.float64)
    boxes = boxes if boxes.size else boxes.reshape(0, 4)
    count = len(image_ids)
    for column, shape in ((labels, (count,)), (values, (count,)), (boxes, (count, 4))):
        if column.shape != shape:
            image = f"image {image_ids[0]!r}, " if count else ""
            raise DataError(f"{image}{source}: expected {count} rows, got shape {column.shape}")
    valid = (np.abs(boxes) <= _MAX_COORDINATE).all(axis=1) & np.isfinite(values)
    if not valid.all():
        row = int(np.argmin(valid))
        numbers = f"score {values[row]}, box" if source == "detections" else "box"
        raise DataError(
            f"image {image_ids[row]!r}, {source}: a number is not finite: {numbers} {boxes[row].tolist()}"
        )
    in_range = (labels >= 0) & (labels < len(classes))
    if not in_range.all():
        row = int(np.argmin(in_range))
        raise DataError(
            f"image {image_ids[row]!r}, {source}: label {labels[row]} is out of range for "
            f"{len(classes)} classes"
        )
    return labels, values, boxes


def none_if_nan(value: float) -> Optional[float]:
    """`value` for JSON, which has no NaN."""
    return None if math.isnan(value) else value
