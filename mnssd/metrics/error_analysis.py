"""What a detector gets wrong: each detection and each object with its verdict, and what is taken for what.

Boxes are compared as the VOC metric does (inclusive pixels, IoU 0.5), images one by one, from the scores on
at which each class has its best F1: that is where a user would set the bar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..boxes import iou
from ..data.sample import Detections, Sample
from .voc import VOCResult

MATCH = 0.5
"""Overlap from which a detection is of an object."""

NEAR = 0.1
"""Overlap from which a detection that is no match is a poor box rather than one of nothing."""

KINDS = ("nothing", "class", "box", "both", "twice", "missed")
"""Something where nothing is; another class; a poor box; both of these; an object found again; one missed."""


class ErrorType(NamedTuple):
    """One of them.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    sample : Sample
    box : numpy.ndarray
        ``(4,)`` the detection's, or the missed object's.
    label, score : int, float
        Answered; of the object, and NaN, when it was missed.
    truth : int
        Row of the object in the sample, -1 where there is none.
    overlap : float
        With that object.
    """

    kind: str
    sample: Sample
    box: np.ndarray
    label: int
    score: float
    truth: int
    overlap: float


@dataclass(frozen=True)
class Point:
    """Where a class has its best F1, the harmonic mean of precision and recall."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Verdict:
    """All mistakes, and what was taken for what.

    Attributes
    ----------
    mistakes : dict
        Kind to its `ErrorType`s, the most certain first; missed ones the largest first.
    confusion : numpy.ndarray
        ``(C + 1, C + 1)`` int: rows are what there is, columns what was answered; the last row is
        "nothing there", the last column "not found".
    """

    mistakes: Dict[str, List[ErrorType]]
    confusion: np.ndarray


def best_points(result: VOCResult) -> Dict[str, Point]:
    """For each class with detections and objects the point of its curve with the best F1."""
    points: Dict[str, Point] = {}
    for name, curve in result.curves.items():
        if not len(curve.scores):
            continue
        both = curve.precision + curve.recall
        f1 = 2 * curve.precision * curve.recall / np.where(both > 0, both, 1)
        # Of equal scores all detections or none are taken, so only the last of them is a place to stop.
        last = np.append(curve.scores[1:] != curve.scores[:-1], True)
        best = int(np.where(last, f1, -1).argmax())
        points[name] = Point(
            float(curve.scores[best]),
            float(curve.precision[best]),
            float(curve.recall[best]),
            float(f1[best]),
        )
    return points


def analyze_errors(
    pairs: Iterable[Tuple[Sample, Detections]], classes: Sequence[str], points: Dict[str, Point]
) -> Verdict:
    """Compare detections with what is there.

    Parameters
    ----------
    pairs : iterable of (Sample, Detections)
    classes : sequence of str
    points : dict
        From `best_points`; detections of classes that have none are left out.
    """
    bar = np.array([points[name].score if name in points else np.inf for name in classes])
    nothing = len(classes)
    confusion = np.zeros((nothing + 1, nothing + 1), int)
    mistakes: Dict[str, List[ErrorType]] = {kind: [] for kind in KINDS}
    for sample, found in pairs:
        found = found.take(np.flatnonzero(found.scores >= bar[found.labels]).tolist())
        for mistake in _judge_image(sample, found, confusion):
            mistakes[mistake.kind].append(mistake)
    for kind, some in mistakes.items():
        some.sort(key=(lambda m: -_area(m.box)) if kind == "missed" else (lambda m: -m.score))
    return Verdict(mistakes, confusion)


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0] + 1) * (box[3] - box[1] + 1))


def _judge_image(sample: Sample, found: Detections, confusion: np.ndarray) -> List[ErrorType]:
    nothing = len(confusion) - 1
    overlaps = iou(found.boxes[:, None].astype(np.float64), sample.boxes.astype(np.float64), offset=1)
    taken = np.zeros(len(sample.labels), bool)
    answered = np.full(len(sample.labels), nothing)
    wrong: List[ErrorType] = []
    left: List[int] = []
    for row in np.argsort(-found.scores, kind="stable"):
        same = np.where(sample.labels == found.labels[row], overlaps[row], -1)
        best = int(same.argmax()) if len(same) else -1
        if best >= 0 and same[best] >= MATCH and not taken[best]:
            taken[best], answered[best] = True, found.labels[row]
        else:
            left.append(int(row))
    for row in left:
        label, score = int(found.labels[row]), float(found.scores[row])
        best = int(overlaps[row].argmax()) if len(taken) else -1
        overlap = float(overlaps[row][best]) if best >= 0 else 0.0
        same = np.where(sample.labels == label, overlaps[row], -1)
        own = int(same.argmax()) if len(same) else -1
        if own >= 0 and same[own] >= MATCH:
            kind, best, overlap = "twice", own, float(same[own])
        elif best >= 0 and overlap >= MATCH:
            kind = "class"
            if not taken[best]:
                taken[best], answered[best] = True, label
        elif own >= 0 and same[own] >= NEAR:
            kind, best, overlap = "box", own, float(same[own])
        elif best >= 0 and overlap >= NEAR:
            kind = "both"
        else:
            kind, best, overlap = "nothing", -1, 0.0
        if best >= 0 and sample.difficult[best]:
            continue  # counts neither way
        wrong.append(ErrorType(kind, sample, found.boxes[row], label, score, best, overlap))
        if kind != "class":
            confusion[nothing, label] += 1
    for row, label in enumerate(sample.labels):
        if sample.difficult[row]:
            continue
        confusion[label, answered[row]] += 1
        if not taken[row]:
            wrong.append(ErrorType("missed", sample, sample.boxes[row], int(label), float("nan"), row, 0.0))
    return wrong
