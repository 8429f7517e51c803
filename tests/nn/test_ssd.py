"""The detector: heads and anchors, its answers against an independent decoder, NMS, change of classes."""

from __future__ import annotations

import functools
from typing import Any, Dict, List, Sequence, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import count, fill, images
from mxnet.gluon.block import HybridBlock

from mnssd import zoo
from mnssd.nn import SSD, MobileNetV1, MobileNetV2
from mnssd.nn.heads import LitePredictor, SSDHeads
from mnssd.nn.ssd import check_size

NETWORKS = {"v1": MobileNetV1, "v2": MobileNetV2}
CLASSES = ("cat", "dog", "cow")


def detector(
    network: str = "v2",
    head: str = "ssd",
    size: Tuple[int, int] = (96, 96),
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
) -> SSD:
    """A narrow detector with random weights that really finds things."""
    net = SSD(NETWORKS[network](0.25, 1), classes, size, head)
    net.initialize()
    net(images(1, *size))
    fill(net.heads, seed)
    return net


@functools.lru_cache(maxsize=None)
def common_detector(network: str = "v2", head: str = "ssd", size: Tuple[int, int] = (96, 96)) -> SSD:
    """One for all tests that leave it as it is but for `set_nms`."""
    return detector(network, head, size)


def numbers(outputs: Sequence[Any]) -> List[np.ndarray]:
    return [output.asnumpy() for output in outputs]


# ---- an independent decoder --------------------------------------------------------------------------------


def decoded(
    cls_preds: np.ndarray, box_preds: np.ndarray, anchors: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """One image: probabilities ``(A, C + 1)`` and corners ``(A, 4)`` (SSD paper, section 2.2)."""
    exp = np.exp(cls_preds - cls_preds.max(1, keepdims=True))
    probabilities = exp / exp.sum(1, keepdims=True)
    centres = box_preds[:, :2] * 0.1 * anchors[:, 2:] + anchors[:, :2]
    sizes = np.exp(box_preds[:, 2:] * 0.2) * anchors[:, 2:]
    return probabilities, np.hstack([centres - sizes / 2, centres + sizes / 2])


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    corner, opposite = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.maximum(opposite - corner, 0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return both / (areas + (box[2:] - box[:2]).prod() - both)


def expected_detections(
    probabilities: np.ndarray, corners: np.ndarray, thresh: float, topk: int, post_nms: int
) -> List[Tuple[int, float, np.ndarray]]:
    """``(label, score, box)``, best first: greedy suppression within each class."""
    rows = [(float(s), c, a) for a, scores in enumerate(probabilities[:, 1:]) for c, s in enumerate(scores)]
    rows = sorted((row for row in rows if row[0] > 0.01), reverse=True)
    kept: List[Tuple[int, float, np.ndarray]] = []
    for score, label, anchor in rows[: topk if topk > 0 else None]:
        same = np.array([box for other, _, box in kept if other == label]).reshape(-1, 4)
        if (overlap(corners[anchor], same) <= thresh).all():
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
    ],
)
def test_detections_are_those_of_an_independent_decoder(
    network: str, head: str, size: Tuple[int, int], nms: Any
) -> None:
    net = common_detector(network, head, size)
    net.set_nms(*nms)
    x = images(2, *size)
    cls_preds, box_preds = numbers(net.heads(x))
    ids, scores, boxes = numbers(net(x))
    rows = min(nms[2], len(net.anchors) * len(CLASSES))
    assert [a.shape for a in (ids, scores, boxes)] == [(2, rows, 1), (2, rows, 1), (2, rows, 4)]
    for image in range(2):
        expected = expected_detections(*decoded(cls_preds[image], box_preds[image], net.anchors), *nms)
        found = len(expected)
        assert found > 10
        assert ids[image, :found, 0].tolist() == [label for label, _, _ in expected]
        np.testing.assert_allclose(scores[image, :found, 0], [score for _, score, _ in expected], rtol=1e-4)
        np.testing.assert_allclose(
            boxes[image, :found], [box for _, _, box in expected], atol=0.01, rtol=1e-4
        )
        for output in (ids, scores, boxes):
            assert (output[image, found:] == -1).all()


