"""Average precision as the Pascal VOC devkit measures it (``VOCevaldet.m``, ``VOCap.m``).

The rules, for each class:

1. Boxes are inclusive, in pixels of the original image: a box is ``xmax - xmin + 1`` wide, and
   the same + 1 stands in the intersection.
2. Detections of the whole set are taken by descending score. Equal scores keep the order in which
   they were added.
3. A detection is compared with the ground truth of its image and class that it overlaps most,
   difficult objects included; the first in the annotation wins a draw. It matches when the
   overlap (intersection over union) reaches the threshold.
4. A match on a difficult object counts neither way. The first match on any other object is a true
   positive, every later one a false positive, and so is a detection without a match. A taken
   object is not passed over in favour of the second best.
5. Objects that are not difficult are the positives; recall is measured against them. Without
   positives the average precision is NaN, and the class is left out of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from ..boxes import iou
from ..data.sample import Detections, Sample
from ..errors import DataError, OptionError
from ..options import unknown_name

METRICS = ("voc07", "voc12")

# Candidate pairs (detection, object) compared at a time: bounds the memory of one class to some
# 60 MB however many boxes an image holds.
_PAIRS_AT_ONCE = 1_000_000

# Coordinates beyond this are no pixels of any image, and their areas would overflow.
_FARTHEST = 1e9

_FOUND, _THERE = "the detections", "the ground truth"  # how messages name them


# The devkit's ``0:0.1:1``, as the multiples of 0.1 that floating point gives: the points 3, 6 and 7 lie
# one bit above 0.3, 0.6 and 0.7, so that 6 true positives of 10 do not reach theirs. The widespread
# ports of the metric use the same numbers, by ``numpy.arange(0, 1.1, 0.1)`` or ``linspace``, and so do
# published expectations: case 1 of tests/test_voc_metric_parity.py has a recall of exactly 9 / 15.
# (MATLAB counts the upper half of a range down from its end and so has the plain 0.6 and 0.7. For such
# recalls alone, its answer can be higher by up to 1 / 11 for each of the two points.)
RECALL_POINTS = np.arange(11) * 0.1


@dataclass(frozen=True)
class Curve:
    """Recall and precision of one class, one point for each detection, best score first.

    Attributes
    ----------
    recall, precision : numpy.ndarray
        ``(N,)`` float64. Precision before the first detection that counts (matches on difficult
        objects do not) is 0.
    scores : numpy.ndarray
        ``(N,)`` float64: the score at or above which the point is reached.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class VOCResult:
    """What the metric found.

    Attributes
    ----------
    metric : str
        ``'voc07'`` or ``'voc12'``.
    iou_threshold : float
        The overlap a match needs.
    classes : tuple of str
        Class names, in the order of the labels.
    mean_ap : float
        Mean of `ap_per_class` over the classes that have positives; NaN when none has.
    ap_per_class : dict
        Name to average precision in 0..1; NaN for a class without positives.
    images : int
        Images seen.
    positives : dict
        Name to the number of objects that are not difficult.
    detections : dict
        Name to the number of detections.
    curves : dict
        Name to `Curve`, for the classes with positives.
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

    def as_dict(self) -> Dict[str, Any]:
        """The figures as plain values for JSON, NaN as None; curves are left out."""
        return {
            "metric": self.metric,
            "mAP": _none_for_nan(self.mean_ap),
            "ap_per_class": {name: _none_for_nan(ap) for name, ap in self.ap_per_class.items()},
            "images": self.images,
            "iou_threshold": self.iou_threshold,
            "classes": list(self.classes),
            "positives": dict(self.positives),
            "detections": dict(self.detections),
        }


class VOCMetric:
    """Collects detections and ground truth image by image, then computes average precision.

    Parameters
    ----------
    classes : sequence of str
        Class names; labels of detections and samples are indices into it.
    metric : str
        ``'voc07'``: mean of the highest precision at 11 recalls. ``'voc12'``: area under the
        monotone envelope of the precision, as VOC 2010 to 2012.
    iou_threshold : float
        The overlap a match needs, in (0, 1].

    Raises
    ------
    OptionError
        For an unknown metric, a threshold out of range, or no or repeated class names.
    """

    def __init__(self, classes: Sequence[str], metric: str = "voc07", iou_threshold: float = 0.5) -> None:
        if metric not in METRICS:
            raise OptionError(unknown_name("metric", metric, METRICS))
        if not 0 < iou_threshold <= 1:
            raise OptionError(f"the IoU threshold must be above 0 and at most 1, not {iou_threshold}")
        if not classes or len(set(classes)) < len(classes):
            raise OptionError(f"the metric needs class names, each one once, not {list(classes)}")
        self.classes = tuple(classes)
        self.metric = metric
        self.iou_threshold = float(iou_threshold)
        self._index_of_image: Dict[str, int] = {}
        self._objects: List[_Rows] = []
        self._found: List[_Rows] = []

    def add(self, detections: Detections, sample: Sample) -> None:
        """Add one image: what was found in it, and what is there. Once for each image.

        Raises
        ------
        DataError
            Naming the image: seen before, a label out of range, or a score or box that is not finite.
        """
        self.add_ground_truth(sample)
        self.add_detections([sample.image_id] * len(detections.scores), detections)

    def add_ground_truth(self, sample: Sample) -> None:
        """Add the objects of one image; `add_detections` may follow for it, in any order of images.

        Raises
        ------
        DataError
            As `add`.
        """
        if sample.image_id in self._index_of_image:
            raise DataError(f"image {sample.image_id!r} was measured twice; each image counts once")
        image = len(self._index_of_image)
        rows = _Rows(
            images=np.full(len(sample.labels), image, np.int32),
            labels=np.array(sample.labels, np.int32),
            values=np.array(sample.difficult, np.float64),
            boxes=_devkit_boxes(sample.boxes),
        )
        self._check(rows, [sample.image_id] * len(sample.labels), _THERE)
        self._index_of_image[sample.image_id] = image
        self._objects.append(rows)

    def add_detections(self, image_ids: Sequence[str], detections: Detections) -> None:
        """Add detections of any images whose ground truth was added, in any order.

        Parameters
        ----------
        image_ids : sequence of str
            One for each detection.
        detections : Detections
            float64 boxes and scores keep their precision.

        Raises
        ------
        DataError
            Naming the image: no ground truth, a label out of range, or a score or box that is not finite.
        """
        try:
            images = [self._index_of_image[image_id] for image_id in image_ids]
        except KeyError as error:
            raise DataError(f"detections of image {error.args[0]!r}, which is not in the dataset") from None
        rows = _Rows(
            images=np.array(images, np.int32),
            labels=np.array(detections.labels, np.int32),
            values=np.array(detections.scores, np.float64),
            boxes=_devkit_boxes(detections.boxes),
        )
        self._check(rows, image_ids, _FOUND)
        self._found.append(rows)

    def result(self) -> VOCResult:
        """Average precision of everything added so far. More may be added afterwards."""
        # Joined once and kept so: a validation that asks twice pays once.
        self._objects, self._found = [_join(self._objects)], [_join(self._found)]
        objects, found = self._objects[0], self._found[0]
        aps: Dict[str, float] = {}
        curves: Dict[str, Curve] = {}
        positives: Dict[str, int] = {}
        for label, name in enumerate(self.classes):
            of_class = objects.of_label(label)
            positives[name] = int(np.count_nonzero(of_class.values == 0))
            aps[name] = math.nan
            if positives[name]:
                curve = _curve(found.of_label(label), of_class, positives[name], self.iou_threshold)
                area = _average_11_points if self.metric == "voc07" else _area_under_envelope
                curves[name], aps[name] = curve, area(curve.recall, curve.precision)
        counts = np.bincount(found.labels, minlength=len(self.classes))
        measured = [aps[name] for name in curves]
        return VOCResult(
            metric=self.metric,
            iou_threshold=self.iou_threshold,
            classes=self.classes,
            mean_ap=float(np.mean(measured)) if measured else math.nan,
            ap_per_class=aps,
            images=len(self._index_of_image),
            positives=positives,
            detections={name: int(count) for name, count in zip(self.classes, counts)},
            curves=curves,
        )

    def _check(self, rows: _Rows, image_ids: Sequence[str], whose: str) -> None:
        count = len(image_ids)
        for column, shape in ((rows.labels, (count,)), (rows.values, (count,)), (rows.boxes, (count, 4))):
            if column.shape != shape:
                image = f" of image {image_ids[0]!r}" if count else ""
                raise DataError(f"{whose}{image}: expected arrays of {count} rows, got shape {column.shape}")
        sound = (np.abs(rows.boxes) <= _FARTHEST).all(axis=1) & np.isfinite(rows.values)
        if not sound.all():
            row = int(np.argmin(sound))
            score = f"score {rows.values[row]}, " if whose == _FOUND else ""
            raise DataError(
                f"{whose} of image {image_ids[row]!r} hold a number that cannot be: "
                f"{score}box {(rows.boxes[row] - 1).tolist()}"
            )
        known = (rows.labels >= 0) & (rows.labels < len(self.classes))
        if not known.all():
            row = int(np.argmin(known))
            raise DataError(
                f"{whose} of image {image_ids[row]!r} hold the label {rows.labels[row]}, "
                f"but there are {len(self.classes)} classes"
            )


@dataclass(frozen=True)
class _Rows:
    """Objects or detections, one row each.

    ``images``, ``labels`` (N,) int32; ``values`` (N,) float64, the score or 1 for difficult;
    ``boxes`` (N, 4) float64 in the devkit's pixels.
    """

    images: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    boxes: np.ndarray

    def of_label(self, label: int) -> _Rows:
        return self.take(np.flatnonzero(self.labels == label))

    def take(self, rows: np.ndarray) -> _Rows:
        return _Rows(self.images[rows], self.labels[rows], self.values[rows], self.boxes[rows])


def _join(parts: List[_Rows]) -> _Rows:
    nothing = np.zeros(0, np.int32)
    empty = _Rows(nothing, nothing, np.zeros(0), np.zeros((0, 4)))
    columns = zip(*((part.images, part.labels, part.values, part.boxes) for part in [empty, *parts]))
    return _Rows(*(np.concatenate(column) for column in columns))


def _devkit_boxes(boxes: np.ndarray) -> np.ndarray:
    """Copy 0-based boxes into the devkit's 1-based float64 pixels.

    Overlaps do not depend on the origin but for rounding: computed in the devkit's own numbers, the
    boxes of a detection file give its overlaps to the last bit.
    """
    boxes = np.asarray(boxes, np.float64)
    return (boxes if boxes.size else boxes.reshape(0, 4)) + 1.0


def _curve(found: _Rows, objects: _Rows, positives: int, iou_threshold: float) -> Curve:
    """Recall and precision of the detections `found` of one class, whose `objects` are given."""
    found = found.take(np.argsort(-found.values, kind="stable"))
    best_object, best_overlap = _best_objects(found, objects)
    matched = best_overlap >= iou_threshold
    difficult = np.zeros(len(matched), bool)
    difficult[matched] = objects.values[best_object[matched]] != 0
    # The first of the matches on an object, by score, is its true positive.
    counting = np.flatnonzero(matched & ~difficult)
    _, first = np.unique(best_object[counting], return_index=True)
    is_true = np.zeros(len(matched), bool)
    is_true[counting[first]] = True
    true = np.cumsum(is_true)
    false = np.cumsum(~is_true & ~difficult)
    # 0 / 0 before the first detection that counts: MATLAB's NaN there never wins the maximum.
    precision = true / np.maximum(true + false, 1)
    return Curve(recall=true / positives, precision=precision, scores=found.values)


def _best_objects(found: _Rows, objects: _Rows) -> Tuple[np.ndarray, np.ndarray]:
    """For each detection the object of its image it overlaps most, and how much.

    Returns
    -------
    best : numpy.ndarray
        (N,) int64, row in `objects`; meaningless where `overlap` is 0.
    overlap : numpy.ndarray
        (N,) float64; 0 where nothing in the image is touched.
    """
    best, overlap = np.zeros(len(found.images), np.int64), np.zeros(len(found.images))
    # Objects lie in the order of their images, as they were added: those of one image are a run.
    start = np.searchsorted(objects.images, found.images, side="left")
    count = np.searchsorted(objects.images, found.images, side="right") - start
    candidates = np.flatnonzero(count)
    pairs_before = np.concatenate([[0], np.cumsum(count[candidates])])
    done = 0
    while done < len(candidates):
        upto = int(np.searchsorted(pairs_before, pairs_before[done] + _PAIRS_AT_ONCE, side="right")) - 1
        upto = max(upto, done + 1)
        rows = candidates[done:upto]
        begin = pairs_before[done:upto] - pairs_before[done]  # of each detection's run of pairs
        total = int(pairs_before[upto] - pairs_before[done])
        step = np.arange(total) - np.repeat(begin, count[rows])
        pair_object = np.repeat(start[rows], count[rows]) + step
        found_boxes = np.repeat(found.boxes[rows], count[rows], axis=0)
        pair_overlap = iou(found_boxes, objects.boxes[pair_object], offset=1)
        overlap[rows] = np.maximum.reduceat(pair_overlap, begin)
        # The first of equals: runs keep the order of the annotation.
        is_best = pair_overlap == np.repeat(overlap[rows], count[rows])
        best[rows] = pair_object[np.minimum.reduceat(np.where(is_best, np.arange(total), total), begin)]
        done = upto
    return best, overlap


def _average_11_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOC 2007: the mean over the recalls 0, .1 ... 1 of the highest precision at or beyond each."""
    beyond = np.searchsorted(recall, RECALL_POINTS, side="left")
    highest = np.append(_envelope(precision), 0.0)
    return float(np.mean(highest[beyond]))


def _area_under_envelope(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOC 2010 to 2012: the area under the precision made monotone from the right."""
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * _envelope(precision)))


def _envelope(precision: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(precision[::-1])[::-1]


def _none_for_nan(value: float) -> Any:
    return None if math.isnan(value) else value
