"""Multibox loss: compared with GluonCV and NumPy, and by its gradients."""

from __future__ import annotations

from typing import Tuple

import mxnet as mx
import numpy as np
import pytest
from gluoncv.loss import SSDMultiBoxLoss
from gluoncv.nn.coder import NormalizedBoxCenterDecoder

from mnssd.boxes import STDS
from mnssd.data.targets import TargetAssigner
from mnssd.nn import MobileNetV2
from mnssd.nn.ssd import SSD
from mnssd.tasks.detection_loss import GAMMA, GIOU_WEIGHT, MIN_NEGATIVES, PRIOR, MultiBoxLoss, giou, set_prior

CLASSES = 3
ANCHORS = np.array(
    [(x, y, s, s) for y in range(10, 100, 20) for x in range(10, 100, 20) for s in (20, 40)], np.float32
)


def batch(seed: int, box_counts: Tuple[int, ...] = (2, 0, 3)) -> Tuple[np.ndarray, ...]:
    """Random predictions, and targets of images with these numbers of boxes."""
    rng = np.random.default_rng(seed)
    assign = TargetAssigner(ANCHORS)
    targets = []
    for count in box_counts:
        first = rng.uniform(0, 60, (count, 2))
        boxes = np.hstack([first, first + rng.uniform(15, 40, (count, 2))])
        targets.append(assign(boxes, rng.integers(CLASSES, size=count)))
    size = (len(box_counts), len(ANCHORS))
    cls_preds = rng.normal(0, 2, (*size, CLASSES + 1)).astype(np.float32)
    box_preds = rng.normal(0, 1, (*size, 4)).astype(np.float32)
    return (cls_preds, box_preds, *(np.stack(part) for part in zip(*targets)))


def run(
    multibox_loss: MultiBoxLoss, arrays: Tuple[np.ndarray, ...]
) -> Tuple[float, float, np.ndarray, np.ndarray]:
    """Class loss, box loss, and the gradients of both predictions."""
    preds = [mx.nd.array(array) for array in arrays[:2]]
    for array in preds:
        array.attach_grad()
    with mx.autograd.record():
        loss = multibox_loss(*preds, *arrays[2:])
    loss.total.backward()
    assert float(loss.total.asscalar()) == pytest.approx(
        float((loss.classes + loss.boxes).asscalar()), rel=1e-5
    )
    return (
        float(loss.classes.asscalar()), float(loss.boxes.asscalar()),
        preds[0].grad.asnumpy(), preds[1].grad.asnumpy(),
    )  # fmt: skip


@pytest.mark.parametrize("box_counts", [(2, 0, 3), (1,), (0, 0)])
def test_default_loss_equals_gluoncv(box_counts: Tuple[int, ...]) -> None:
    arrays = batch(1, box_counts)
    class_loss, box_loss, class_gradient, box_gradient = run(
        MultiBoxLoss("ohem", "smooth_l1", 0.0, ANCHORS), arrays
    )
    preds = [mx.nd.array(array) for array in arrays[:2]]
    for array in preds:
        array.attach_grad()
    with mx.autograd.record():
        total, cls, box = SSDMultiBoxLoss(min_hard_negatives=MIN_NEGATIVES)(
            *preds, *(mx.nd.array(array) for array in arrays[2:])
        )
    mx.autograd.backward(total[0])
    assert class_loss == pytest.approx(float(cls[0].sum().asscalar()), rel=1e-5)
    assert box_loss == pytest.approx(float(box[0].sum().asscalar()), rel=1e-5, abs=1e-7)
    np.testing.assert_allclose(class_gradient, preds[0].grad.asnumpy(), atol=1e-6)
    np.testing.assert_allclose(box_gradient, preds[1].grad.asnumpy(), atol=1e-6)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def test_focal_loss_weights_all_anchors_by_their_error() -> None:
    arrays = batch(2)
    cls_preds, _, cls_target, _ = arrays
    log_p = np.take_along_axis(log_softmax(cls_preds), cls_target[..., None].astype(int), 2)[..., 0]
    expected = (-((1 - np.exp(log_p)) ** GAMMA) * log_p).sum() / (cls_target > 0).sum()
    assert run(MultiBoxLoss("focal", "smooth_l1", 0.0, ANCHORS), arrays)[0] == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize("cls_loss", ["ohem", "focal"])