# ---- sizes, anchors, costs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "head", "size"),
    [
        *[("v1", "ssd", size) for size in ((300, 300), (320, 320), (480, 320))],
        *[("v2", "ssdlite", size) for size in ((300, 300), (512, 512), (320, 480), (96, 96), (300, 96))],
    ],
)
def test_one_prediction_for_each_anchor(network: str, head: str, size: Tuple[int, int]) -> None:
    """`map_sizes` and the anchors made from it, against maps and heads of a real pass."""
    net = SSD(NETWORKS[network](0.25, 1), ["a", "b"], size, head)
    net.initialize()
    x = mx.nd.zeros((1, 3, size[1], size[0]))
    maps = list(net.heads.backbone(x))
    for layer in net.heads.extras:
        maps.append(layer(maps[-1]))
    assert net.map_sizes() == [(m.shape[3], m.shape[2]) for m in maps]
    cls_preds, box_preds = net.heads(x)
    assert cls_preds.shape == (1, len(net.anchors), 3)
    assert box_preds.shape == (1, len(net.anchors), 4)
    assert net.anchor_boxes.data().shape == (1, len(net.anchors), 4)


def test_maps_at_300_are_the_specified_ones() -> None:
    net = SSD(MobileNetV2(0.25, 1), ["a"], (300, 300))
    assert net.map_sizes() == [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    assert net.heads._map_channels[2:] == [512, 256, 256, 128]
    assert len(net.anchors) == 2639


@pytest.mark.parametrize("corner", ["top right", "bottom left"])
def test_order_of_predictions_is_that_of_the_anchors(corner: str) -> None:
    """A change in a corner of the image moves the predictions of the anchors there, and hardly any others."""
    net = common_detector("v1", size=(320, 192))
    x = images(1, 320, 192)
    changed = x.copy()
    if corner == "top right":
        changed[:, :, :32, 288:] += 3
    else:
        changed[:, :, 160:, :32] += 3
    # Statistics of BatchNorm are fixed, so a prediction sees its receptive field and nothing else.
    finest = slice(0, 20 * 12 * 5)
    away = net.anchors[finest, :2] - ((320, 0) if corner == "top right" else (0, 192))
    distance = np.abs(away).max(1)
    for before, after in zip(numbers(net.heads(x)), numbers(net.heads(changed))):
        moved = np.abs(after - before)[0, finest].max(1)
        assert moved[distance < 32].min() > 100 * moved[distance > 200].max()


@pytest.mark.parametrize("side", [0, 32, 64, 97, 299, 301, 310, -32])
def test_other_sizes_are_refused(side: int) -> None:
    for size in ((side, 96), (96, side)):
        with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}: each side is 300 or a multiple of 32"):
            check_size(size)


def test_ssdlite_costs_about_what_the_paper_says() -> None:
    """MobileNetV2 paper, table 6: 4.3 M parameters and 0.8 G multiply-adds at 320 pixels for 80 classes.

    Without the expansion of the first block (t = 1), which the Gluon zoo has and the paper has not,
    1088 parameters and 26 M multiply-adds less; with TensorFlow's three anchors on the finest map instead of
    five, 98 k and 39 M less. Here it is 4.44 M and 0.854 G.
    """
    net = SSD(MobileNetV2(1.0, 1), [f"class {i}" for i in range(80)], (320, 320), "ssdlite")
    parameters, macs = count(mx.sym.Group(list(net.heads(mx.sym.var("data")))), 320, 320)
    assert parameters == pytest.approx(4.44e6, rel=0.005)
    assert macs == pytest.approx(0.854e9, rel=0.005)


def test_unknown_head_and_bad_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="head is one of ssd, ssdlite, not 'lite'"):
        SSD(MobileNetV2(0.25, 1), ["a"], (96, 96), "lite")
    refused: List[Any] = [[], "cat", ["a", "a"], [1], [""]]
    for classes in refused:
        with pytest.raises(ValueError, match="classes must be a list of different names"):
            SSD(MobileNetV2(0.25, 1), classes, (96, 96))


# ---- one answer, however it is asked -----------------------------------------------------------------------


@pytest.mark.parametrize(("network", "head"), [("v1", "ssdlite"), ("v2", "ssd")])
def test_answer_does_not_depend_on_the_batch(network: str, head: str) -> None:
    net = common_detector(network, head)
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


def test_hybridized_answers_alike_and_follow_set_nms() -> None:
    net = detector()
    x = images(2, 96, 96)
    plain = numbers(net(x))
    net.hybridize(static_alloc=True)
    for a, b in zip(plain, numbers(net(x))):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    net.set_nms(post_nms=7)
    assert net(x)[0].shape == (2, 7, 1)
    np.testing.assert_allclose(net(x)[1].asnumpy(), plain[1][:, :7], rtol=1e-3, atol=1e-4)


def test_type_does_not_change_while_training() -> None:
    """As it does in GluonCV: calling detects, `heads` predicts, whatever autograd records."""
    net = common_detector()
    x = images(1, 96, 96)
    with mx.autograd.record():
        assert [o.shape[2] for o in net(x)] == [1, 1, 4]
        assert [o.shape[2] for o in net.heads(x)] == [4, 4]


