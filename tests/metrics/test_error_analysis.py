"""Types of detection errors, the confusion matrix and the points of best F1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, List, Tuple

import numpy as np
import pytest
from helpers.metrics import make_detections, make_sample

from mnssd.data.sample import Detections, Sample
from mnssd.metrics.error_analysis import OperatingPoint, analyze_errors, best_f1_points
from mnssd.metrics.voc import VOCMetric

CLASSES = ("cat", "dog")
THRESHOLDS = {name: OperatingPoint(0.1, 1, 1, 1) for name in CLASSES}
CAT, DOG = (10, 10, 49, 49, 0), (60, 60, 99, 99, 1)


def sample(*objects: Tuple[float, ...], difficult: Tuple[int, ...] = ()) -> Sample:
    """The objects are corners and label; `difficult` are rows of them."""
    return make_sample("a", *((o[:4], int(o[4]), row in difficult) for row, o in enumerate(objects)))


def detections(*rows: Tuple[float, ...]) -> Detections:
    """The rows are corners, label and score."""
    return make_detections(*((row[:4], int(row[4]), row[5]) for row in rows))


@pytest.mark.parametrize(
    ("objects", "rows", "types", "confusion"),
    [
        ([CAT], [(*CAT[:4], 0, 0.9)], [], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
        ([CAT], [], ["missed"], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),
        ([], [(*CAT[:4], 0, 0.9)], ["background"], [[0, 0, 0], [0, 0, 0], [1, 0, 0]]),
        ([CAT], [(*CAT[:4], 1, 0.9)], ["class"], [[0, 1, 0], [0, 0, 0], [0, 0, 0]]),
        ([CAT], [(30, 10, 69, 49, 0, 0.9)], ["location", "missed"], [[0, 0, 1], [0, 0, 0], [1, 0, 0]]),
        (
            [CAT],
            [(30, 10, 69, 49, 1, 0.9)],
            ["class and location", "missed"],
            [[0, 0, 1], [0, 0, 0], [0, 1, 0]],
        ),
        (
            [CAT],
            [(*CAT[:4], 0, 0.9), (12, 10, 49, 49, 0, 0.8)],
            ["duplicate"],
            [[1, 0, 0], [0, 0, 0], [1, 0, 0]],
        ),
        ([CAT, DOG], [(*CAT[:4], 0, 0.9), (*DOG[:4], 1, 0.8)], [], [[1, 0, 0], [0, 1, 0], [0, 0, 0]]),
        # The detection of the right class matches, even if the wrong one has a higher score.
        ([CAT], [(*CAT[:4], 1, 0.9), (*CAT[:4], 0, 0.5)], ["class"], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
        # Below the score threshold.
        ([CAT], [(*CAT[:4], 0, 0.05)], ["missed"], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),
    ],
)
def test_error_types(objects: Any, rows: Any, types: List[str], confusion: Any) -> None:
    analysis = analyze_errors([(sample(*objects), detections(*rows))], CLASSES, THRESHOLDS)
    assert [kind.value for kind, errors in analysis.errors.items() for _ in errors] == types
    assert analysis.confusion.tolist() == confusion


def test_difficult_objects_are_ignored() -> None:
    pair = sample(CAT, difficult=(0,)), detections((12, 10, 60, 49, 1, 0.9))
    analysis = analyze_errors([pair], CLASSES, THRESHOLDS)
    assert not any(analysis.errors.values())
    assert analysis.confusion.sum() == 0


def test_confusion_rows_count_the_objects() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(50):
        boxes = rng.uniform(0, 60, (6, 4))
        boxes[:, 2:] += boxes[:, :2] + 5
        objects = [(*box, rng.integers(2)) for box in boxes[:3]]
        rows = [(*(box + rng.normal(0, 3, 4)), rng.integers(2), rng.uniform()) for box in boxes[1:]]
        pairs.append((replace(sample(*objects, difficult=(0,)), image_id=str(number)), detections(*rows)))
    analysis = analyze_errors(pairs, CLASSES, THRESHOLDS)
    labels = np.concatenate([s.labels[~s.difficult] for s, _ in pairs])
    assert analysis.confusion[:2].sum(axis=1).tolist() == np.bincount(labels, minlength=2).tolist()
    by_type = {kind.value: errors for kind, errors in analysis.errors.items()}
    assert analysis.confusion[:2, 2].sum() == len(by_type["missed"])
    scores = [error.score for error in by_type["background"]]
    assert scores == sorted(scores, reverse=True)
    areas = [np.prod(error.box[2:] - error.box[:2] + 1) for error in by_type["missed"]]
    assert areas == sorted(areas, reverse=True)


def test_operating_point_has_the_best_f1() -> None:
    metric = VOCMetric(CLASSES, "voc12")
    metric.add(detections((*CAT[:4], 0, 0.9), (70, 70, 90, 90, 0, 0.8), (80, 5, 95, 20, 0, 0.7)), sample(CAT))
    points = best_f1_points(metric.result())
    assert points == {"cat": OperatingPoint(float(np.float32(0.9)), 1, 1, 1)}


def test_operating_point_includes_all_detections_of_equal_score() -> None:
    metric = VOCMetric(CLASSES, "voc12")
    metric.add(detections((*CAT[:4], 0, 0.5), (70, 70, 90, 90, 0, 0.5)), sample(CAT))
    assert best_f1_points(metric.result())["cat"].precision == 0.5
