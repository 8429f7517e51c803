"""The VOC metric: every rule by hand, both interpolations, bad input."""

from __future__ import annotations

import json
import math
from typing import List, Tuple

import numpy as np
import pytest
from helpers.metrics import UNIT, found, measure, sample

from mnssd.data.sample import Detections, Sample
from mnssd.errors import DataError, OptionError
from mnssd.metrics import voc
from mnssd.metrics.voc import VOCMetric

# --- the rules, one by one ---------------------------------------------------------------------


def test_perfect_detections_score_one():
    result = measure([(found((UNIT, 0, 0.9)), sample("1", (UNIT, 0)))])
    assert result.ap_per_class["a"] == result.mean_ap == 1
    assert (result.images, result.positives, result.detections) == (1, {"a": 1, "b": 0}, {"a": 1, "b": 0})


@pytest.mark.parametrize("metric", voc.METRICS)
def test_a_match_on_a_difficult_object_counts_neither_way(metric):
    there = sample("1", (UNIT, 0, True), ((50, 50, 59, 59), 0))
    detections = found((UNIT, 0, 0.9), (UNIT, 0, 0.8), ((50, 50, 59, 59), 0, 0.7))
    result = measure([(detections, there)], metric)
    assert result.mean_ap == pytest.approx(1, abs=1e-12)
    assert result.positives["a"] == 1
    np.testing.assert_array_equal(result.curves["a"].recall, [0, 0, 1])


def test_only_matches_on_difficult_objects_score_zero_not_nan():
    there = sample("1", (UNIT, 0, True), ((50, 50, 59, 59), 0))
    assert measure([(found((UNIT, 0, 0.9)), there)], "voc07").mean_ap == 0


def test_difficult_objects_take_part_in_the_choice_of_the_best_overlap():
    # The detection overlaps the difficult object most, so it is ignored although it would match
    # the other one too.
    there = sample("1", (UNIT, 0), ((0, 1, 9, 10), 0, True))
    result = measure([(found(((0, 1, 9, 10), 0, 0.9)), there)])
    assert result.mean_ap == 0
    np.testing.assert_array_equal(result.curves["a"].recall, [0])


def test_a_second_match_is_a_false_positive():
    result = measure([(found((UNIT, 0, 0.9), (UNIT, 0, 0.8)), sample("1", (UNIT, 0)))])
    np.testing.assert_array_equal(result.curves["a"].precision, [1, 0.5])
    np.testing.assert_array_equal(result.curves["a"].recall, [1, 1])


def test_the_match_goes_to_the_best_score_not_to_the_best_overlap():
    detections = found((UNIT, 0, 0.3), ((0, 0, 9, 7), 0, 0.9))
    result = measure([(detections, sample("1", (UNIT, 0)))])
    np.testing.assert_array_equal(result.curves["a"].scores, np.float32([0.9, 0.3]))
    np.testing.assert_array_equal(result.curves["a"].precision, [1, 0.5])


def test_a_taken_object_is_not_passed_over_for_the_second_best():
    # Both detections overlap the first object most; the second object stays missed.
    there = sample("1", (UNIT, 0), ((0, 2, 9, 11), 0))
    result = measure([(found((UNIT, 0, 0.9), (UNIT, 0, 0.8)), there)])
    np.testing.assert_array_equal(result.curves["a"].recall, [0.5, 0.5])


def test_the_first_object_of_the_annotation_wins_a_draw():
    at = (0.0, 1.0, 9.0, 10.0)  # overlaps the one above and the one below alike
    above, below = ((0, 0, 9, 9), 0), ((0, 2, 9, 11), 0)
    difficult_first = sample("1", (*above, True), below)
    difficult_last = sample("1", above, (*below, True))
    assert measure([(found((at, 0, 0.9)), difficult_first)]).curves["a"].recall[-1] == 0
    assert measure([(found((at, 0, 0.9)), difficult_last)]).curves["a"].recall[-1] == 1


