"""Paired comparison of two results on the same images."""

from __future__ import annotations

import json
import math
from typing import Dict, Sequence

import numpy as np
import pytest
from helpers.metrics import UNIT, evaluate, make_detections, make_sample

from mnssd.errors import DataError
from mnssd.metrics.bootstrap import RESAMPLES
from mnssd.metrics.classification import ClassificationResult
from mnssd.metrics.comparison import Comparison, compare_classifications, compare_detections
from mnssd.metrics.voc import VOCResult


def finding(images: Sequence[int], label: int = 0, classes: Sequence[str] = ("a", "b")) -> VOCResult:
    """A detector that finds the object of some of 60 images; its AP (VOC12) is their share."""
    return evaluate(
        [
            (make_detections(*[(UNIT, label, 0.9)] * (k in images)), make_sample(f"{k:02d}", (UNIT, label)))
            for k in range(60)
        ],
        classes=classes,
    )


def classifying(images: Sequence[int]) -> ClassificationResult:
    """A classifier that is right about some of 60 images."""
    right = len(images)
    confusion = np.array([[right, 60 - right], [0, 0]])
    return ClassificationResult(("a", "b"), confusion, 60, [], {f"{k:02d}": k in images for k in range(60)})


def results(comparison: Comparison) -> Dict:
    return json.loads(json.dumps(comparison.as_dict(), allow_nan=False))


@pytest.mark.parametrize("kind", [finding, classifying])
def test_difference_is_paired(kind) -> None:
    """B finds four images more than A; most of the spread of each is common to both."""
    compare = compare_detections if kind is finding else compare_classifications
    comparison = compare(kind(range(30)), kind(range(34)))
    a, b, difference = comparison.score
    assert (a.value, b.value) == (pytest.approx(30 / 60), pytest.approx(34 / 60))
    assert difference.value == pytest.approx(4 / 60)
    assert a.interval.high > b.interval.low  # on its own neither is sure
    # Of 60 drawn images, 4 +- 1.9 are among the four.
    assert difference.interval == pytest.approx((1 / 60, 8 / 60), abs=1e-9)
    assert comparison.better == "b"
    assert comparison.share_a_better == 0
    assert comparison.share_b_better == pytest.approx(1 - (56 / 60) ** 60, abs=0.02)
    report = results(comparison)
    assert (report["better"], report["images"], report["resamples"]) == ("b", 60, RESAMPLES)
    assert report["difference"]["interval"] == list(difference.interval)


@pytest.mark.parametrize("kind", [finding, classifying])
def test_order_is_symmetric(kind) -> None:
    compare = compare_detections if kind is finding else compare_classifications
    one, two = kind(range(0, 50, 2)), kind(range(0, 60, 3))
    forth, back = compare(one, two), compare(two, one)
    assert forth.score.difference.value == -back.score.difference.value
    low, high = forth.score.difference.interval
    assert back.score.difference.interval == pytest.approx((-high, -low), abs=1e-12)
    assert (forth.share_a_better, forth.share_b_better) == (back.share_b_better, back.share_a_better)
    assert {forth.better, back.better} in ({None}, {"a", "b"})


def test_equal_results_do_not_differ() -> None:
    detector = finding(range(20))
    other_order = finding(range(20), 1, ("b", "a"))
    for other in (detector, other_order):
        comparison = compare_detections(detector, other)
        assert comparison.score.difference == (0, (0, 0))
        assert (comparison.share_a_better, comparison.share_b_better, comparison.better) == (0, 0, None)
        assert comparison.per_class["a"].difference == (0, (0, 0))
        assert math.isnan(comparison.per_class["b"].a.value)  # no objects
        assert results(comparison)["per_class"]["b"]["difference"] == {"value": None, "interval": None}
        assert "nan" not in str(comparison)
    comparison = compare_classifications(classifying(range(9)), classifying(range(9)))
    assert comparison.score.difference == (0, (0, 0))


def test_chosen_classes_are_compared() -> None:
    detections = [
        (make_detections((UNIT, 0, 0.9)), make_sample(f"{k}", (UNIT, 0), (UNIT, 1))) for k in range(5)
    ]
    result = evaluate(detections)
    assert compare_detections(result, result).score.a.value == 0.5
    comparison = compare_detections(result, result, ["a"])
    assert comparison.score.a == (1, (1, 1))
    assert list(comparison.per_class) == ["a"]


def test_results_of_different_images_or_classes_are_refused() -> None:
    result = finding(range(20))
    for other in (
        evaluate([(make_detections(), make_sample("01", (UNIT, 0)))]),
        finding(range(20), classes=("a", "c")),
    ):
        with pytest.raises(DataError):
            compare_detections(result, other)
    fewer = ClassificationResult(("a", "b"), np.eye(2, dtype=int), 2, [], {"00": True, "01": True})
    with pytest.raises(DataError, match="02"):
        compare_classifications(classifying(range(3)), fewer)
