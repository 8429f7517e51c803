"""What a detector is to make small: errors of classes and of boxes."""

from __future__ import annotations

from typing import Any, NamedTuple, Tuple

import mxnet as mx
import numpy as np

from ..boxes import STDS

NEGATIVES = 3
"""Background anchors that count for each positive one (SSD paper, section 2.2, "Hard negative mining")."""

MIN_NEGATIVES = 3
"""Those an image has at least, so that images without objects teach too (``min_negatives_per_image`` of
TensorFlow's released SSD configurations)."""

GAMMA = 2.0
"""Of the focal loss (Lin et al. 2017, section 5.1)."""

PRIOR = 0.01
"""Probability of any object at each anchor that a network for the focal loss starts with (there, section
4.1): else the background of the first steps outweighs everything."""

GIOU_WEIGHT = 2.0
"""Of the box loss when it is GIoU, whose values are smaller than those of smooth L1 (as in DETR)."""

_LARGEST_GROWTH = 4.0  # logarithm: a box more than 50 times its anchor; exp() of a wild start would overflow


class Loss(NamedTuple):
    """The whole, and its parts; each of shape ``(1,)``."""

    total: Any
    classes: Any
    boxes: Any


class MultiBoxLoss:
    """Multibox loss (SSD paper, section 2.2), summed over the batch and divided by its positive anchors.

    Parameters
    ----------
    cls_loss : str
        ``'ohem'``: cross entropy of the positives and the worst negatives; ``'focal'``: of all anchors, by
        how wrong they are.
    box_loss : str
        ``'smooth_l1'`` of the offsets, or ``'giou'`` of the boxes (Rezatofighi et al. 2019).
    smoothing : float
        Label smoothing (Szegedy et al. 2016) of the positive anchors. The background's labels stay hard:
        scores of what is no object would rise.
    anchors : numpy.ndarray
        ``(A, 4)`` centre x, centre y, width, height in pixels.
    """

    def __init__(self, cls_loss: str, box_loss: str, smoothing: float, anchors: np.ndarray) -> None:
        self._focal, self._giou = cls_loss == "focal", box_loss == "giou"
        self._smoothing, self._anchors = smoothing, anchors

    def __call__(
        self, cls_preds: Any, box_preds: Any, cls_target: np.ndarray, box_target: np.ndarray
    ) -> Loss:
        """The loss of a batch.

        Parameters
        ----------
        cls_preds, box_preds : mxnet.nd.NDArray
            ``(B, A, C + 1)`` logits, background first, and ``(B, A, 4)`` offsets.
        cls_target, box_target : numpy.ndarray
            ``(B, A)`` 0 for background, else label + 1; ``(B, A, 4)``; see `data.targets`.
        """
        positives, count = np.flatnonzero(cls_target > 0), count_positives(cls_target)
        classes = self._classes(cls_preds, mx.nd.array(cls_target, ctx=cls_preds.context)) / count
        boxes = self._boxes(box_preds, box_target, positives) / count
        return Loss(classes + boxes, classes, boxes)

    def _classes(self, cls_preds: Any, target: Any) -> Any:
        log_p = mx.nd.log_softmax(cls_preds, axis=-1)
        plain = -mx.nd.pick(log_p, target, axis=-1)  # (B, A)
        positive = target > 0
        loss = plain
        if self._focal:
            loss = loss * (1 - mx.nd.exp(-plain)) ** GAMMA
        if self._smoothing:
            spread = -log_p.mean(axis=-1)
            loss = loss + positive * self._smoothing * (spread - loss)
        if self._focal:
            return loss.sum()
        with mx.autograd.pause():
            rank = (plain * (positive - 1)).argsort(axis=1).argsort(axis=1)
            wanted = mx.nd.maximum(MIN_NEGATIVES, NEGATIVES * positive.sum(axis=1, keepdims=True))
            counts = positive + (1 - positive) * mx.nd.broadcast_lesser(rank, wanted)
        return (loss * counts).sum()

    def _boxes(self, box_preds: Any, box_target: np.ndarray, positives: np.ndarray) -> Any:
        if not len(positives):
            return (box_preds * 0).sum()
        ctx = box_preds.context
        chosen = mx.nd.array(positives, ctx=ctx)
        offsets = mx.nd.take(box_preds.reshape((-1, 4)), chosen)
        wanted = mx.nd.array(box_target.reshape(-1, 4)[positives], ctx=ctx)
        if not self._giou:
            return mx.nd.smooth_l1(offsets - wanted, scalar=1.0).sum()
        anchors = mx.nd.array(self._anchors[positives % len(self._anchors)], ctx=ctx)
        overlap = giou(_corners(offsets, anchors), _corners(wanted, anchors))
        return GIOU_WEIGHT * (1 - overlap).sum()


def count_positives(cls_target: np.ndarray) -> int:
    """What the loss of a batch is divided by."""
    return max(1, int((cls_target > 0).sum()))


def giou(one: Tuple[Any, Any], other: Tuple[Any, Any]) -> Any:
    """``(N,)`` generalised IoU, from -1 to 1, of boxes given as ``(N, 2)`` first and last corners."""
    (first, last), (other_first, other_last) = one, other
    common = _area(mx.nd.maximum(first, other_first), mx.nd.minimum(last, other_last))
    union = _area(first, last) + _area(other_first, other_last) - common
    hull = _area(mx.nd.minimum(first, other_first), mx.nd.maximum(last, other_last))
    return common / union - (hull - union) / hull


def set_prior(class_convolutions: Any, classes: int) -> None:
    """Biases with which every anchor says background by all but `PRIOR`, for the focal loss."""
    for convolution in class_convolutions:
        bias = convolution.bias.data()
        values = np.zeros((bias.shape[0] // (classes + 1), classes + 1), np.float32)
        values[:, 0] = np.log((1 - PRIOR) / PRIOR * classes)
        convolution.bias.set_data(mx.nd.array(values.ravel(), ctx=bias.context))


def _corners(offsets: Any, anchors: Any) -> Tuple[Any, Any]:
    """First and last corners ``(N, 2)`` of the boxes that offsets encode: the inverse of `boxes.encode`, with a gradient."""
    place, size = (mx.nd.slice_axis(anchors, axis=1, begin=b, end=b + 2) for b in (0, 2))
    shift = mx.nd.slice_axis(offsets, axis=1, begin=0, end=2) * STDS[0]
    growth = mx.nd.slice_axis(offsets, axis=1, begin=2, end=4) * STDS[2]
    half = mx.nd.exp(mx.nd.minimum(growth, _LARGEST_GROWTH)) * size / 2
    centre = place + shift * size
    return centre - half, centre + half


def _area(first: Any, last: Any) -> Any:
    # Not by prod(): its gradient is the product over each factor, 0 / 0 for boxes that do not overlap.
    sides = mx.nd.relu(last - first)
    return mx.nd.slice_axis(sides, axis=1, begin=0, end=1).reshape(-1) * mx.nd.slice_axis(
        sides, axis=1, begin=1, end=2
    ).reshape(-1)