def test_an_overlap_of_exactly_the_threshold_counts():
    # 10 x 10 object, 10 x 5 detection inside: 50 / 100. A thousandth of a pixel less does not.
    there = sample("1", (UNIT, 0))
    assert measure([(found(((0, 0, 9, 4), 0, 0.9)), there)]).mean_ap == 1
    assert measure([(found(((0, 0, 9, 3.999), 0, 0.9)), there)]).mean_ap == 0
    assert measure([(found(((0, 0, 9, 4), 0, 0.9)), there)], iou=0.51).mean_ap == 0


def test_boxes_are_inclusive():
    # With + 1: 3 x 3 = 9 common of 25, .36 (without it 4 of 28: .143).
    there = sample("1", ((0, 0, 4, 4), 0))
    detections = found(((0, 0, 2, 2), 0, 0.9))
    assert measure([(detections, there)], iou=0.36).mean_ap == 1
    assert measure([(detections, there)], iou=0.361).mean_ap == 0
    # A box of one pixel has an area.
    dot = (7, 7, 7, 7)
    assert measure([(found((dot, 0, 0.9)), sample("1", (dot, 0)))], iou=1.0).mean_ap == 1


def test_neighbouring_boxes_do_not_touch():
    # Columns 0 - 9 and 10 - 19; one that ends inside out touches nothing either.
    there = sample("1", (UNIT, 0))
    result = measure([(found(((10, 0, 19, 9), 0, 0.9), ((9, 9, 0, 0), 0, 0.8)), there)], iou=1e-9)
    np.testing.assert_array_equal(result.curves["a"].recall, [0, 0])


def test_classes_and_images_do_not_mix():
    images = [
        (found((UNIT, 1, 0.9)), sample("1", (UNIT, 0))),
        (found((UNIT, 0, 0.9)), sample("2", (UNIT, 1))),
    ]
    assert measure(images).ap_per_class == {"a": 0, "b": 0}


def test_a_class_without_positives_is_nan_and_left_out_of_the_mean():
    images = [(found((UNIT, 0, 0.9), (UNIT, 1, 0.8)), sample("1", (UNIT, 0), (UNIT, 1, True)))]
    result = measure(images)
    assert result.ap_per_class["a"] == result.mean_ap == 1
    assert math.isnan(result.ap_per_class["b"])
    assert "b" not in result.curves
    assert result.as_dict()["ap_per_class"] == {"a": 1, "b": None}


def test_a_class_with_positives_and_no_detections_scores_zero():
    result = measure([(found((UNIT, 0, 0.9)), sample("1", (UNIT, 0), (UNIT, 1)))])
    assert result.ap_per_class == {"a": 1, "b": 0}
    assert result.mean_ap == 0.5
    assert len(result.curves["b"].recall) == 0


def test_nothing_at_all():
    result = VOCMetric(["a"]).result()
    assert math.isnan(result.mean_ap)
    assert result.images == 0
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["mAP"] is None


def test_empty_images_count_and_their_detections_are_false_positives():
    images = [
        (found((UNIT, 0, 0.9)), sample("empty")),
        (found(), sample("nothing found", (UNIT, 0))),
        (found((UNIT, 0, 0.8)), sample("right", (UNIT, 0))),
        (found(), sample("nothing to find")),
    ]
    result = measure(images)
    assert result.images == 4
    assert result.positives["a"] == 2
    np.testing.assert_array_equal(result.curves["a"].precision, [0, 0.5])
    assert result.mean_ap == 0.25


def test_equal_scores_keep_the_order_of_adding():
    right, wrong = (UNIT, 0, 0.5), ((50, 50, 59, 59), 0, 0.5)
    assert measure([(found(right, wrong), sample("1", (UNIT, 0)))]).mean_ap == 1
    assert measure([(found(wrong, right), sample("1", (UNIT, 0)))]).mean_ap == 0.5
    # ... over a set so large that an unstable sort would show.
    images = [(found(right), sample(f"{i}", (UNIT, 0))) for i in range(300)]
    images += [(found(wrong), sample(f"x{i}")) for i in range(300)]
    assert measure(images).mean_ap == pytest.approx(1, abs=1e-12)


