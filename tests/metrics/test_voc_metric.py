"""VOC metric: each rule, both interpolations, invalid input."""

from __future__ import annotations

import json
import math
from typing import List, Tuple

import numpy as np
import pytest
from helpers.metrics import UNIT, evaluate, make_detections, make_sample

from mnssd.data.sample import Detections, Sample
from mnssd.errors import DataError, OptionError
from mnssd.metrics import voc
from mnssd.metrics.voc import VOCMetric

# ---- rules ----


def test_perfect_detections_score_one():
    result = evaluate([(make_detections((UNIT, 0, 0.9)), make_sample("1", (UNIT, 0)))])
    assert result.ap_per_class["a"] == result.mean_ap == 1
    assert (result.images, result.positives, result.detections) == (1, {"a": 1, "b": 0}, {"a": 1, "b": 0})


@pytest.mark.parametrize("metric", voc.VOC_METRICS)
def test_detection_of_a_difficult_object_is_ignored(metric):
    sample = make_sample("1", (UNIT, 0, True), ((50, 50, 59, 59), 0))
    detections = make_detections((UNIT, 0, 0.9), (UNIT, 0, 0.8), ((50, 50, 59, 59), 0, 0.7))
    result = evaluate([(detections, sample)], metric)
    assert result.mean_ap == pytest.approx(1, abs=1e-12)
    assert result.positives["a"] == 1
    np.testing.assert_array_equal(result.curves["a"].recall, [0, 0, 1])


def test_ap_is_zero_if_all_detections_are_ignored():
    sample = make_sample("1", (UNIT, 0, True), ((50, 50, 59, 59), 0))
    assert evaluate([(make_detections((UNIT, 0, 0.9)), sample)], "voc07").mean_ap == 0


def test_best_object_may_be_difficult():
    # The IoU with the difficult object is higher, so the detection is ignored, although it matches both.
    sample = make_sample("1", (UNIT, 0), ((0, 1, 9, 10), 0, True))
    result = evaluate([(make_detections(((0, 1, 9, 10), 0, 0.9)), sample)])
    assert result.mean_ap == 0
    np.testing.assert_array_equal(result.curves["a"].recall, [0])


def test_second_match_of_an_object_is_a_false_positive():
    result = evaluate([(make_detections((UNIT, 0, 0.9), (UNIT, 0, 0.8)), make_sample("1", (UNIT, 0)))])
    np.testing.assert_array_equal(result.curves["a"].precision, [1, 0.5])
    np.testing.assert_array_equal(result.curves["a"].recall, [1, 1])


def test_highest_score_matches_rather_than_highest_iou():
    detections = make_detections((UNIT, 0, 0.3), ((0, 0, 9, 7), 0, 0.9))
    result = evaluate([(detections, make_sample("1", (UNIT, 0)))])
    np.testing.assert_array_equal(result.curves["a"].scores, np.float32([0.9, 0.3]))
    np.testing.assert_array_equal(result.curves["a"].precision, [1, 0.5])


def test_matched_object_is_not_replaced_by_the_second_best():
    # Both detections have their highest IoU with the first object; the second object is missed.
    sample = make_sample("1", (UNIT, 0), ((0, 2, 9, 11), 0))
    result = evaluate([(make_detections((UNIT, 0, 0.9), (UNIT, 0, 0.8)), sample)])
    np.testing.assert_array_equal(result.curves["a"].recall, [0.5, 0.5])


def test_first_object_wins_among_equal_ious():
    box = (0.0, 1.0, 9.0, 10.0)  # same IoU with the object above and below
    above, below = ((0, 0, 9, 9), 0), ((0, 2, 9, 11), 0)
    difficult_first = make_sample("1", (*above, True), below)
    difficult_last = make_sample("1", above, (*below, True))
    assert evaluate([(make_detections((box, 0, 0.9)), difficult_first)]).curves["a"].recall[-1] == 0
    assert evaluate([(make_detections((box, 0, 0.9)), difficult_last)]).curves["a"].recall[-1] == 1


def test_iou_equal_to_the_threshold_matches():
    # 10 x 10 object, 10 x 5 detection inside: 50 / 100. A thousandth of a pixel less does not match.
    sample = make_sample("1", (UNIT, 0))
    assert evaluate([(make_detections(((0, 0, 9, 4), 0, 0.9)), sample)]).mean_ap == 1
    assert evaluate([(make_detections(((0, 0, 9, 3.999), 0, 0.9)), sample)]).mean_ap == 0
    assert evaluate([(make_detections(((0, 0, 9, 4), 0, 0.9)), sample)], iou=0.51).mean_ap == 0


