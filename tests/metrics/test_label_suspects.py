"""Labels that look wrong: each kind of fault, planted into labels that a good detector agrees with."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnssd.data.sample import Detections, Sample
from mnssd.metrics.label_suspects import LabelFault, Suspect, find_suspects

CLASSES = ("cat", "dog")
Box = Tuple[float, float, float, float]


def sample(index: int, boxes: Sequence[Box], labels: Sequence[int], difficult: Sequence[bool] = ()) -> Sample:
    flags = np.array(difficult or [False] * len(labels), bool)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(str(index), f"{index}.jpg", array, np.array(labels, np.int32), flags, (400, 300))


def detections(boxes: Sequence[Box], labels: Sequence[int], scores: Sequence[float]) -> Detections:
    order = np.argsort(-np.array(scores, np.float32), kind="stable")
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4)[order], np.array(labels, np.int32)[order],
        np.array(scores, np.float32)[order],
    )  # fmt: skip


LEFT, RIGHT = (20.0, 20.0, 119.0, 119.0), (220.0, 50.0, 339.0, 169.0)


def good_pairs(count: int = 30) -> List[Tuple[Sample, Detections]]:
    """Images with a cat on the left and a dog on the right, detected well."""
    return [
        (sample(index, [LEFT, RIGHT], [0, 1]), detections([LEFT, RIGHT], [0, 1], [0.9, 0.8]))
        for index in range(count)
    ]


def first(
    pairs: List[Tuple[Sample, Detections]], labeled: Sample, found: Detections, fault: LabelFault
) -> Suspect:
    """The most suspicious one of a kind, which has to be in the image that is added."""
    suspects = find_suspects([*pairs, (labeled, found)], CLASSES)
    suspect = next(one for one in suspects if one.fault is fault)
    assert suspect.sample is labeled
    assert suspect.suspicion > 0.5
    others = [one for one in suspects if one.sample is not labeled]
    assert all(one.suspicion < 0.1 for one in others)
    return suspect


def test_each_fault_is_found_with_its_box() -> None:
    both = detections([LEFT, RIGHT], [0, 1], [0.95, 0.85])
    missing = first(good_pairs(), sample(99, [LEFT], [0]), both, LabelFault.MISSING)
    assert (missing.row, missing.label, tuple(missing.box)) == (-1, 1, RIGHT)
    confused = first(good_pairs(), sample(99, [LEFT, RIGHT], [0, 0]), both, LabelFault.CLASS)
    assert (confused.row, confused.label, tuple(confused.box)) == (1, 1, RIGHT)
    wide = (220.0, 50.0, 339.0, 299.0)
    loose = first(good_pairs(), sample(99, [LEFT, wide], [0, 1]), both, LabelFault.LOOSE)
    assert (loose.row, loose.label, tuple(loose.box)) == (1, 1, RIGHT)
    extra = (150.0, 200.0, 199.0, 279.0)
    spurious = first(good_pairs(), sample(99, [LEFT, RIGHT, extra], [0, 1, 1]), both, LabelFault.SPURIOUS)
    assert (spurious.row, spurious.label, tuple(spurious.box)) == (2, 1, extra)


def test_labels_that_the_detector_agrees_with_are_not_suspicious() -> None:
    suspects = find_suspects(good_pairs(), CLASSES)
    assert len(suspects) == 60
    assert max(suspect.suspicion for suspect in suspects) == 0


def test_difficult_objects_are_never_suspects() -> None:
    pairs = [*good_pairs(), (sample(99, [LEFT, RIGHT], [1, 0], [True, True]), detections([], [], []))]
    assert not [suspect for suspect in find_suspects(pairs, CLASSES) if suspect.sample.image_id == "99"]


def test_a_small_object_that_is_seldom_found_is_less_suspicious_than_a_large_one() -> None:
    small: Box = (0.0, 0.0, 9.0, 9.0)
    pairs = [*good_pairs(25)]
    for index in range(100, 125):  # of 25 small dogs one in five is found
        found = [(RIGHT, 1, 0.8)] + ([(small, 1, 0.7)] if index % 5 == 0 else [])
        pairs.append((sample(index, [RIGHT, small], [1, 1]), detections(*zip(*found))))
    lost = sample(999, [RIGHT, small], [1, 1])
    pairs.append((lost, detections([], [], [])))
    by_row = {one.row: one.suspicion for one in find_suspects(pairs, CLASSES) if one.sample is lost}
    assert by_row[0] > 0.9
    assert by_row[1] < 0.3


def test_faults_take_turns_and_each_is_ordered_by_suspicion() -> None:
    pairs, both = good_pairs(), detections([LEFT, RIGHT], [0, 1], [0.9, 0.8])
    for index in range(200, 203):
        pairs.append((sample(index, [LEFT], [0]), both))
        pairs.append((sample(index + 50, [LEFT, RIGHT], [0, 0]), both))
    suspects = find_suspects(pairs, CLASSES)
    wrong = [one for one in suspects if one.sample.image_id >= "200" and len(one.sample.image_id) == 3]
    faults = [one.fault for one in wrong if one.suspicion > 0.5]
    assert sorted(faults[:2]) == sorted(faults[2:4]) == [LabelFault.CLASS, LabelFault.MISSING]
    assert len(faults) == 6
    for fault in LabelFault:
        values = [one.suspicion for one in suspects if one.fault is fault]
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("pairs", [[], [(sample(0, [], []), detections([], [], []))]])
def test_nothing_to_compare(pairs: List[Tuple[Sample, Detections]]) -> None:
    assert find_suspects(pairs, CLASSES) == []


BOXES = st.tuples(st.floats(0, 150), st.floats(0, 150), st.floats(1, 150), st.floats(1, 150)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)
OBJECTS = st.lists(st.tuples(BOXES, st.integers(0, 1), st.floats(0.015625, 1, width=32)), max_size=6)


@given(st.lists(st.tuples(OBJECTS, OBJECTS), max_size=5))
def test_any_boxes_give_suspicions_from_0_to_1_and_each_label_once(images: list) -> None:
    pairs = []
    for index, (labels, found) in enumerate(images):
        boxes, classes = [box for box, _, _ in labels], [label for _, label, _ in labels]
        pairs.append((
            sample(index, boxes, classes),
            detections([b for b, _, _ in found], [c for _, c, _ in found], [s for _, _, s in found]),
        ))  # fmt: skip
    suspects = find_suspects(pairs, CLASSES)
    assert all(0 <= suspect.suspicion <= 1 for suspect in suspects)
    rows = [(one.sample.image_id, one.row) for one in suspects if one.row >= 0]
    assert len(rows) == len(set(rows)) == sum(len(labels) for labels, _ in images)
