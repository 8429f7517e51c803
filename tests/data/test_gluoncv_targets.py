"""`TargetGenerator`, called as GluonCV's generator and compared with it."""

from __future__ import annotations

import random
from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo.ssd.target import SSDTargetGenerator

from mnssd.boxes import STDS
from mnssd.data.gluoncv_targets import TargetGenerator
from mnssd.nn.anchors import make_anchors

ANCHORS = make_anchors([(8, 6), (4, 3), (2, 2), (1, 1), (1, 1), (1, 1)], (128, 96))


def padded(counts: List[int], seed: int = 0) -> Tuple[Any, Any]:
    """Boxes ``(B, M, 4)`` and labels ``(B, M, 1)`` for these numbers of boxes, padded with -1."""
    rng = np.random.default_rng(seed)
    boxes, labels = (
        np.full((len(counts), max(counts) + 1, 4), -1.0),
        np.full((len(counts), max(counts) + 1, 1), -1.0),
    )
    for image, count in enumerate(counts):
        first = rng.uniform(0, 70, (count, 2))
        boxes[image, :count] = np.hstack([first, first + rng.uniform(8, 60, (count, 2))])
        labels[image, :count, 0] = rng.integers(0, 5, count)
    return mx.nd.array(boxes), mx.nd.array(labels)


@pytest.mark.parametrize("counts", [[3], [1, 6, 2], [0, 4]])
@pytest.mark.parametrize("iou_thresh", [0.5, 0.35])
def test_same_as_gluoncv(counts: List[int], iou_thresh: float) -> None:
    generator = SSDTargetGenerator(iou_thresh=iou_thresh, stds=STDS, negative_mining_ratio=-1)
    anchors, (boxes, labels) = mx.nd.array(ANCHORS[None]), padded(counts)
    expected = [part.asnumpy() for part in generator(anchors, None, boxes, labels)]
    actual = [part.asnumpy() for part in TargetGenerator(iou_thresh)(anchors, None, boxes, labels)]
    assert [part.shape for part in actual] == [part.shape for part in expected]
    assert (actual[0] > 0).any()
    np.testing.assert_array_equal(actual[0], expected[0])
    for image, count in enumerate(counts):
        if count:
            np.testing.assert_allclose(actual[1][image], expected[1][image], rtol=1e-3, atol=1e-3)
            np.testing.assert_array_equal(actual[2][image], expected[2][image])
        else:  # GluonCV's are -inf, and 1
            assert not np.isfinite(expected[1][image]).all()
            assert (actual[1][image] == 0).all()
            assert (actual[2][image] == 0).all()


def test_other_anchors_in_the_next_call() -> None:
    generator, (boxes, labels) = TargetGenerator(), padded([4])
    first = generator(mx.nd.array(ANCHORS), None, boxes, labels)
    again = generator(mx.nd.array(ANCHORS[:60]), mx.nd.zeros((1, 60, 6)), boxes, labels)
    assert first[0].shape == (1, len(ANCHORS))
    assert again[0].shape == (1, 60)
    expected = TargetGenerator()(mx.nd.array(ANCHORS[:60]), None, boxes, labels)
    np.testing.assert_array_equal(again[1].asnumpy(), expected[1].asnumpy())


def test_in_the_training_transform_of_gluoncv() -> None:
    from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform

    rng, label = np.random.default_rng(0), np.array([[10, 20, 100, 90, 1, 0], [60, 5, 120, 60, 0, 0]], float)
    image = mx.nd.array(rng.integers(0, 255, (120, 160, 3)), dtype="uint8")
    outputs = []
    for own in (False, True):
        transform = SSDDefaultTrainTransform(128, 96, mx.nd.array(ANCHORS[None]))
        if own:
            transform._internal_target_generator = TargetGenerator()
        mx.random.seed(3)
        np.random.seed(3)
        random.seed(3)
        outputs.append([part.asnumpy() for part in transform(image, label)])
    np.testing.assert_array_equal(outputs[0][0], outputs[1][0])
    np.testing.assert_array_equal(outputs[0][1], outputs[1][1])
    np.testing.assert_allclose(outputs[0][2], outputs[1][2], atol=1e-3)