@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_ignored_anchors_have_no_loss_and_no_gradient(cls_loss: str, scores: str) -> None:
    cls_preds, box_preds, cls_target, box_target = batch(4)
    ignored = (cls_target == 0) & (np.random.default_rng(0).random(cls_target.shape) < 0.3)
    surely_background = (
        cls_preds.copy()
    )  # an ignored anchor costs nothing, as one of which the network is sure
    surely_background[ignored] = [40, -40, -40, -40]
    multibox_loss = MultiBoxLoss(cls_loss, "smooth_l1", 0.0, ANCHORS, scores)
    expected = run(multibox_loss, (surely_background, box_preds, cls_target, box_target))
    targets = np.where(ignored, -1, cls_target)
    actual = run(multibox_loss, (cls_preds, box_preds, targets, box_target))
    assert actual[:2] == pytest.approx(expected[:2], rel=1e-5)
    np.testing.assert_allclose(actual[2], np.where(ignored[..., None], 0, expected[2]), atol=1e-6)
    assert not actual[2][ignored].any()
    assert run(multibox_loss, (cls_preds, box_preds, cls_target, box_target))[0] > actual[0]


def test_label_smoothing_applies_to_positive_anchors_only() -> None:
    arrays = batch(3)
    log_p = log_softmax(arrays[0])
    positive = arrays[2] > 0
    hard = run(MultiBoxLoss("ohem", "smooth_l1", 0.0, ANCHORS), arrays)
    soft = run(MultiBoxLoss("ohem", "smooth_l1", 0.1, ANCHORS), arrays)
    of_label = np.take_along_axis(log_p, arrays[2][..., None].astype(int), 2)[..., 0]
    difference = 0.1 * (of_label - log_p.mean(axis=-1))[positive].sum() / positive.sum()
    assert soft[0] - hard[0] == pytest.approx(difference, rel=1e-3)
    np.testing.assert_array_equal(soft[2][~positive], hard[2][~positive])


def test_giou_of_known_boxes() -> None:
    def value(box: Tuple[float, ...], other: Tuple[float, ...]) -> float:
        pair = [tuple(mx.nd.array([corners[i : i + 2]]) for i in (0, 2)) for corners in (box, other)]
        return float(giou(*pair).asscalar())

    assert value((0, 0, 10, 10), (0, 0, 10, 10)) == pytest.approx(1)
    assert value((0, 0, 10, 10), (0, 0, 10, 20)) == pytest.approx(0.5)
    assert value((0, 0, 10, 10), (10, 0, 20, 10)) == pytest.approx(0)  # their hull is their union
    assert value((0, 0, 10, 10), (30, 0, 40, 10)) == pytest.approx(-0.5)


def test_giou_descent_moves_the_boxes_onto_the_objects() -> None:
    arrays = batch(4)
    loss, positive = MultiBoxLoss("ohem", "giou", 0.0, ANCHORS), arrays[2] > 0
    first = run(loss, arrays)
    assert 0 < first[1] <= 2 * GIOU_WEIGHT
    assert (first[3][~positive] == 0).all()
    preds = arrays[1].copy()
    for _ in range(300):
        _, value, _, gradient = run(loss, (arrays[0], preds, *arrays[2:]))
        preds -= 4 * gradient * np.sqrt(value)
    assert value < 0.1 * first[1]
    anchors = np.broadcast_to(ANCHORS, (len(preds), *ANCHORS.shape))[positive]
    decode = NormalizedBoxCenterDecoder(STDS)
    boxes, truth = (
        decode(mx.nd.array(offsets[positive][None]), mx.nd.array(anchors[None])).asnumpy()
        for offsets in (preds, arrays[3])
    )
    np.testing.assert_allclose(boxes, truth, atol=4)