def test_boxes_are_inclusive():
    # Inclusive: 3 x 3 = 9 of 25 pixels, 0.36; continuous corners would give 4 of 16.
    sample = make_sample("1", ((0, 0, 4, 4), 0))
    detections = make_detections(((0, 0, 2, 2), 0, 0.9))
    assert evaluate([(detections, sample)], iou=0.36).mean_ap == 1
    assert evaluate([(detections, sample)], iou=0.361).mean_ap == 0
    # A box of one pixel has an area.
    dot = (7, 7, 7, 7)
    assert evaluate([(make_detections((dot, 0, 0.9)), make_sample("1", (dot, 0)))], iou=1.0).mean_ap == 1


def test_adjacent_and_inverted_boxes_have_no_iou():
    sample = make_sample("1", (UNIT, 0))
    result = evaluate([(make_detections(((10, 0, 19, 9), 0, 0.9), ((9, 9, 0, 0), 0, 0.8)), sample)], iou=1e-9)
    np.testing.assert_array_equal(result.curves["a"].recall, [0, 0])


def test_detections_match_only_in_their_class_and_image():
    images = [
        (make_detections((UNIT, 1, 0.9)), make_sample("1", (UNIT, 0))),
        (make_detections((UNIT, 0, 0.9)), make_sample("2", (UNIT, 1))),
    ]
    assert evaluate(images).ap_per_class == {"a": 0, "b": 0}


def test_class_without_positives_is_nan_and_excluded_from_the_mean():
    images = [(make_detections((UNIT, 0, 0.9), (UNIT, 1, 0.8)), make_sample("1", (UNIT, 0), (UNIT, 1, True)))]
    result = evaluate(images)
    assert result.ap_per_class["a"] == result.mean_ap == 1
    assert math.isnan(result.ap_per_class["b"])
    assert "b" not in result.curves
    assert result.as_dict()["ap_per_class"] == {"a": 1, "b": None}


def test_class_without_detections_has_zero_ap():
    result = evaluate([(make_detections((UNIT, 0, 0.9)), make_sample("1", (UNIT, 0), (UNIT, 1)))])
    assert result.ap_per_class == {"a": 1, "b": 0}
    assert result.mean_ap == 0.5
    assert len(result.curves["b"].recall) == 0


def test_metric_without_images_is_nan():
    result = VOCMetric(["a"]).result()
    assert math.isnan(result.mean_ap)
    assert result.images == 0
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["mAP"] is None


def test_detections_in_empty_images_are_false_positives():
    images = [
        (make_detections((UNIT, 0, 0.9)), make_sample("empty")),
        (make_detections(), make_sample("missed", (UNIT, 0))),
        (make_detections((UNIT, 0, 0.8)), make_sample("matched", (UNIT, 0))),
        (make_detections(), make_sample("empty too")),
    ]
    result = evaluate(images)
    assert result.images == 4
    assert result.positives["a"] == 2
    np.testing.assert_array_equal(result.curves["a"].precision, [0, 0.5])
    assert result.mean_ap == 0.25


def test_equal_scores_keep_their_order():
    correct, wrong = (UNIT, 0, 0.5), ((50, 50, 59, 59), 0, 0.5)
    assert evaluate([(make_detections(correct, wrong), make_sample("1", (UNIT, 0)))]).mean_ap == 1
    assert evaluate([(make_detections(wrong, correct), make_sample("1", (UNIT, 0)))]).mean_ap == 0.5
    # Enough images for an unstable sort to fail.
    images = [(make_detections(correct), make_sample(f"{i}", (UNIT, 0))) for i in range(300)]
    images += [(make_detections(wrong), make_sample(f"x{i}")) for i in range(300)]
    assert evaluate(images).mean_ap == pytest.approx(1, abs=1e-12)


def test_images_may_be_added_after_a_result():
    metric = VOCMetric(["a"], "voc12")
    metric.add(make_detections((UNIT, 0, 0.9)), make_sample("1", (UNIT, 0)))
    assert metric.result().mean_ap == metric.result().mean_ap == 1
    metric.add(make_detections(), make_sample("2", (UNIT, 0)))
    assert metric.result().mean_ap == 0.5


# ---- interpolations ----


def ten_objects(matched: int, false_positives: int = 1) -> List[Tuple[Detections, Sample]]:
    """Ten objects: `matched` detected first, then false positives, then the remaining objects."""
    images = [(make_detections((UNIT, 0, 0.9)), make_sample(f"{i}", (UNIT, 0))) for i in range(matched)]
    images += [(make_detections((UNIT, 0, 0.5)), make_sample(f"wrong {i}")) for i in range(false_positives)]
    return images + [
        (make_detections((UNIT, 0, 0.1)), make_sample(f"{i}", (UNIT, 0))) for i in range(matched, 10)
    ]


def test_voc07_averages_eleven_points():
    # Recall 0.5 at precision 1, 10 false positives, then recall 1 at precision 10 / 20.
    assert evaluate(ten_objects(5, 10), "voc07").mean_ap == pytest.approx((6 * 1 + 5 * 0.5) / 11, abs=1e-12)