def test_a_result_may_be_asked_for_in_between():
    measuring = VOCMetric(["a"], "voc12")
    measuring.add(found((UNIT, 0, 0.9)), sample("1", (UNIT, 0)))
    assert measuring.result().mean_ap == measuring.result().mean_ap == 1
    measuring.add(found(), sample("2", (UNIT, 0)))
    assert measuring.result().mean_ap == 0.5


# --- the two interpolations ----------------------------------------------------------------------


def of_ten(hits: int, then_wrong: int = 1) -> List[Tuple[Detections, Sample]]:
    """Ten objects of which the first `hits` are found, then false positives, then all the others."""
    images = [(found((UNIT, 0, 0.9)), sample(f"{i}", (UNIT, 0))) for i in range(hits)]
    images += [(found((UNIT, 0, 0.5)), sample(f"wrong {i}")) for i in range(then_wrong)]
    return images + [(found((UNIT, 0, 0.1)), sample(f"{i}", (UNIT, 0))) for i in range(hits, 10)]


def test_eleven_points_by_hand():
    # Recall .5 at precision 1; then 10 wrong; the rest ends at recall 1 with precision 10 / 20.
    assert measure(of_ten(5, 10), "voc07").mean_ap == pytest.approx((6 * 1 + 5 * 0.5) / 11, abs=1e-12)


def test_area_by_hand():
    # .5 of the recall at precision 1, .5 at the envelope's 10 / 20.
    assert measure(of_ten(5, 10), "voc12").mean_ap == pytest.approx(0.75, abs=1e-12)


@pytest.mark.parametrize("hits", range(11))
def test_which_points_a_recall_of_exactly_tenths_reaches(hits):
    """0.1 * 3, 0.1 * 6 and 0.1 * 7 are a bit above 3 / 10, 6 / 10 and 7 / 10, which fall short of them."""
    images = of_ten(hits, 0)[:hits] + [(found(), sample(f"{i}", (UNIT, 0))) for i in range(hits, 10)]
    reached = hits + 1 - (hits in (3, 6, 7)) if hits else 0
    assert measure(images, "voc07").mean_ap * 11 == pytest.approx(reached, abs=1e-9)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["score", "box", "truth"])
def test_numbers_that_are_not_finite_name_the_image(bad, where):
    box = (0, 0, bad, 9)
    detections = found((box if where == "box" else UNIT, 0, bad if where == "score" else 0.5))
    there = sample("000042", (box if where == "truth" else UNIT, 0))
    with pytest.raises(DataError, match="'000042'"):
        measure([(detections, there)])


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_out_of_range_name_the_image(label):
    with pytest.raises(DataError, match=r"'000042'.*2 classes"):
        measure([(found((UNIT, label, 0.5)), sample("000042"))])
    with pytest.raises(DataError, match=r"'000042'.*2 classes"):
        measure([(found(), sample("000042", (UNIT, label)))])


def test_an_image_counts_once():
    with pytest.raises(DataError, match="'1' was measured twice"):
        measure([(found(), sample("1")), (found(), sample("1"))])


def test_detections_of_an_unknown_image():
    measuring = VOCMetric(["a"])
    with pytest.raises(DataError, match="'7'"):
        measuring.add_detections(["7"], found((UNIT, 0, 0.5)))


def test_arrays_of_different_lengths():
    broken = Detections(np.zeros((2, 4)), np.zeros(2, np.int32), np.zeros(3))
    with pytest.raises(DataError, match="'000042'"):
        VOCMetric(["a"]).add(broken, sample("000042"))


@pytest.mark.parametrize(
    "arguments",
    [(["a"], "voc08"), ([], "voc07"), (["a", "a"], "voc07"), (["a"], "voc07", 0.0), (["a"], "voc07", 1.1)],
)
def test_options_that_make_no_sense(arguments):
    with pytest.raises(OptionError):
        VOCMetric(*arguments)
