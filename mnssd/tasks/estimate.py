"""What training would take on this machine: a few real steps, measured."""

from __future__ import annotations

import time
from typing import NamedTuple

import mxnet as mx
import numpy as np

from .. import zoo
from ..graph.fast import fast_block
from ..runtime import processor, settings
from ..train.optimizer import make_trainer
from ..train.options import LoopOptions
from .detection_loss import MultiBoxLoss

_WARM, _STEPS = 1, 2


class Estimate(NamedTuple):
    """Measured: images a second, without reading them, and this process's memory at its peak, in MB."""

    images_per_second: float
    peak_megabytes: int


def estimate(spec: zoo.DetectorSpec, batch_size: int) -> Estimate:
    """Train a detector on noise for a few steps.

    Parameters
    ----------
    spec : zoo.DetectorSpec
    batch_size : int
    """
    settings.seed_everything(0)
    ctx = settings.pick_context("auto")
    net = zoo.build_detector(spec)
    zoo.initialize(net, ctx)
    width, height = spec.size
    images = mx.nd.random.normal(shape=(batch_size, 3, height, width), ctx=ctx)
    net(images[:1])
    block = fast_block(net.heads)
    block.hybridize(static_alloc=True, static_shape=True)
    trainer = make_trainer(net.heads, LoopOptions(), net.heads.last_convolutions(), [])
    trainer.set_learning_rate(1e-6)
    loss = MultiBoxLoss("ohem", "smooth_l1", 0.0, net.anchors)
    anchors = len(net.anchors)
    targets = np.zeros((batch_size, anchors), np.int32)
    targets[:, ::100] = 1
    offsets = np.zeros((batch_size, anchors, 4), np.float32)
    begun = time.monotonic()
    for step in range(_WARM + _STEPS):
        if step == _WARM:
            begun = time.monotonic()
        with mx.autograd.record():
            cls_preds, box_preds = block(images)
            objective = loss(cls_preds, box_preds, targets, offsets).total
        objective.backward()
        trainer.step(float((targets > 0).sum()))
        mx.nd.waitall()
    speed = batch_size * _STEPS / (time.monotonic() - begun)
    return Estimate(speed, processor.peak_megabytes() or 0)