def test_giou_gradient_matches_finite_differences() -> None:
    arrays = batch(5)
    loss = MultiBoxLoss("ohem", "giou", 0.0, ANCHORS)
    gradient = run(loss, arrays)[3]
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = rng.normal(0, 1, gradient.shape).astype(np.float32)
        step = 1e-2
        high, low = (
            run(loss, (arrays[0], arrays[1] + sign * step * direction, *arrays[2:]))[1] for sign in (1, -1)
        )
        slope = float((gradient * direction).sum())
        assert (high - low) / (2 * step) == pytest.approx(slope, rel=0.05, abs=2e-3)


def test_extreme_predictions_give_a_finite_loss() -> None:
    arrays = batch(6)
    extreme = (arrays[0], arrays[1] * 1e4, *arrays[2:])
    _, box_loss, _, gradient = run(MultiBoxLoss("focal", "giou", 0.1, ANCHORS), extreme)
    assert np.isfinite(box_loss)
    assert np.isfinite(gradient).all()


def test_prior_makes_all_anchors_predict_background() -> None:
    net = SSD(MobileNetV2(0.25), ["a", "b", "c"], (96, 96))
    net.initialize()
    x = mx.nd.random.normal(shape=(1, 3, 96, 96))
    net(x)
    set_prior(net.heads.class_convolutions(), 3)
    background = mx.nd.softmax(net.heads(x)[0]).asnumpy()[..., 0]
    assert abs(np.median(background) - (1 - PRIOR)) < 0.003


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def binary_losses(arrays: Tuple[np.ndarray, ...]) -> np.ndarray:
    """Binary cross entropy ``(B, A, C)`` of every class; the background is none."""
    wanted = np.eye(CLASSES + 1)[arrays[2].astype(int)][..., 1:]
    score = sigmoid(arrays[0])[..., 1:]
    return -(wanted * np.log(score) + (1 - wanted) * np.log(1 - score))


def test_sigmoid_loss_of_positives_and_the_hardest_negatives() -> None:
    arrays = batch(4)
    losses, positive = binary_losses(arrays).sum(axis=-1), arrays[2] > 0
    total = 0.0
    for row, is_object in zip(losses, positive):
        count = max(MIN_NEGATIVES, 3 * int(is_object.sum()))
        total += row[is_object].sum() + np.sort(row[~is_object])[::-1][:count].sum()
    loss = MultiBoxLoss("ohem", "smooth_l1", 0.0, ANCHORS, "sigmoid")
    assert run(loss, arrays)[0] == pytest.approx(total / positive.sum(), rel=1e-4)


def test_sigmoid_loss_leaves_the_background_alone() -> None:
    """Detectors of TensorFlow have a constant logit of the background; to train it would cost the classes."""
    arrays = batch(4)
    loss = MultiBoxLoss("ohem", "smooth_l1", 0.0, ANCHORS, "sigmoid")
    values = run(loss, arrays)
    assert not values[2][..., 0].any()
    arrays[0][..., 0] = -6
    assert run(loss, arrays)[0] == values[0]


def test_sigmoid_focal_loss_weights_every_class_by_its_error() -> None:
    arrays = batch(5)
    wanted = np.eye(CLASSES + 1)[arrays[2].astype(int)][..., 1:]
    expected = (np.abs(wanted - sigmoid(arrays[0])[..., 1:]) ** GAMMA * binary_losses(arrays)).sum()
    loss = MultiBoxLoss("focal", "smooth_l1", 0.0, ANCHORS, "sigmoid")
    assert run(loss, arrays)[0] == pytest.approx(expected / (arrays[2] > 0).sum(), rel=1e-4)


def test_sigmoid_loss_of_large_logits_is_finite() -> None:
    arrays = batch(6)
    arrays[0][:] *= 1e4
    for loss in (MultiBoxLoss(kind, "smooth_l1", 0.1, ANCHORS, "sigmoid") for kind in ("ohem", "focal")):
        values = run(loss, arrays)
        assert np.isfinite(values[0])
        assert np.isfinite(values[2]).all()
