"""Target assignment, compared with GluonCV's."""

from __future__ import annotations

import numpy as np
import pytest

from mnssd.boxes import STDS, corners
from mnssd.data.targets import IGNORED_IOU, TargetAssigner


def grid_anchors(size=300, cells=(10, 5, 3, 1)):
    """SSD-like anchors: three shapes in every cell of four feature maps."""
    rows = []
    for n, side in zip(cells, (60, 110, 170, 260)):
        for y in range(n):
            for x in range(n):
                center = ((x + 0.5) * size / n, (y + 0.5) * size / n)
                rows += [
                    (*center, side, side),
                    (*center, side * 1.4, side / 1.4),
                    (*center, side / 1.4, side * 1.4),
                ]
    return np.array(rows, np.float32)


def gluoncv_targets(anchors, boxes, labels, padding=2):
    mx = pytest.importorskip("mxnet")
    from gluoncv.model_zoo.ssd.target import SSDTargetGenerator

    generator = SSDTargetGenerator(iou_thresh=0.5, stds=STDS, negative_mining_ratio=-1)
    pad = np.full((padding, 4), -1, np.float32)
    gt_boxes = mx.nd.array(np.concatenate([boxes.reshape(-1, 4), pad])[None])
    gt_ids = mx.nd.array(np.concatenate([labels, pad[:, 0]])[None, :, None])
    classes, offsets, _ = generator(mx.nd.array(anchors[None]), None, gt_boxes, gt_ids)
    return classes[0].asnumpy(), offsets[0].asnumpy()


def random_boxes(rng, count, size=300):
    corners = rng.uniform(0, size, (count, 2, 2))
    return np.hstack([corners.min(1), corners.max(1) + 1]).astype(np.float32)


def assert_same(anchors, boxes, labels):
    classes, offsets = TargetAssigner(anchors)(boxes, labels)
    expected_classes, expected_offsets = gluoncv_targets(anchors, boxes, labels)
    np.testing.assert_array_equal(classes, expected_classes)
    # GluonCV recomputes anchor centers from rounded corners: 1e-5 pixels / 0.1 / width.
    np.testing.assert_allclose(offsets, expected_offsets, rtol=1e-4, atol=1e-4)
    assert classes.dtype == np.int32
    assert offsets.dtype == np.float32
    return classes, offsets


def test_random_boxes_match_gluoncv():
    rng, anchors = np.random.default_rng(0), grid_anchors()
    positives = 0
    for _trial in range(12):
        count = rng.integers(1, 25)
        classes, _ = assert_same(anchors, random_boxes(rng, count), rng.integers(0, 20, count))
        positives += (classes > 0).sum()
    assert positives > 100


A, B = corners(grid_anchors())[[3, 40]]


@pytest.mark.parametrize(
    "boxes",
    [
        [A],  # equal to an anchor
        [A, A],  # one anchor is best for two boxes with equal IoU
        [A, A + 1, A - 1],  # one anchor is best for three boxes
        [[140, 140, 160, 160]],  # several anchors tie
        [[120, 120, 180, 180], [140, 140, 160, 160], [149, 149, 151, 151]],  # nested, concentric
        [[-50, -80, 900, 700]],  # larger than the image
        [[-50, -80, 900, 700], B],
        [[10, 10, 11, 11]],  # tiny: below the threshold for all anchors, still matches one
        [A] * 12,  # more equal boxes than nearby anchors
    ],
    ids=[
        "exact",
        "two-equal",
        "three-near",
        "ties",
        "nested",
        "huge",
        "huge-and-normal",
        "tiny",
        "twelve-equal",
    ],
)
def test_degenerate_boxes_match_gluoncv(boxes):
    boxes = np.array(boxes, np.float32)
    classes, _ = assert_same(grid_anchors(), boxes, np.arange(len(boxes)))
    # Every box has at least one anchor.
    assert set(classes) - {0} == set(range(1, len(boxes) + 1))


def test_tied_anchors_are_all_positive_below_the_threshold():
    anchors = np.array([[10, 10, 4, 4], [20, 10, 4, 4], [90, 90, 4, 4]], np.float32)
    boxes = np.array([[5, 0, 25, 20]], np.float32)
    classes, _ = assert_same(anchors, boxes, np.array([2]))
    assert classes.tolist() == [3, 3, 0]


def test_image_without_boxes_is_all_background():
    anchors = grid_anchors()
    classes, offsets = TargetAssigner(anchors)(np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    assert classes.shape == (len(anchors),)
    assert not classes.any()
    assert offsets.shape == (len(anchors), 4)
    assert not offsets.any()


def test_box_without_area_or_outside_matches_no_anchor():
    # GluonCV matches such a box, if it is first, to every anchor without any overlap.
    anchors = grid_anchors()
    good = np.array([[100, 100, 180, 190]], np.float32)
    expected = TargetAssigner(anchors)(good, np.array([4]))
    for unusable in ([50, 50, 50, 50], [5000, 5000, 5010, 5010], [60, 60, 40, 40]):
        boxes = np.concatenate([np.array([unusable], np.float32), good])
        classes, offsets = TargetAssigner(anchors)(boxes, np.array([7, 4]))
        np.testing.assert_array_equal(classes, expected[0])
        np.testing.assert_array_equal(offsets, expected[1])


def test_more_boxes_than_anchors_match_gluoncv():
    anchors = grid_anchors()[:3]
    boxes = random_boxes(np.random.default_rng(1), 10)
    _classes, offsets = assert_same(anchors, boxes, np.arange(10))
    assert np.isfinite(offsets).all()


def test_box_order_does_not_matter():
    rng, anchors = np.random.default_rng(3), grid_anchors()
    boxes, labels, order = random_boxes(rng, 8), np.arange(8), rng.permutation(8)
    targets = TargetAssigner(anchors)(boxes, labels)
    reordered = TargetAssigner(anchors)(boxes[order], labels[order])
    np.testing.assert_array_equal(targets[0], reordered[0])
    np.testing.assert_array_equal(targets[1], reordered[1])


def test_anchors_of_ignored_boxes_are_neither_positive_nor_background():
    anchors = grid_anchors()
    boxes = np.array([[100, 100, 180, 190], [20, 20, 90, 80], [104, 96, 176, 192]], np.float32)
    plain, offsets = TargetAssigner(anchors)(boxes[:1], np.array([4]))
    classes, same = TargetAssigner(anchors)(boxes, np.array([4, -1, -1]))
    overlap = TargetAssigner(anchors).iou(boxes[1:]).max(axis=0)
    assert (classes[plain == 0] == np.where(overlap >= IGNORED_IOU, -1, 0)[plain == 0]).all()
    assert (classes == -1).sum() > 2
    np.testing.assert_array_equal(classes[plain > 0], plain[plain > 0])
    np.testing.assert_array_equal(same, offsets)
    only_ignored, _ = TargetAssigner(anchors)(boxes[1:], np.array([-1, -1]))
    np.testing.assert_array_equal(only_ignored, np.where(overlap >= IGNORED_IOU, -1, 0))
