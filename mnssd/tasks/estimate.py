"""Estimate of training speed and memory on this machine, from a few real steps."""

from __future__ import annotations

import time
from typing import Any, Dict, NamedTuple, Tuple

import mxnet as mx
import numpy as np

from .. import zoo
from ..data.loader import Batch
from ..graph.fast import fast_block
from ..runtime import processor, settings
from ..train.optimizer import make_trainer
from ..train.options import LoopOptions
from ..train.step import TrainingStep
from .detection_loss import MultiBoxLoss, count_positives

_WARM_UP, _STEPS = 1, 2


class Estimate(NamedTuple):
    """Images per second, without reading them, and peak memory of this process in MB."""

    images_per_second: float
    peak_megabytes: int


class _Noise:
    """Objective: a detector and its default loss."""

    def __init__(self, net: Any, ctx: Any) -> None:
        self._forward, self._ctx = fast_block(net.heads), ctx
        self._forward.hybridize(static_alloc=True, static_shape=True)
        self._loss = MultiBoxLoss("ohem", "smooth_l1", 0.0, net.anchors)

    def losses(self, batch: Batch) -> Tuple[Any, Dict[str, Any]]:
        images, cls_target, box_target = batch.arrays
        cls_preds, box_preds = self._forward(mx.nd.array(images, ctx=self._ctx))
        total = self._loss(cls_preds, box_preds, cls_target, box_target).total
        return total, {"loss": total}

    def normalizer(self, batch: Batch) -> float:
        return float(count_positives(batch.arrays[1]))


def estimate(spec: zoo.DetectorSpec, batch_size: int) -> Estimate:
    """Train a detector on noise for a few steps and measure them."""
    settings.seed_everything(0)
    ctx = settings.pick_context("auto")
    net = zoo.build_detector(spec)
    zoo.initialize(net, ctx)
    width, height = spec.size
    images = np.random.normal(size=(batch_size, 3, height, width)).astype(np.float32)
    net(mx.nd.array(images[:1], ctx=ctx))
    trainer = make_trainer(net.heads, LoopOptions(), net.heads.last_convolutions())
    step = TrainingStep(_Noise(net, ctx), trainer)
    cls_target = np.zeros((batch_size, len(net.anchors)), np.int32)
    cls_target[:, ::100] = 1
    box_target = np.zeros((*cls_target.shape, 4), np.float32)
    batch = Batch((images, cls_target, box_target), tuple(range(batch_size)))
    started = time.monotonic()
    for number in range(_WARM_UP + _STEPS):
        if number == _WARM_UP:
            started = time.monotonic()
        step(batch, lr=1e-6)
        mx.nd.waitall()
    speed = batch_size * _STEPS / (time.monotonic() - started)
    return Estimate(speed, processor.peak_megabytes() or 0)