# ---- NMS on planted predictions ----------------------------------------------------------------------------


class Planted(SSDHeads):
    """Heads that answer the same to every image."""

    def __init__(self, anchors: int, classes: int) -> None:
        HybridBlock.__init__(self)
        self.cls_preds = np.zeros((1, anchors, classes + 1), np.float32)
        self.cls_preds[..., 0] = 20
        self.box_preds = np.zeros((1, anchors, 4), np.float32)

    def plant(self, anchor: int, label: int, score: float) -> None:
        """A detection of `label` with about this score on the anchor's own box."""
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


def found(net: SSD) -> List[Tuple[int, float]]:
    ids, scores, boxes = numbers(net(mx.nd.zeros((1, 3, 300, 300))))
    kept = int((ids >= 0).sum())
    assert (ids[0, :kept] >= 0).all()  # detections come first
    assert (boxes[0, kept:] == -1).all()
    return [(int(i), round(float(s), 2)) for i, s in zip(ids[0, :kept, 0], scores[0, :kept, 0])]


OVERLAPPING = (2633, 2638)  # on the 1x1 map: the squares of .95 and of .97 of the image
APART = (4, 19 * 19 * 5 - 1)  # on the finest map: small squares in opposite corners


def test_nothing_is_found_in_background(planted: SSD) -> None:
    assert found(planted) == []


def test_of_two_overlapping_boxes_of_a_class_the_better_stays(planted: SSD) -> None:
    first, second = (planted.anchors[a] for a in OVERLAPPING)
    assert first[2:].prod() / second[2:].prod() > 0.9
    planted.heads.plant(OVERLAPPING[0], 1, 0.9)
    planted.heads.plant(OVERLAPPING[1], 1, 0.8)
    # the rest of each anchor's probability is spread over the other classes, above the floor
    assert [row for row in found(planted) if row[0] == 1] == [(1, 0.9)]
    planted.set_nms(nms_thresh=1.0)
    assert [row for row in found(planted) if row[0] == 1] == [(1, 0.9), (1, 0.8)]


def test_overlapping_boxes_of_two_classes_both_stay(planted: SSD) -> None:
    planted.heads.plant(OVERLAPPING[0], 1, 0.99)
    planted.heads.plant(OVERLAPPING[1], 2, 0.98)
    assert found(planted)[:2] == [(1, 0.99), (2, 0.98)]


def test_boxes_apart_both_stay_and_lie_on_their_anchors(planted: SSD) -> None:
    planted.heads.plant(APART[0], 0, 0.98)
    planted.heads.plant(APART[1], 0, 0.99)
    assert found(planted) == [(0, 0.99), (0, 0.98)]
    boxes = planted(mx.nd.zeros((1, 3, 300, 300)))[2].asnumpy()[0, :2]
    x, y, w, h = planted.anchors[list(APART[::-1])].T
    np.testing.assert_allclose(boxes, np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1), atol=1e-3)


def test_counts_before_and_after_suppression(planted: SSD) -> None:
    finest = 19 * 19 * 3
    spots = [(row * 19 + column) * 3 + 2 for row in range(0, 19, 3) for column in range(0, 19, 3)]
    assert spots[-1] < finest
    for rank, anchor in enumerate(spots):  # far enough apart for all 49 to stay
        planted.heads.plant(anchor, rank % 3, 0.99 - rank * 1e-4)
    for topk, post_nms, expected in (
        (400, 200, 49),
        (30, 200, 30),
        (-1, 200, 49),
        (400, 11, 11),
        (20, 30, 20),
    ):
        planted.set_nms(0.45, topk, post_nms)
        assert len(found(planted)) == expected


@pytest.mark.parametrize("bad", [{"nms_thresh": 0}, {"nms_thresh": 1.1}, {"nms_thresh": -1}, {"post_nms": 0}])
def test_bad_nms_settings_are_refused(bad: Dict[str, Any]) -> None:
    net = SSD(MobileNetV2(0.25, 1), ["a"], (96, 96))
    with pytest.raises(ValueError, match="nms_thresh is in"):
        net.set_nms(**bad)
    assert (net.nms_thresh, net.nms_topk, net.post_nms) == (0.45, 400, 200)


def test_scores_at_the_floor_are_no_detections(planted: SSD) -> None:
    planted.heads.plant(APART[0], 0, 0.99)  # leaves .005 to each of the others
    planted.heads.cls_preds[0, APART[1]] = [np.log(0.985), np.log(0.009), -20, np.log(0.011)]
    assert found(planted) == [(0, 0.99), (2, 0.01)]


