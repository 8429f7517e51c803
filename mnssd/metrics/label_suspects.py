"""Labels that look wrong, from the detections of a trained detector on the labeled images.

Boxes are compared as by the VOC metric (inclusive pixels). How sure a detection is follows from the precision
of its class at its score, measured on the same images, not from the score itself.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..boxes import iou
from ..data.sample import Detections, Sample
from .error_analysis import MATCH_IOU

GOOD_IOU = 0.6
"""IoU from which a box fits an object."""

NEAR_IOU = 0.3
"""IoU below which a detection and a label are of different objects."""

SIMILAR_SIZE = 2.0
"""Largest ratio of the sides of objects that are about equally hard to detect."""

LEAST_IN_GROUP = 20
"""Objects of similar size from which their recall is estimated; else it is that of the class."""


class LabelFault(str, Enum):
    """What may be wrong with a label."""

    MISSING = "missing"
    SPURIOUS = "spurious"
    CLASS = "class"
    LOOSE = "loose"


class Suspect(NamedTuple):
    """A label that looks wrong, or an object that has none.

    Attributes
    ----------
    fault : LabelFault
    sample : Sample
    row : int
        Row of the label in the sample; -1 for a missing one.
    box : numpy.ndarray
        ``(4,)``; of the detection that disagrees with the label, or of a spurious label.
    label : int
        Class of that box.
    suspicion : float
        0 to 1.
    """

    fault: LabelFault
    sample: Sample
    row: int
    box: np.ndarray
    label: int
    suspicion: float


class _Image(NamedTuple):
    """An image, its detections with the precision of each, and the ``(D, N)`` IoU with its labels."""

    sample: Sample
    detections: Detections
    precision: np.ndarray
    ious: np.ndarray


def find_suspects(pairs: Sequence[Tuple[Sample, Detections]], classes: Sequence[str]) -> List[Suspect]:
    """Labels that look wrong, the most suspicious first; the faults take turns.

    The suspicions of different faults do not compare well: in order of suspicion alone, the precision on
    planted faults is .23 and .31 instead of .33 and .50 (benchmarks/LABEL-FAULTS.md).

    Parameters
    ----------
    pairs : sequence of (Sample, Detections)
        Labeled images, and their detections from the lowest scores on.
    classes : sequence of str

    Notes
    -----
    Of a detection with precision p at its score:

    - missing: p, if no label has an IoU of `NEAR_IOU` with it;
    - class: p of a detection of another class that fits the label, times 1 - p of the best of its own class;
    - loose: p of a detection of its class that overlaps the label but does not fit it, nor any other label,
      times 1 - p of the best one that fits;
    - spurious: 1 - p of the best detection on the label, times the recall of labels of this class and size.

    Objects marked difficult are never suspects.
    """
    ious = [iou(d.boxes[:, None].astype(np.float64), s.boxes.astype(np.float64), offset=1) for s, d in pairs]
    precision = _precision([(s, d, overlap) for (s, d), overlap in zip(pairs, ious)], len(classes))
    images = [_Image(s, d, p, overlap) for (s, d), p, overlap in zip(pairs, precision, ious)]
    recall = _recall(images, len(classes))
    suspects: List[Suspect] = []
    for image, found in zip(images, recall):
        suspects += _suspects_of(image, found)
    suspects.sort(key=lambda suspect: -suspect.suspicion)
    turns: Counter[LabelFault] = Counter()
    order: List[int] = []
    for suspect in suspects:
        order.append(turns[suspect.fault])
        turns[suspect.fault] += 1
    return [suspects[index] for index in np.argsort(order, kind="stable")]


def _precision(images: List[Tuple[Sample, Detections, np.ndarray]], classes: int) -> List[np.ndarray]:
    """Precision of the class of each detection at its score: of all detections with at least this score.

    It never rises as the score falls.
    """
    labels = np.concatenate([np.empty(0, np.int64), *(d.labels for _, d, _ in images)])
    scores = np.concatenate([np.empty(0), *(d.scores for _, d, _ in images)])
    correct = np.concatenate([np.empty(0, bool), *(_is_correct(s, d, o) for s, d, o in images)])
    precision = np.zeros(len(scores))
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        share = np.cumsum(correct[rows]) / np.arange(1, len(rows) + 1)
        precision[rows] = np.maximum.accumulate(share[::-1])[::-1]
    ends = np.cumsum([len(d.scores) for _, d, _ in images])
    return np.split(precision, ends[:-1]) if images else []


def _is_correct(sample: Sample, detections: Detections, ious: np.ndarray) -> np.ndarray:
    """``(D,)`` whether each detection is the best one of a label of its class."""
    correct = np.zeros(len(detections.labels), bool)
    same = ious * (detections.labels[:, None] == sample.labels[None])
    for row in range(len(sample.labels)):
        fits = np.flatnonzero(same[:, row] >= MATCH_IOU)
        if len(fits):
            correct[fits[np.argmax(detections.scores[fits])]] = True
    return correct


def _best(values: np.ndarray, allowed: np.ndarray) -> Tuple[int, float]:
    """Row of the largest allowed value, and the value; -1 and 0 if none is allowed."""
    if not allowed.any():
        return -1, 0.0
    row = int(np.where(allowed, values, -1.0).argmax())
    return row, float(values[row])


def _recall(images: Sequence[_Image], classes: int) -> List[np.ndarray]:
    """For each image the ``(N,)`` recall of labels of the same class and similar size."""
    rows: List[Tuple[int, float, float]] = []
    for image in images:
        sides = image.sample.boxes[:, 2:] - image.sample.boxes[:, :2] + 1
        sizes = np.sqrt(np.maximum(sides.prod(axis=1), 1) / max(1, np.prod(image.sample.size)))
        for row, label in enumerate(image.sample.labels):
            own = (image.detections.labels == label) & (image.ious[:, row] >= MATCH_IOU)
            rows.append((int(label), float(sizes[row]), _best(image.precision, own)[1]))
    table = np.array(rows, np.float64).reshape(-1, 3)
    recall = np.zeros(len(table))
    for label in range(classes):
        of_class = np.flatnonzero(table[:, 0] == label)
        of_class = of_class[np.argsort(table[of_class, 1], kind="stable")]
        sizes, found = table[of_class, 1], np.concatenate([[0.0], np.cumsum(table[of_class, 2])])
        first = np.searchsorted(sizes, sizes / SIMILAR_SIZE, side="left")
        last = np.searchsorted(sizes, sizes * SIMILAR_SIZE, side="right")
        few = last - first < LEAST_IN_GROUP
        first, last = np.where(few, 0, first), np.where(few, len(sizes), last)
        recall[of_class] = (found[last] - found[first]) / np.maximum(last - first, 1)
    ends = np.cumsum([len(image.sample.labels) for image in images])
    return np.split(recall, ends[:-1]) if images else []


def _suspects_of(image: _Image, recall: np.ndarray) -> List[Suspect]:
    sample, detections, precision, ious = image
    same = detections.labels[:, None] == sample.labels[None]
    fits_any = (same & (ious >= GOOD_IOU)).any(axis=1)
    suspects: List[Suspect] = []
    for row in np.flatnonzero(~sample.difficult):
        own, overlap = same[:, row], ious[:, row]
        doubts: Dict[LabelFault, Tuple[int, float]] = {}
        other, sure = _best(precision, ~own & (overlap >= MATCH_IOU) & ~fits_any)
        doubts[LabelFault.CLASS] = other, sure * (1 - _best(precision, own & (overlap >= MATCH_IOU))[1])
        near = own & (overlap >= NEAR_IOU) & (overlap < GOOD_IOU) & ~fits_any
        loose, sure = _best(precision, near)
        doubts[LabelFault.LOOSE] = loose, sure * (1 - _best(precision, own & (overlap >= GOOD_IOU))[1])
        any_sure = _best(precision, overlap >= NEAR_IOU)[1]
        doubts[LabelFault.SPURIOUS] = -1, (1 - any_sure) * float(recall[row])
        fault = max(doubts, key=lambda kind: doubts[kind][1])
        rival, suspicion = doubts[fault]
        box, label = sample.boxes[row], int(sample.labels[row])
        if rival >= 0:
            box, label = detections.boxes[rival], int(detections.labels[rival])
        suspects.append(Suspect(fault, sample, int(row), box, label, suspicion))
    return suspects + _missing(image)


def _missing(image: _Image) -> List[Suspect]:
    """Objects without a label: detections far from all labels, and from better such detections."""
    sample, detections, precision, ious = image
    free = (ious < NEAR_IOU).all(axis=1)
    suspects: List[Suspect] = []
    kept: List[int] = []
    for row in np.flatnonzero(free)[np.argsort(-precision[free], kind="stable")]:
        box = detections.boxes[row]
        if kept and (iou(box, detections.boxes[kept], offset=1) >= NEAR_IOU).any():
            continue
        kept.append(int(row))
        label = int(detections.labels[row])
        suspects.append(Suspect(LabelFault.MISSING, sample, -1, box, label, float(precision[row])))
    return suspects
