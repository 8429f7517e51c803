"""Test-time flip: predictions averaged over an image and its mirror image."""

from __future__ import annotations

from typing import Any, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import fill, images
from scipy.spatial import cKDTree

from mnssd import zoo
from mnssd.graph.inference import inference_block

SIZES = [(300, 300), (160, 96)]


def detector(size: Tuple[int, int], head: str = "ssd") -> Any:
    net = zoo.build_detector(zoo.DetectorSpec(("cat", "dog"), "mobilenet_v2", 0.25, size, head=head))
    zoo.initialize(net)
    net(images(1, *size))
    fill(net.heads)
    return net


def mirrored_anchors(anchors: np.ndarray, width: int) -> np.ndarray:
    """Index of the mirror image of each anchor."""
    mirrored = anchors * [-1, 1, 1, 1] + [width, 0, 0, 0]
    distances, indices = cKDTree(anchors).query(mirrored)
    assert distances.max() < 1e-3
    return indices


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", ["ssd", "ssdlite"])
def test_predictions_are_the_mean_at_every_anchor(size: Tuple[int, int], head: str) -> None:
    net = detector(size, head)
    x = images(2, *size, seed=3)
    mirrored = mirrored_anchors(net.anchors, size[0])
    scores, boxes = (p.asnumpy() for p in net.heads(x))
    other_scores, other_boxes = (p.asnumpy() for p in net.heads(mx.nd.array(x.asnumpy()[:, :, :, ::-1])))
    net.set_test_flip(True)
    mean_scores, mean_boxes = net._flip_averaged(mx.nd, x)
    np.testing.assert_allclose(
        mean_scores.asnumpy(), (scores + other_scores[:, mirrored]) / 2, rtol=0, atol=1e-4
    )
    expected = (boxes + other_boxes[:, mirrored] * [-1, 1, 1, 1]) / 2
    np.testing.assert_allclose(mean_boxes.asnumpy(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("fast", [False, True], ids=["hybrid", "fused"])
def test_mirror_image_has_mirrored_detections(fast: bool) -> None:
    size = (160, 96)
    net = detector(size)
    net.set_nms(post_nms=20)
    x = images(1, *size, seed=5)
    before = [array.asnumpy() for array in net(x)]
    net.set_test_flip(True)
    predict = inference_block(net, size, mx.cpu()) if fast else net
    ids, scores, boxes = (array.asnumpy()[0] for array in predict(x))
    mirrored_outputs = predict(mx.nd.array(x.asnumpy()[:, :, :, ::-1]))
    other_ids, other_scores, other_boxes = (array.asnumpy()[0] for array in mirrored_outputs)
    assert (ids >= 0).any()
    np.testing.assert_array_equal(ids, other_ids)
    np.testing.assert_allclose(scores, other_scores, rtol=0, atol=1e-4)
    mirrored_boxes = np.stack(
        [size[0] - other_boxes[:, 2], other_boxes[:, 1], size[0] - other_boxes[:, 0], other_boxes[:, 3]], 1
    )
    np.testing.assert_allclose(boxes[ids[:, 0] >= 0], mirrored_boxes[ids[:, 0] >= 0], rtol=0, atol=1e-2)
    assert np.abs(before[1][0] - scores).max() > 1e-4  # a single image has other scores
    net.set_test_flip(False)
    for array, again in zip(before, net(x)):
        np.testing.assert_allclose(array, again.asnumpy(), rtol=0, atol=1e-4)
