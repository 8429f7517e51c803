"""Detection errors by type, confusion matrix and best operating points of a detector.

Boxes are compared as by the VOC metric (inclusive pixels, IoU 0.5), each class at the score threshold of its
best F1, where a user would set it. The error types are those of TIDE (Bolya et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..boxes import iou
from ..data.sample import Detections, Sample
from .voc import VOCResult

MATCH_IOU = 0.5
"""IoU threshold for a detection to match an object."""

NEAR_IOU = 0.1
"""IoU threshold for an unmatched detection to be a localization error instead of one on background."""


class ErrorType(str, Enum):
    """What is wrong with a detection, or that an object has none."""

    BACKGROUND = "background"
    CLASS = "class"
    LOCATION = "location"
    CLASS_AND_LOCATION = "class and location"
    DUPLICATE = "duplicate"
    MISSED = "missed"


class DetectionError(NamedTuple):
    """One error of a detector.

    ``box`` ``(4,)`` and ``label`` are those of the detection or, with a NaN ``score``, of the missed object.
    ``truth`` is the row of the object in the sample, -1 for a detection on background; ``iou`` is the IoU of
    the two, 0 for a missed object.
    """

    type: ErrorType
    sample: Sample
    box: np.ndarray
    label: int
    score: float
    truth: int
    iou: float


@dataclass(frozen=True)
class OperatingPoint:
    """Score threshold of a class, with precision, recall and F1 there."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ErrorAnalysis:
    """Errors of a detector on a dataset.

    Attributes
    ----------
    errors : dict
        `ErrorType` to errors, highest score first; missed objects largest first.
    confusion : numpy.ndarray
        ``(C + 1, C + 1)`` int: rows are true classes, columns predicted classes; the last row is background,
        the last column missed objects.
    """

    errors: Dict[ErrorType, List[DetectionError]]
    confusion: np.ndarray


def best_f1_points(result: VOCResult) -> Dict[str, OperatingPoint]:
    """Operating point of best F1, for each class with detections and objects."""
    points: Dict[str, OperatingPoint] = {}
    for name, curve in result.curves.items():
        if not len(curve.scores):
            continue
        both = curve.precision + curve.recall
        f1 = 2 * curve.precision * curve.recall / np.where(both > 0, both, 1)
        # A threshold includes all detections of equal score, so only the last of them can be chosen.
        last = np.append(curve.scores[1:] != curve.scores[:-1], True)
        best = int(np.where(last, f1, -1).argmax())
        columns = (curve.scores, curve.precision, curve.recall, f1)
        points[name] = OperatingPoint(*(float(column[best]) for column in columns))
    return points


def analyze_errors(
    pairs: Iterable[Tuple[Sample, Detections]], classes: Sequence[str], points: Dict[str, OperatingPoint]
) -> ErrorAnalysis:
    """Classify the errors of a detector.

    Only detections at or above the score of their class in `points` count (see `best_f1_points`); classes
    without a point have none.
    """
    thresholds = np.array([points[name].score if name in points else np.inf for name in classes])
    confusion = np.zeros((len(classes) + 1, len(classes) + 1), int)
    errors: Dict[ErrorType, List[DetectionError]] = {error_type: [] for error_type in ErrorType}
    for sample, detections in pairs:
        chosen = np.flatnonzero(detections.scores >= thresholds[detections.labels])
        for error in _errors_of_image(sample, detections.take(chosen.tolist()), confusion):
            errors[error.type].append(error)
    for error_type, of_type in errors.items():
        if error_type is ErrorType.MISSED:
            of_type.sort(key=lambda error: -np.prod(error.box[2:] - error.box[:2] + 1))
        else:
            of_type.sort(key=lambda error: -error.score)
    return ErrorAnalysis(errors, confusion)


def _errors_of_image(sample: Sample, detections: Detections, confusion: np.ndarray) -> List[DetectionError]:
    background = missed = len(confusion) - 1
    ious = iou(detections.boxes[:, None].astype(np.float64), sample.boxes.astype(np.float64), offset=1)
    predicted = np.full(len(sample.labels), missed)  # class for each object
    errors: List[DetectionError] = []
    unmatched: List[int] = []
    for row in np.argsort(-detections.scores, kind="stable"):
        best = _best_object(ious[row], sample.labels == detections.labels[row])
        if best >= 0 and ious[row][best] >= MATCH_IOU and predicted[best] == missed:
            predicted[best] = detections.labels[row]
        else:
            unmatched.append(int(row))
    for row in unmatched:
        label = int(detections.labels[row])
        error_type, best = _classify(ious[row], sample.labels == label)
        if error_type is ErrorType.CLASS and predicted[best] == missed:
            predicted[best] = label
        if best >= 0 and sample.difficult[best]:
            continue  # neither a true nor a false positive
        best_iou = float(ious[row][best]) if best >= 0 else 0.0
        score = float(detections.scores[row])
        errors.append(DetectionError(error_type, sample, detections.boxes[row], label, score, best, best_iou))
        if error_type is not ErrorType.CLASS:
            confusion[background, label] += 1
    for row in np.flatnonzero(~sample.difficult):
        label = int(sample.labels[row])
        confusion[label, predicted[row]] += 1
        if predicted[row] == missed:
            box = sample.boxes[row]
            errors.append(DetectionError(ErrorType.MISSED, sample, box, label, float("nan"), int(row), 0.0))
    return errors


def _classify(ious: np.ndarray, same_class: np.ndarray) -> Tuple[ErrorType, int]:
    """Error type of a detection without a match, and the row of the object it concerns, or -1."""
    any_class, own_class = _best_object(ious, np.ones_like(same_class)), _best_object(ious, same_class)
    for error_type, best, threshold in (
        (ErrorType.DUPLICATE, own_class, MATCH_IOU),
        (ErrorType.CLASS, any_class, MATCH_IOU),
        (ErrorType.LOCATION, own_class, NEAR_IOU),
        (ErrorType.CLASS_AND_LOCATION, any_class, NEAR_IOU),
    ):
        if best >= 0 and ious[best] >= threshold:
            return error_type, best
    return ErrorType.BACKGROUND, -1


def _best_object(ious: np.ndarray, allowed: np.ndarray) -> int:
    """Row of the highest IoU among the allowed objects, or -1."""
    return int(np.where(allowed, ious, -1).argmax()) if allowed.any() else -1
