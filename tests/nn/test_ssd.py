"""SSD detectors: predictions and anchors, decoding and NMS."""

from __future__ import annotations

import functools
import re
from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import count as count_costs
from helpers.networks import images
from helpers.ssd import CLASSES, NETWORKS, detector, numbers
from mxnet.gluon.block import HybridBlock

from mnssd.nn import SSD, MobileNetV2
from mnssd.nn.heads import SSDHeads
from mnssd.nn.ssd import check_size


@functools.lru_cache(maxsize=None)
def shared_detector(network: str = "v2", head: str = "ssd", size: Tuple[int, int] = (96, 96)) -> SSD:
    """A detector shared by tests that change only `set_nms`."""
    return detector(network, head, size)


# ---- an independent decoder --------------------------------------------------------------------------------


def decode(
    cls_preds: np.ndarray, box_preds: np.ndarray, anchors: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """One image: probabilities ``(A, C + 1)`` and corners ``(A, 4)`` (SSD paper, section 2.2)."""
    exp = np.exp(cls_preds - cls_preds.max(1, keepdims=True))
    probabilities = exp / exp.sum(1, keepdims=True)
    centers = box_preds[:, :2] * 0.1 * anchors[:, 2:] + anchors[:, :2]
    sizes = np.exp(box_preds[:, 2:] * 0.2) * anchors[:, 2:]
    return probabilities, np.hstack([centers - sizes / 2, centers + sizes / 2])


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    corner, opposite = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    intersection = np.maximum(opposite - corner, 0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return intersection / (areas + (box[2:] - box[:2]).prod() - intersection)


def expected_detections(
    probabilities: np.ndarray, corners: np.ndarray, thresh: float, topk: int, post_nms: int
) -> List[Tuple[int, float, np.ndarray]]:
    """``(label, score, box)``, best first, after greedy NMS per class."""
    rows = [(float(s), c, a) for a, scores in enumerate(probabilities[:, 1:]) for c, s in enumerate(scores)]
    rows = sorted((row for row in rows if row[0] > 0.01), reverse=True)
    kept: List[Tuple[int, float, np.ndarray]] = []
    for score, label, anchor in rows[: topk if topk > 0 else None]:
        same = np.array([box for other, _, box in kept if other == label]).reshape(-1, 4)
        if (iou(corners[anchor], same) <= thresh).all():
            kept.append((label, score, corners[anchor]))
    return kept[:post_nms]


@pytest.mark.parametrize(
    ("network", "head", "size", "nms"),
    [
        ("v2", "ssd", (96, 96), (0.45, 400, 200)),
        ("v2", "ssd", (96, 96), (0.9, -1, 10**6)),
        ("v2", "ssd", (96, 96), (0.3, 50, 20)),
        ("v1", "ssdlite", (128, 96), (0.45, 400, 200)),
        ("v2", "ssdlite", (96, 160), (0.6, 100, 200)),
        ("v2", "ssdfpn", (96, 160), (0.3, 50, 20)),
    ],
)
def test_detections_match_an_independent_decoder(
    network: str, head: str, size: Tuple[int, int], nms: Any
) -> None:
    net = shared_detector(network, head, size)
    net.set_nms(*nms)
    x = images(2, *size)
    cls_preds, box_preds = numbers(net.heads(x))
    ids, scores, boxes = numbers(net(x))
    rows = min(nms[2], len(net.anchors) * len(CLASSES))
    assert [a.shape for a in (ids, scores, boxes)] == [(2, rows, 1), (2, rows, 1), (2, rows, 4)]
    for image in range(2):
        expected = expected_detections(*decode(cls_preds[image], box_preds[image], net.anchors), *nms)
        count = len(expected)
        assert count > 10
        assert ids[image, :count, 0].tolist() == [label for label, _, _ in expected]
        np.testing.assert_allclose(scores[image, :count, 0], [score for _, score, _ in expected], rtol=1e-4)
        np.testing.assert_allclose(
            boxes[image, :count], [box for _, _, box in expected], atol=0.01, rtol=1e-4
        )
        for output in (ids, scores, boxes):
            assert (output[image, count:] == -1).all()


# ---- sizes, anchors, costs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "head", "size"),
    [
        *[("v1", "ssd", size) for size in ((300, 300), (320, 320), (480, 320))],
        *[("v2", "ssdlite", size) for size in ((300, 300), (512, 512), (320, 480), (96, 96), (300, 96))],
        *[("v2", "ssdfpn", size) for size in ((300, 300), (512, 96), (96, 96))],
        ("v1", "ssdfpn", (320, 480)),
    ],
)
def test_one_prediction_per_anchor(network: str, head: str, size: Tuple[int, int]) -> None:
    """`map_sizes` and `anchors` match the maps and predictions of a forward pass."""
    net = SSD(NETWORKS[network](0.25, 1), ["a", "b"], size, head)
    net.initialize()
    x = mx.nd.zeros((1, 3, size[1], size[0]))
    maps = net.heads.feature_maps(x)
    assert net.map_sizes() == [(m.shape[3], m.shape[2]) for m in maps]
    cls_preds, box_preds = net.heads(x)
    assert cls_preds.shape == (1, len(net.anchors), 3)
    assert box_preds.shape == (1, len(net.anchors), 4)
    assert net.anchor_boxes.data().shape == (1, len(net.anchors), 4)


def test_feature_maps_at_300_pixels() -> None:
    net = SSD(MobileNetV2(0.25, 1), ["a"], (300, 300))
    assert net.map_sizes() == [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    assert net.heads._map_channels[2:] == [512, 256, 256, 128]
    assert len(net.anchors) == 2639


@pytest.mark.parametrize("corner", ["top right", "bottom left"])
def test_predictions_are_in_the_order_of_anchors(corner: str) -> None:
    """A change in a corner of the image changes mainly the predictions of the anchors there."""
    net = shared_detector("v1", size=(320, 192))
    x = images(1, 320, 192)
    changed = x.copy()
    if corner == "top right":
        changed[:, :, :32, 288:] += 3
    else:
        changed[:, :, 160:, :32] += 3
    # BatchNorm statistics are fixed, so a prediction depends only on its receptive field.
    finest = slice(0, 20 * 12 * 5)
    offset = net.anchors[finest, :2] - ((320, 0) if corner == "top right" else (0, 192))
    distance = np.abs(offset).max(1)
    for before, after in zip(numbers(net.heads(x)), numbers(net.heads(changed))):
        moved = np.abs(after - before)[0, finest].max(1)
        assert moved[distance < 32].min() > 100 * moved[distance > 200].max()


@pytest.mark.parametrize("side", [0, 32, 64, 97, 299, 301, 310, -32])
def test_invalid_size_is_refused(side: int) -> None:
    for size in ((side, 96), (96, side)):
        with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}.* {side}$"):
            check_size(size)


def test_ssdlite_cost_is_close_to_the_paper() -> None:
    """MobileNetV2 paper, table 6: 4.3 M parameters and 0.8 G multiply-adds at 320 pixels for 80 classes.

    Here 4.44 M and 0.854 G. The expansion of the first block (t = 1), which only the Gluon zoo has, costs
    1088 parameters and 26 M multiply-adds; five anchors on the finest map instead of TensorFlow's three 98 k
    and 39 M.
    """
    net = SSD(MobileNetV2(1.0, 1), [f"class {i}" for i in range(80)], (320, 320), "ssdlite")
    parameters, macs = count_costs(mx.sym.Group(list(net.heads(mx.sym.var("data")))), 320, 320)
    assert parameters == pytest.approx(4.44e6, rel=0.005)
    assert macs == pytest.approx(0.854e9, rel=0.005)


def test_invalid_head_and_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="head.*'lite'"):
        SSD(MobileNetV2(0.25, 1), ["a"], (96, 96), "lite")
    invalid: List[Any] = [[], "cat", ["a", "a"], [1], [""]]
    for classes in invalid:
        with pytest.raises(ValueError, match=f"classes.*{re.escape(repr(classes))}"):
            SSD(MobileNetV2(0.25, 1), classes, (96, 96))


