"""The VOC metric: published cases, every rule by hand, and a slow reading of the devkit's rules."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.sample import Detections, Sample
from mnssd.errors import DataError, OptionError
from mnssd.evaluate import voc
from mnssd.evaluate.voc import VOCMetric, VOCResult

Box = Tuple[float, float, float, float]
UNIT: Box = (0, 0, 9, 9)  # 10 x 10 pixels


def sample(image_id: str, *objects: Tuple, size: Tuple[int, int] = (100, 100)) -> Sample:
    """A sample of ``(box, label)`` or ``(box, label, difficult)``."""
    return Sample(
        image_id,
        f"{image_id}.jpg",
        np.array([o[0] for o in objects], np.float32).reshape(-1, 4),
        np.array([o[1] for o in objects], np.int32),
        np.array([len(o) > 2 and o[2] for o in objects], bool),
        size,
    )


def found(*detections: Tuple) -> Detections:
    """Detections of ``(box, label, score)``."""
    return Detections(
        np.array([d[0] for d in detections], np.float32).reshape(-1, 4),
        np.array([d[1] for d in detections], np.int32),
        np.array([d[2] for d in detections], np.float32),
    )


def measure(
    images: Sequence[Tuple[Detections, Sample]],
    metric: str = "voc12",
    iou: float = 0.5,
    classes: Sequence[str] = ("a", "b"),
) -> VOCResult:
    measuring = VOCMetric(classes, metric, iou)
    for detections, image in images:
        measuring.add(detections, image)
    return measuring.result()


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


# --- against the devkit's rules, read slowly -----------------------------------------------------


def slow_devkit_ap(images, label: int, metric: str, minimum: float) -> float:
    """One class, in loops, from the text of the devkit; boxes in its 1-based pixels."""
    truth: Dict[str, list] = {}
    positives = 0
    for _, image in images:
        here = []
        for box, its_label, difficult in zip(image.boxes, image.labels, image.difficult):
            if its_label == label:
                here.append({"box": [float(v) + 1 for v in box], "difficult": bool(difficult), "det": False})
                positives += not difficult
        truth[image.image_id] = here
    if positives == 0:
        return math.nan
    rows = []
    for detections, image in images:
        for box, its_label, score in zip(detections.boxes, detections.labels, detections.scores):
            if its_label == label:
                rows.append((image.image_id, float(score), [float(v) + 1 for v in box]))
    rows.sort(key=lambda row: -row[1])  # Python's sort is stable
    tp, fp = [], []
    for image_id, _, bb in rows:
        best_overlap, best = -math.inf, None
        for candidate in truth[image_id]:
            gt = candidate["box"]
            iw = min(bb[2], gt[2]) - max(bb[0], gt[0]) + 1
            ih = min(bb[3], gt[3]) - max(bb[1], gt[1]) + 1
            if iw > 0 and ih > 0:
                union = (
                    (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1)
                    + (gt[2] - gt[0] + 1) * (gt[3] - gt[1] + 1)
                    - iw * ih
                )
                if iw * ih / union > best_overlap:
                    best_overlap, best = iw * ih / union, candidate
        is_tp = is_fp = 0
        if best is not None and best_overlap >= minimum:
            if not best["difficult"]:
                if not best["det"]:
                    is_tp, best["det"] = 1, True
                else:
                    is_fp = 1
        else:
            is_fp = 1
        tp.append(is_tp)
        fp.append(is_fp)
    recall, precision = [], []
    for i in range(len(rows)):
        hits, counted = sum(tp[: i + 1]), sum(tp[: i + 1]) + sum(fp[: i + 1])
        recall.append(hits / positives)
        precision.append(hits / counted if counted else 0.0)
    if metric == "voc07":
        points = [0.1 * k for k in range(11)]
        return sum(max([p for r, p in zip(recall, precision) if r >= t], default=0) / 11 for t in points)
    recall, precision = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


# Few places and sizes, so that draws, duplicates and overlaps of exactly a half are common.
_boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.sampled_from([0, 1, 2, 4.5, 8]),
    st.sampled_from([0, 2, 5]),
    st.sampled_from([0, 4, 9, 9.25]),
    st.sampled_from([4, 9]),
)
_labels = st.sampled_from([0, 0, 1])
_objects = st.lists(st.tuples(_boxes, _labels, st.booleans()), max_size=5)
_found = st.lists(st.tuples(_boxes, _labels, st.sampled_from([0.1, 0.5, 0.5, 0.7, 0.9])), max_size=8)


@st.composite
def image_sets(draw):
    contents = draw(st.lists(st.tuples(_found, _objects), max_size=6))
    return [(found(*f), sample(f"{i}", *o)) for i, (f, o) in enumerate(contents)]


@settings(max_examples=300, deadline=None)
@given(
    image_sets(),
    st.sampled_from(voc.METRICS),
    st.sampled_from([0.1, 0.5, 0.75]),
    st.sampled_from([1, 3, 10**6]),
)
def test_equals_the_devkit_read_slowly(images, metric, iou, pairs_at_once):
    with pytest.MonkeyPatch.context() as patch:  # blocks of any size give the same
        patch.setattr(voc, "_PAIRS_AT_ONCE", pairs_at_once)
        result = measure(images, metric, iou)
    expected = [slow_devkit_ap(images, label, metric, iou) for label in (0, 1)]
    np.testing.assert_allclose(
        [result.ap_per_class["a"], result.ap_per_class["b"]], expected, rtol=0, atol=1e-12
    )
    finite = [ap for ap in expected if not math.isnan(ap)]
    assert (
        math.isnan(result.mean_ap)
        if not finite
        else result.mean_ap == pytest.approx(np.mean(finite), abs=1e-12)
    )


@settings(max_examples=50, deadline=None)
@given(image_sets(), st.randoms(use_true_random=False))
def test_without_ties_the_order_of_images_does_not_matter(images, random):
    distinct = iter(np.random.default_rng(len(images)).permutation(10**4).astype(np.float32) / 10**4)
    images = [
        (Detections(d.boxes, d.labels, np.array([next(distinct) for _ in d.scores], np.float32)), s)
        for d, s in images
    ]
    shuffled = list(images)
    random.shuffle(shuffled)
    np.testing.assert_equal(measure(shuffled).as_dict(), measure(images).as_dict())


def test_a_large_random_set_equals_the_devkit_read_slowly():
    rng = np.random.default_rng(7)
    images = []
    for i in range(60):
        corner = rng.uniform(0, 300, (rng.integers(0, 8), 2))
        boxes = np.hstack([corner, corner + rng.uniform(5, 150, corner.shape)])
        labels = rng.integers(0, 2, len(boxes))
        near = (
            boxes[rng.integers(0, len(boxes), 15)] + rng.normal(0, 12, (15, 4))
            if len(boxes)
            else np.zeros((0, 4))
        )
        detections = found(*zip(near, rng.integers(0, 2, len(near)), rng.integers(0, 50, len(near)) / 50))
        images.append((detections, sample(f"{i}", *zip(boxes, labels, rng.random(len(boxes)) < 0.2))))
    for metric in voc.METRICS:
        result = measure(images, metric)
        for label, name in enumerate(result.classes):
            expected = slow_devkit_ap(images, label, metric, 0.5)
            assert 0.05 < expected < 0.95  # or the comparison would show little
            assert result.ap_per_class[name] == pytest.approx(expected, abs=1e-12)


# --- published cases -----------------------------------------------------------------------------


def rows_of(path: Path) -> List[List[str]]:
    return [line.split() for line in path.read_text().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("iou", "eleven", "every"),
    [
        (0.1, 0.3333333333, 0.3371980676),
        (0.3, 0.2683982683, 0.2456866804),
        (0.5, 0.0303030303, 0.0222222222),
        (0.75, 0, 0),
    ],
)
def test_published_case_1(shared, iou, eleven, every):
    folder = shared / "evaluator" / "case_1"

    def corners(x, y, width, height):
        x, y, width, height = map(float, (x, y, width, height))
        return (x, y, x + width, y + height)

    images = []
    for path in sorted((folder / "gts").glob("*.txt")):
        objects = [(corners(*row[1:]), 0) for row in rows_of(path)]
        detections = [(corners(*row[2:]), 0, float(row[1])) for row in rows_of(folder / "dets" / path.name)]
        images.append((found(*detections), sample(path.stem, *objects)))
    assert len(images) == 7
    assert measure(images, "voc07", iou, ["object"]).mean_ap == pytest.approx(eleven, abs=1e-6)
    assert measure(images, "voc12", iou, ["object"]).mean_ap == pytest.approx(every, abs=1e-6)


TOY = [(0.5, 88.64, 89.58), (0.75, 49.24, 50.97)]


def toy_in_voc_form(folder: Path):
    images = []
    for path in sorted((folder / "gts_vocpascal_format").glob("*.xml")):
        objects = []
        for element in ElementTree.parse(path).getroot().iter("object"):
            box = [
                float(element.find(f"bndbox/{side}").text) - 1 for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            objects.append((box, 0, element.find("difficult").text == "1"))
        rows = rows_of(folder / "dets_classname_abs_xyx2y2" / f"{path.stem}.txt")
        detections = [([float(v) - 1 for v in row[2:]], 0, float(row[1])) for row in rows]
        images.append((found(*detections), sample(path.stem, *objects)))
    return images


def toy_in_coco_form(folder: Path):
    truth = json.loads((folder / "gts_coco_format" / "toy_example_coco.JSON").read_text())
    answers = json.loads((folder / "dets_coco_format" / "coco_dets.json").read_text())
    answers = answers["annotations"] if isinstance(answers, dict) else answers

    def corners(x, y, width, height):
        return (x - 1, y - 1, x + width - 1, y + height - 1)

    images = []
    for entry in truth["images"]:
        objects = [(corners(*a["bbox"]), 0) for a in truth["annotations"] if a["image_id"] == entry["id"]]
        detections = [(corners(*a["bbox"]), 0, a["score"]) for a in answers if a["image_id"] == entry["id"]]
        images.append((found(*detections), sample(entry["file_name"], *objects)))
    return images


@pytest.mark.parametrize("read", [toy_in_voc_form, toy_in_coco_form])
@pytest.mark.parametrize(("iou", "eleven", "every"), TOY)
def test_published_toy(shared, read, iou, eleven, every):
    images = read(shared / "evaluator" / "toy")
    assert len(images) == 10
    assert round(100 * measure(images, "voc07", iou, ["cat"]).mean_ap, 2) == eleven
    assert round(100 * measure(images, "voc12", iou, ["cat"]).mean_ap, 2) == every