def test_voc12_is_the_area_under_the_envelope():
    # Half of the recall at precision 1, half at 10 / 20.
    assert evaluate(ten_objects(5, 10), "voc12").mean_ap == pytest.approx(0.75, abs=1e-12)


@pytest.mark.parametrize("hits", range(11))
def test_recall_points_in_floating_point(hits):
    """0.1 * 3, 0.1 * 6 and 0.1 * 7 are one bit above 3 / 10, 6 / 10 and 7 / 10."""
    images = ten_objects(hits, 0)[:hits] + [
        (make_detections(), make_sample(f"{i}", (UNIT, 0))) for i in range(hits, 10)
    ]
    reached = hits + 1 - (hits in (3, 6, 7)) if hits else 0
    assert evaluate(images, "voc07").mean_ap * 11 == pytest.approx(reached, abs=1e-9)


# ---- invalid input ----


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["score", "box", "truth"])
def test_number_that_is_not_finite_names_the_image(value, where):
    box = (0, 0, value, 9)
    detections = make_detections((box if where == "box" else UNIT, 0, value if where == "score" else 0.5))
    sample = make_sample("000042", (box if where == "truth" else UNIT, 0))
    with pytest.raises(DataError, match="'000042'"):
        evaluate([(detections, sample)])


@pytest.mark.parametrize("label", [-1, 2])
def test_label_out_of_range_names_the_image(label):
    with pytest.raises(DataError, match=rf"'000042'.*label {label}\b"):
        evaluate([(make_detections((UNIT, label, 0.5)), make_sample("000042"))])
    with pytest.raises(DataError, match=rf"'000042'.*label {label}\b"):
        evaluate([(make_detections(), make_sample("000042", (UNIT, label)))])


def test_image_added_twice_is_refused():
    with pytest.raises(DataError, match="'1'"):
        evaluate([(make_detections(), make_sample("1")), (make_detections(), make_sample("1"))])


def test_detections_of_an_unknown_image_are_refused():
    metric = VOCMetric(["a"])
    with pytest.raises(DataError, match="'7'"):
        metric.add_detections(["7"], make_detections((UNIT, 0, 0.5)))


def test_arrays_of_different_lengths_are_refused():
    broken = Detections(np.zeros((2, 4)), np.zeros(2, np.int32), np.zeros(3))
    with pytest.raises(DataError, match="'000042'"):
        VOCMetric(["a"]).add(broken, make_sample("000042"))


@pytest.mark.parametrize(
    "arguments",
    [(["a"], "voc08"), ([], "voc07"), (["a", "a"], "voc07"), (["a"], "voc07", 0.0), (["a"], "voc07", 1.1)],
)
def test_invalid_options_are_refused(arguments):
    with pytest.raises(OptionError):
        VOCMetric(*arguments)


# ---- recall by size ----


def square(side: int, left: int = 0) -> Tuple[int, int, int, int]:
    """An inclusive box of `side` pixels."""
    return (left, 0, left + side - 1, side - 1)


def test_recall_by_size_of_the_objects():
    sides = [15, 16, 31, 32, 95, 96, 200]
    boxes = [square(side, 300 * number) for number, side in enumerate(sides)]
    sample = make_sample("1", *((box, number % 2) for number, box in enumerate(boxes)))
    found = [
        (boxes[0], 0, 0.02),
        (boxes[2], 0, 0.9),
        (boxes[2], 0, 0.8),
        (boxes[3], 0, 0.9),
        (boxes[6], 0, 0.5),
    ]
    sizes = evaluate([(make_detections(*found), sample)]).sizes
    assert [(size.name, size.objects, size.matched) for size in sizes] == [
        ("below 16", 1, 1), ("16 to 32", 2, 1), ("32 to 96", 2, 0), ("96 and more", 2, 1)
    ]  # fmt: skip
    assert [size.recall for size in sizes] == [1, 0.5, 0, 0.5]  # that of side 32 has another class


def test_size_is_the_root_of_the_area_and_difficult_objects_do_not_count():
    sample = make_sample("1", ((0, 0, 63, 3), 0), (square(10, 100), 0, True), (square(10, 200), 1))
    result = evaluate([(make_detections((square(10, 100), 0, 0.9), (square(10, 200), 1, 0.9)), sample)])
    assert [(size.objects, size.matched) for size in result.sizes] == [(1, 1), (1, 0), (0, 0), (0, 0)]
    rows = json.loads(json.dumps(result.as_dict(), allow_nan=False))["recall_by_size"]
    assert rows["below 16"] == {"objects": 1, "matched": 1, "recall": 1.0}
    assert rows["32 to 96"]["recall"] is None
    assert math.isnan(result.sizes[2].recall)
