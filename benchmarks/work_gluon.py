"""Stock Gluon and GluonCV, as their own scripts use them. Nothing of mnssd is imported.

Arguments: TASK [...]. `detect` takes an image; `sample` also its boxes as JSON and a file of anchors.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Callable

import mxnet as mx
import numpy as np
import worker


def train_step() -> Callable[[], object]:
    """As in gluoncv/scripts/classification: hybridize, autograd, Trainer."""
    from mxnet.gluon.model_zoo import vision

    net = vision.mobilenet_v2_1_0(classes=worker.CLASSES)
    net.initialize(mx.init.MSRAPrelu())
    net.hybridize(static_alloc=True, static_shape=True)
    options = {"learning_rate": worker.LEARNING_RATE, "momentum": worker.MOMENTUM, "wd": worker.WEIGHT_DECAY}
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", options)
    loss_of = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    rng = np.random.default_rng(0)
    x = mx.nd.array(rng.normal(0, 1, (worker.BATCH, 3, worker.SIZE, worker.SIZE)))
    y = mx.nd.array(rng.integers(0, worker.CLASSES, worker.BATCH))

    def step() -> None:
        with mx.autograd.record():
            loss = loss_of(net(x), y)
        loss.backward()
        trainer.step(worker.BATCH)
        mx.nd.waitall()

    return step


def detector(classes: int) -> Any:
    """GluonCV's own SSD over the Gluon zoo's MobileNetV2, with the taps and the extra layers of mnssd's."""
    from gluoncv.model_zoo.ssd import SSD
    from mxnet.gluon.model_zoo import vision

    net = SSD(
        vision.mobilenet_v2_1_0(),
        worker.SIZE,
        features=["features_linearbottleneck13_relu60_relu6", "features_relu61_relu6"],
        num_filters=[512, 256, 256, 128],
        reduce_ratio=0.5,
        min_depth=64,
        sizes=[60, 105, 150, 195, 240, 285, 300],
        ratios=[[1, 2, 0.5, 1.5]] + [[1, 2, 0.5, 3, 1.0 / 3]] * 5,  # as many anchors as mnssd has
        steps=[16, 32, 60, 100, 150, 300],
        classes=[str(i) for i in range(classes)],
    )
    net.initialize(mx.init.Xavier("gaussian", "in", 2), force_reinit=True)
    # FeatureExpander's own initial values give the extra layers negative variances, and so NaN boxes.
    for name, parameter in net.collect_params().items():
        if name.endswith(("var", "gamma")):
            parameter.initialize(mx.init.One(), force_reinit=True)
        elif name.endswith(("mean", "beta")):
            parameter.initialize(mx.init.Zero(), force_reinit=True)
    for predictor in net.class_predictors:
        quiet_predictor(predictor.predictor, classes)
    net(mx.nd.zeros((1, 3, worker.SIZE, worker.SIZE)))
    return net


def quiet_predictor(convolution: Any, classes: int) -> None:
    """Initial values with which, as in a trained detector, few boxes have a score above the threshold."""
    bias = np.zeros((convolution._channels // (classes + 1), classes + 1), np.float32)
    bias[:, 0] = worker.BACKGROUND
    convolution.weight.initialize(mx.init.Normal(0.01), force_reinit=True)
    convolution.bias.init = mx.init.Constant(mx.nd.array(bias.reshape(-1)))
    convolution.bias.initialize(force_reinit=True)


def detect() -> Callable[[], object]:
    """A JPEG in memory to boxes: decode, GluonCV's transform, the hybridized network. Argument: the file."""
    from gluoncv.data.transforms.presets.ssd import SSDDefaultValTransform

    with open(sys.argv[2], "rb") as file:
        data = file.read()
    net, transform = detector(worker.DETECTOR_CLASSES), SSDDefaultValTransform(worker.SIZE, worker.SIZE)
    net.hybridize(static_alloc=True, static_shape=True)
    nothing = np.zeros((1, 4))

    def run() -> None:
        image = mx.image.imdecode(data)
        x, _ = transform(image, nothing)
        height, width, _ = image.shape
        ids, scores, boxes = (array.asnumpy()[0] for array in net(x.expand_dims(0)))
        scale = np.array([width, height, width, height]) / worker.SIZE
        found = (ids[:, 0] >= 0) & (scores[:, 0] >= 0.5)
        _ = boxes[found] * scale

    return run


def sample() -> Callable[[], object]:
    """GluonCV's training transform with its targets, from the JPEG file to the arrays of a batch."""
    from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform

    path, boxes, anchors = sys.argv[2], json.loads(sys.argv[3]), np.load(sys.argv[4])
    label = np.array(boxes, np.float32)
    transform = SSDDefaultTrainTransform(worker.SIZE, worker.SIZE, mx.nd.array(anchors[None]))

    def load() -> None:
        for array in transform(mx.image.imread(path), label.copy()):
            array.asnumpy()

    return load


if __name__ == "__main__":
    worker.serve({"train_step": train_step, "detect": detect, "sample": sample})