# ---- batches, hybridization, training ----------------------------------------------------------------------


@pytest.mark.parametrize(("network", "head"), [("v1", "ssdlite"), ("v2", "ssd")])
def test_outputs_do_not_depend_on_the_batch(network: str, head: str) -> None:
    net = shared_detector(network, head)
    net.set_nms()
    x = images(3, 96, 96)
    together = numbers(net(x))
    for image in range(3):
        alone = numbers(net(x[image : image + 1]))
        for a, b in zip(together, alone):
            np.testing.assert_allclose(a[image], b[0], rtol=1e-4, atol=1e-4)
    swapped = numbers(net(mx.nd.concat(x[2:], x[:2], dim=0)))
    for a, b in zip(together, swapped):
        np.testing.assert_allclose(a, b[[1, 2, 0]], rtol=1e-4, atol=1e-4)


def test_hybridized_outputs_are_equal_and_follow_set_nms() -> None:
    net = detector()
    x = images(2, 96, 96)
    plain = numbers(net(x))
    net.hybridize(static_alloc=True)
    for a, b in zip(plain, numbers(net(x))):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    net.set_nms(post_nms=7)
    assert net(x)[0].shape == (2, 7, 1)
    np.testing.assert_allclose(net(x)[1].asnumpy(), plain[1][:, :7], rtol=1e-3, atol=1e-4)


def test_output_type_does_not_depend_on_autograd() -> None:
    """Unlike in GluonCV."""
    net = shared_detector()
    x = images(1, 96, 96)
    with mx.autograd.record():
        assert [o.shape[2] for o in net(x)] == [1, 1, 4]
        assert [o.shape[2] for o in net.heads(x)] == [4, 4]


# ---- NMS on constant predictions ---------------------------------------------------------------------------