# ---- change of classes -------------------------------------------------------------------------------------

NEW = ("horse", "dog", "sheep", "kitten")


@pytest.mark.parametrize(
    ("head", "reuse", "columns"),
    [
        ("ssd", None, {}),
        ("ssdlite", [], {}),
        ("ssdlite", ["dog"], {2: 2}),
        ("ssd", {"kitten": "cat", "dog": "dog"}, {4: 1, 2: 2}),
        ("ssdlite", {3: 0, 0: "cow"}, {4: 1, 1: 3}),
    ],
    ids=["none", "empty", "names", "by name", "by index"],
)
def test_reset_class_carries_weights_over(head: str, reuse: Any, columns: Dict[int, int]) -> None:
    """`columns`: of the new class scores, and of the old ones. The background's, 0, always carries over."""
    net = detector(head=head)
    net.hybridize()
    x = images(2, 96, 96)
    cls_before, box_before = numbers(net.heads(x))
    net(x)
    net.reset_class(NEW, reuse)
    cls_after, box_after = numbers(net.heads(x))
    assert net.classes == NEW
    assert cls_after.shape == (2, len(net.anchors), 5)
    np.testing.assert_allclose(box_after, box_before, rtol=1e-4, atol=1e-4)
    carried = {0: 0, **columns}
    for now, was in carried.items():
        np.testing.assert_allclose(cls_after[..., now], cls_before[..., was], rtol=1e-4, atol=1e-4)
    for now in set(range(5)) - set(carried):  # the others start anew
        assert min(np.abs(cls_after[..., now] - cls_before[..., was]).max() for was in range(4)) > 0.01
    ids = net(x)[0].asnumpy()
    assert ids.max() <= 3
    # all parameters have their arrays, and no old one is left behind
    assert all(p._data is not None for p in net.collect_params().values())
    fresh = SSD(MobileNetV2(0.25, 1), NEW, (96, 96), head)
    assert set(fresh._collect_params_with_prefix()) == set(net._collect_params_with_prefix())


def test_reset_class_twice_and_training_goes_on() -> None:
    net = detector()
    x = images(1, 96, 96)
    before = net.heads(x)[0].asnumpy()
    net.reset_class(NEW, ["dog"])
    net.reset_class(["dog"], ["dog"])
    np.testing.assert_allclose(net.heads(x)[0].asnumpy(), before[..., [0, 2]], rtol=1e-4, atol=1e-4)
    with mx.autograd.record():
        total = net.heads(x)[0].sum()
    total.backward()
    assert all(np.abs(p.weight.grad().asnumpy()).max() > 0 for p in net.heads.class_predictors)


@pytest.mark.parametrize(("head", "initialized"), [("ssd", True), ("ssdlite", True), ("ssdlite", False)])
def test_reset_class_before_the_first_batch(head: str, initialized: bool) -> None:
    net = SSD(MobileNetV2(0.25, 1), CLASSES, (96, 96), head)
    if initialized:
        zoo.initialize(net)
    net.reset_class(NEW, ["dog"])
    if not initialized:
        zoo.initialize(net)
    assert net(images(1, 96, 96))[0].shape == (1, 200, 1)
    final = net.heads.class_predictors[0]
    final = final.project if isinstance(final, LitePredictor) else final
    assert final.weight.shape[0] == 5 * 5  # anchors at a position, classes and background


@pytest.mark.parametrize(
    ("classes", "reuse", "message"),
    [
        (NEW, ["cat"], "'cat' is not among the new classes: horse, dog, sheep, kitten"),
        (NEW, ["sheep"], "'sheep' is not among the old classes: cat, dog, cow"),
        (NEW, {"dog": "horse"}, "'horse' is not among the old classes"),
        (NEW, {4: 0}, "4 is not among the new classes"),
        (NEW, {0: -1}, "-1 is not among the old classes"),
        (["a", "a"], None, "classes must be a list of different names"),
        ([], None, "classes must be a list of different names"),
        ("dog", None, "classes must be a list of different names"),
    ],
)
def test_reset_class_refuses_what_it_cannot_do(classes: Any, reuse: Any, message: str) -> None:
    net = common_detector()
    x = images(1, 96, 96)
    before = numbers(net(x))
    with pytest.raises(ValueError, match=message):
        net.reset_class(classes, reuse)
    assert net.classes == CLASSES
    for a, b in zip(before, numbers(net(x))):
        np.testing.assert_array_equal(a, b)
