"""Losses of a detector: multibox loss with hard negative mining, focal loss, GIoU."""

from __future__ import annotations

from typing import Any, NamedTuple, Tuple

import mxnet as mx
import numpy as np

from ..boxes import STDS

NEGATIVES = 3
"""Negative anchors per positive one (SSD paper, section 2.2, "Hard negative mining")."""

MIN_NEGATIVES = 3
"""Minimum negative anchors per image, so that images without objects contribute (``min_negatives_per_image``
in TensorFlow's released SSD configurations)."""

GAMMA = 2.0
"""Focusing parameter of the focal loss (Lin et al. 2017, section 5.1)."""

PRIOR = 0.01
"""Initial probability of an object at each anchor for the focal loss (Lin et al. 2017, section 4.1);
otherwise the background dominates the first steps."""

GIOU_WEIGHT = 2.0
"""Weight of the GIoU box loss, whose values are smaller than those of smooth L1 (as in DETR)."""

_MAX_LOG_SCALE = 4.0
"""Limit of the predicted log scale: a box more than 50 times its anchor. It keeps exp() from overflowing."""


class Loss(NamedTuple):
    """Total loss and its two parts, each of shape ``(1,)``."""

    total: Any
    classes: Any
    boxes: Any


class MultiBoxLoss:
    """SSD multibox loss (SSD paper, section 2.2): summed over the batch, divided by its positive anchors.

    Parameters
    ----------
    cls_loss : str
        ``'ohem'``: cross entropy of the positive and the hardest negative anchors; ``'focal'``: focal loss of
        all anchors.
    box_loss : str
        ``'smooth_l1'`` of the offsets, or ``'giou'`` of the boxes (Rezatofighi et al. 2019).
    smoothing : float
        Label smoothing (Szegedy et al. 2016) of positive anchors only. Smoothing the background would raise
        the scores of false detections.
    anchors : numpy.ndarray
        ``(A, 4)`` center x, center y, width, height in pixels.
    scores : str
        ``"softmax"``; or ``"sigmoid"``, whose loss is the sum of the binary cross entropies of the classes,
        as with ``encode_background_as_zeros`` in TensorFlow's released configurations. The logit of the
        background counts for nothing: detectors trained so have a constant one.
    """

    def __init__(
        self,
        cls_loss: str,
        box_loss: str,
        smoothing: float,
        anchors: np.ndarray,
        scores: str = "softmax",
    ) -> None:
        self._focal, self._giou = cls_loss == "focal", box_loss == "giou"
        self._smoothing, self._anchors = smoothing, anchors
        self._by_target = self._by_sigmoid if scores == "sigmoid" else self._by_softmax

    def __call__(
        self, cls_preds: Any, box_preds: Any, cls_target: np.ndarray, box_target: np.ndarray
    ) -> Loss:
        """The loss of a batch.

        Parameters
        ----------
        cls_preds, box_preds : mxnet.nd.NDArray
            ``(B, A, C + 1)`` class logits, background first, and ``(B, A, 4)`` offsets.
        cls_target, box_target : numpy.ndarray
            ``(B, A)`` 0 for background, -1 for ignored anchors, else label + 1, and ``(B, A, 4)`` offsets;
            see `data.targets`.
        """
        positives, count = np.flatnonzero(cls_target > 0), count_positives(cls_target)
        classes = self._classes(cls_preds, mx.nd.array(cls_target, ctx=cls_preds.context)) / count
        boxes = self._boxes(box_preds, box_target, positives) / count
        return Loss(classes + boxes, classes, boxes)

    def _by_softmax(self, cls_preds: Any, target: Any) -> Tuple[Any, Any]:
        """Cross entropy of each anchor ``(B, A)``, and its loss by focus and smoothing."""
        log_p = mx.nd.log_softmax(cls_preds, axis=-1)
        plain = -mx.nd.pick(log_p, target, axis=-1)
        loss = plain
        if self._focal:
            loss = loss * (1 - mx.nd.exp(-plain)) ** GAMMA
        if self._smoothing:
            spread = -log_p.mean(axis=-1)
            loss = loss + (target > 0) * self._smoothing * (spread - loss)
        return plain, loss

    def _by_sigmoid(self, cls_preds: Any, target: Any) -> Tuple[Any, Any]:
        """As `_by_softmax`; each class is a decision of its own, and the background is none."""
        classes = cls_preds.shape[-1] - 1
        cls_preds = mx.nd.slice_axis(cls_preds, axis=-1, begin=1, end=None)
        wanted = mx.nd.one_hot(target - 1, classes)  # (B, A, C); zeros for an index below 0
        plain = _binary_cross_entropy(cls_preds, wanted)
        if self._smoothing:
            share = mx.nd.expand_dims(target > 0, axis=2) * self._smoothing
            wanted = mx.nd.broadcast_mul(wanted, 1 - share)
            wanted = mx.nd.broadcast_add(wanted, share / classes)
        loss = _binary_cross_entropy(cls_preds, wanted) if self._smoothing else plain
        if self._focal:
            score = mx.nd.sigmoid(cls_preds)
            loss = loss * mx.nd.abs(wanted - score) ** GAMMA
        return plain.sum(axis=-1), loss.sum(axis=-1)

    def _classes(self, cls_preds: Any, target: Any) -> Any:
        plain, loss = self._by_target(cls_preds, target)
        positive = target > 0
        if self._focal:
            return (loss * (target >= 0)).sum()
        with mx.autograd.pause():
            negative = target == 0
            rank = (-plain * negative).argsort(axis=1).argsort(axis=1)
            negatives = mx.nd.maximum(MIN_NEGATIVES, NEGATIVES * positive.sum(axis=1, keepdims=True))
            counts = positive + negative * mx.nd.broadcast_lesser(rank, negatives)
        return (loss * counts).sum()

    def _boxes(self, box_preds: Any, box_target: np.ndarray, positives: np.ndarray) -> Any:
        if not len(positives):
            return (box_preds * 0).sum()
        ctx = box_preds.context
        offsets = mx.nd.take(box_preds.reshape((-1, 4)), mx.nd.array(positives, ctx=ctx))
        targets = mx.nd.array(box_target.reshape(-1, 4)[positives], ctx=ctx)
        if not self._giou:
            return mx.nd.smooth_l1(offsets - targets, scalar=1.0).sum()
        anchors = mx.nd.array(self._anchors[positives % len(self._anchors)], ctx=ctx)
        return GIOU_WEIGHT * (1 - giou(_corners(offsets, anchors), _corners(targets, anchors))).sum()