class Planted(SSDHeads):
    """Heads with the same predictions for every image."""

    def __init__(self, anchors: int, classes: int) -> None:
        HybridBlock.__init__(self)
        self.cls_preds = np.zeros((1, anchors, classes + 1), np.float32)
        self.cls_preds[..., 0] = 20
        self.box_preds = np.zeros((1, anchors, 4), np.float32)

    def plant(self, anchor: int, label: int, score: float) -> None:
        """Predict `label` with about this score on the anchor's own box."""
        self.cls_preds[0, anchor] = np.log((1 - score) / (self.cls_preds.shape[2] - 1))
        self.cls_preds[0, anchor, label + 1] = np.log(score)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return mx.nd.array(self.cls_preds), mx.nd.array(self.box_preds)


@pytest.fixture
def planted() -> SSD:
    net = SSD(MobileNetV2(0.25, 1), CLASSES, (300, 300))
    net.heads = Planted(len(net.anchors), len(CLASSES))
    net.anchor_boxes.initialize()
    return net


def detections(net: SSD) -> List[Tuple[int, float]]:
    ids, scores, boxes = numbers(net(mx.nd.zeros((1, 3, 300, 300))))
    kept = int((ids >= 0).sum())
    assert (ids[0, :kept] >= 0).all()  # detections come first
    assert (boxes[0, kept:] == -1).all()
    return [(int(i), round(float(s), 2)) for i, s in zip(ids[0, :kept, 0], scores[0, :kept, 0])]


OVERLAPPING = (2633, 2638)  # on the 1x1 map: squares with 0.95 and 0.97 of the image's side
DISJOINT = (4, 19 * 19 * 5 - 1)  # on the finest map: small squares in opposite corners


def test_background_has_no_detections(planted: SSD) -> None:
    assert detections(planted) == []


def test_nms_drops_the_lower_of_two_boxes_of_one_class(planted: SSD) -> None:
    first, second = (planted.anchors[a] for a in OVERLAPPING)
    assert first[2:].prod() / second[2:].prod() > 0.9
    planted.heads.plant(OVERLAPPING[0], 1, 0.9)
    planted.heads.plant(OVERLAPPING[1], 1, 0.8)
    # The remaining probability of each anchor gives detections of the other classes.
    assert [row for row in detections(planted) if row[0] == 1] == [(1, 0.9)]
    planted.set_nms(nms_thresh=1.0)
    assert [row for row in detections(planted) if row[0] == 1] == [(1, 0.9), (1, 0.8)]


def test_nms_keeps_overlapping_boxes_of_two_classes(planted: SSD) -> None:
    planted.heads.plant(OVERLAPPING[0], 1, 0.99)
    planted.heads.plant(OVERLAPPING[1], 2, 0.98)
    assert detections(planted)[:2] == [(1, 0.99), (2, 0.98)]


def test_nms_keeps_disjoint_boxes_on_their_anchors(planted: SSD) -> None:
    planted.heads.plant(DISJOINT[0], 0, 0.98)
    planted.heads.plant(DISJOINT[1], 0, 0.99)
    assert detections(planted) == [(0, 0.99), (0, 0.98)]
    boxes = planted(mx.nd.zeros((1, 3, 300, 300)))[2].asnumpy()[0, :2]
    x, y, w, h = planted.anchors[list(DISJOINT[::-1])].T
    np.testing.assert_allclose(boxes, np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1), atol=1e-3)


def test_nms_topk_and_post_nms(planted: SSD) -> None:
    finest = 19 * 19 * 3
    spots = [(row * 19 + column) * 3 + 2 for row in range(0, 19, 3) for column in range(0, 19, 3)]
    assert spots[-1] < finest
    for rank, anchor in enumerate(spots):  # far enough apart for NMS to keep all 49
        planted.heads.plant(anchor, rank % 3, 0.99 - rank * 1e-4)
    for topk, post_nms, expected in (
        (400, 200, 49),
        (30, 200, 30),
        (-1, 200, 49),
        (400, 11, 11),
        (20, 30, 20),
    ):
        planted.set_nms(0.45, topk, post_nms)
        assert len(detections(planted)) == expected


@pytest.mark.parametrize("bad", [{"nms_thresh": 0}, {"nms_thresh": 1.1}, {"nms_thresh": -1}, {"post_nms": 0}])
def test_invalid_nms_settings_are_refused(bad: Dict[str, Any]) -> None:
    net = SSD(MobileNetV2(0.25, 1), ["a"], (96, 96))
    with pytest.raises(ValueError, match="|".join(bad)):
        net.set_nms(**bad)
    assert (net.nms_thresh, net.nms_topk, net.post_nms) == (0.45, 1000, 200)


def test_scores_below_the_floor_are_no_detections(planted: SSD) -> None:
    planted.heads.plant(DISJOINT[0], 0, 0.99)  # leaves .005 to each of the others
    planted.heads.cls_preds[0, DISJOINT[1]] = [np.log(0.985), np.log(0.009), -20, np.log(0.011)]
    assert detections(planted) == [(0, 0.99), (2, 0.01)]
