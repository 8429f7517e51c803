"""Suppression in NumPy and OpenCV: equal to a plain one, and to MXNet's."""

from __future__ import annotations

from typing import List

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.boxes import iou
from mnssd.export.decoding import suppress


def plain(ids: np.ndarray, boxes: np.ndarray, threshold: float, most: int) -> List[int]:
    kept: List[int] = []
    for i in range(len(ids)):
        same = [j for j in kept if ids[j] == ids[i]]
        if len(kept) < most and not (same and iou(boxes[i], boxes[same]).max() > threshold):
            kept.append(i)
    return kept


def scene(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centers, sizes = rng.uniform(-20, 320, (count, 2)), rng.uniform(0.5, 200, (count, 2))
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1).astype(np.float32)
    return rng.integers(0, classes, count), boxes


@given(st.integers(0, 2**32 - 1), st.integers(0, 150), st.integers(1, 4), st.floats(0.2, 0.9))
@settings(max_examples=100, deadline=None)
def test_as_a_plain_suppression(seed: int, count: int, classes: int, threshold: float) -> None:
    ids, boxes = scene(seed, count, classes)
    for most in (200, 10):
        assert suppress(ids, boxes, threshold, most).tolist() == plain(ids, boxes, threshold, most)


def test_as_box_nms_of_mxnet() -> None:
    ids, boxes = scene(0, 400, 3)
    scores = np.linspace(1, 0.1, len(ids))
    rows = mx.nd.array(np.column_stack([ids, scores, boxes]))
    kept = mx.nd.contrib.box_nms(rows, overlap_thresh=0.45, topk=400, id_index=0).asnumpy()
    np.testing.assert_array_equal(boxes[suppress(ids, boxes, 0.45, 400)], kept[kept[:, 0] >= 0][:, 2:])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e30])
def test_boxes_that_are_not_finite_leave_the_others_alone(bad: float) -> None:
    ids, boxes = scene(1, 60, 3)
    expected = plain(ids, boxes, 0.45, 200)
    ids, boxes = np.append(ids, 1), np.append(boxes, np.full((1, 4), bad, np.float32), axis=0)
    assert [i for i in suppress(ids, boxes, 0.45, 200) if i < 60] == expected