def _binary_cross_entropy(logits: Any, wanted: Any) -> Any:
    """Of each logit and its target from 0 to 1, in the form that does not overflow."""
    return mx.nd.relu(logits) - logits * wanted + mx.nd.log1p(mx.nd.exp(-mx.nd.abs(logits)))


def count_positives(cls_target: np.ndarray) -> int:
    """Number of positive anchors of a batch, at least 1; the loss is divided by it."""
    return max(1, int((cls_target > 0).sum()))


def giou(boxes: Tuple[Any, Any], other_boxes: Tuple[Any, Any]) -> Any:
    """Generalized IoU ``(N,)``, -1 to 1, of boxes given as ``(N, 2)`` top-left and bottom-right corners."""
    (low, high), (other_low, other_high) = boxes, other_boxes
    intersection = _area(mx.nd.maximum(low, other_low), mx.nd.minimum(high, other_high))
    union = _area(low, high) + _area(other_low, other_high) - intersection
    hull = _area(mx.nd.minimum(low, other_low), mx.nd.maximum(high, other_high))
    return intersection / union - (hull - union) / hull


def set_prior(class_convolutions: Any, classes: int, scores: str = "softmax") -> None:
    """Set the biases so that every anchor predicts background with probability ``1 - PRIOR``.

    With ``"sigmoid"`` scores every class alone has the probability `PRIOR`.
    """
    for convolution in class_convolutions:
        bias = convolution.bias.data()
        values = np.zeros((bias.shape[0] // (classes + 1), classes + 1), np.float32)
        if scores == "sigmoid":
            values[:] = -np.log((1 - PRIOR) / PRIOR)
        else:
            values[:, 0] = np.log((1 - PRIOR) / PRIOR * classes)
        convolution.bias.set_data(mx.nd.array(values.ravel(), ctx=bias.context))


def _corners(offsets: Any, anchors: Any) -> Tuple[Any, Any]:
    """Corners ``(N, 2)`` of the boxes that offsets encode: the inverse of `boxes.encode`, with a gradient."""
    center, size = (mx.nd.slice_axis(anchors, axis=1, begin=b, end=b + 2) for b in (0, 2))
    shift = mx.nd.slice_axis(offsets, axis=1, begin=0, end=2) * STDS[0]
    log_scale = mx.nd.slice_axis(offsets, axis=1, begin=2, end=4) * STDS[2]
    half = mx.nd.exp(mx.nd.minimum(log_scale, _MAX_LOG_SCALE)) * size / 2
    center = center + shift * size
    return center - half, center + half


def _area(low: Any, high: Any) -> Any:
    # Not prod(): its gradient divides the product by each factor, 0 / 0 for boxes that do not overlap.
    sides = mx.nd.relu(high - low)
    width, height = (mx.nd.slice_axis(sides, axis=1, begin=b, end=b + 1).reshape(-1) for b in (0, 1))
    return width * height
