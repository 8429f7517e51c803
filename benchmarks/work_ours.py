"""mnssd itself, through the functions that its commands call. Arguments: TASK [...], as in work_gluon.py.

`export_backbone` and `export_detector`, with a folder and images, write exports and end.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, List

import worker

from mnssd.runtime import settings  # before MXNet: it chooses the threads

if sys.argv[1].startswith(("infer", "detect")) and sys.argv[1] != "detector_step":  # as `mnssd detect` does
    settings.use_synchronous_engine()

# isort: split
import mxnet as mx
import numpy as np

if "MXNET_ENGINE_TYPE" in os.environ:
    settings.start_engine_silently()


def backbone() -> Any:
    """MobileNetV2, with initial values."""
    from mnssd import zoo

    net = zoo.build_backbone("mobilenet_v2", classes=worker.CLASSES)
    mx.random.seed(0)
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, worker.SIZE, worker.SIZE)))
    return net


def untrained_detector() -> Any:
    """SSD-V2 with initial values and biases that let few boxes pass the threshold, as after a training."""
    from mnssd import zoo

    net = zoo.get_model("ssd_300_mobilenet_v2", classes=[str(i) for i in range(worker.DETECTOR_CLASSES)])
    mx.random.seed(0)
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, worker.SIZE, worker.SIZE)))
    for predictor in net.heads.class_predictors:
        bias = np.zeros((predictor._channels // (worker.DETECTOR_CLASSES + 1), worker.DETECTOR_CLASSES + 1))
        bias[:, 0] = worker.BACKGROUND
        predictor.bias.set_data(mx.nd.array(bias.reshape(-1)))
    return net


def train_step() -> Callable[[], object]:
    """The rewritten graph, and the trainer of the training loop."""
    from mnssd.graph.fast import fast_block
    from mnssd.train.optimizer import make_trainer
    from mnssd.train.options import LoopOptions

    net = backbone()
    fast = fast_block(net)
    fast.hybridize(static_alloc=True, static_shape=True)
    trainer = make_trainer(
        net, LoopOptions(lr=worker.LEARNING_RATE, momentum=worker.MOMENTUM, wd=worker.WEIGHT_DECAY)
    )
    loss_of = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    rng = np.random.default_rng(0)
    x = mx.nd.array(rng.normal(0, 1, (worker.BATCH, 3, worker.SIZE, worker.SIZE)))
    y = mx.nd.array(rng.integers(0, worker.CLASSES, worker.BATCH))

    def step() -> None:
        with mx.autograd.record():
            loss = loss_of(fast(x), y)
        loss.backward()
        trainer.step(worker.BATCH)
        mx.nd.waitall()

    return step


def detector_step() -> Callable[[], object]:
    """A training step of SSD-V2 on a batch in memory. Arguments: BATCH CLASSES [SIZE WIDTH] (300, 1)."""
    from gluoncv.loss import SSDMultiBoxLoss

    from mnssd import zoo
    from mnssd.graph.fast import fast_block
    from mnssd.train.optimizer import make_trainer
    from mnssd.train.options import LoopOptions

    batch, classes = int(sys.argv[2]), int(sys.argv[3])
    size, width = (int(sys.argv[4]), sys.argv[5]) if len(sys.argv) > 4 else (worker.SIZE, "1.0")
    net = zoo.get_model(f"ssd_{size}_mobilenet_v2_{width}", classes=[str(i) for i in range(classes)])
    zoo.initialize(net)
    rng = np.random.default_rng(0)
    x = mx.nd.array(rng.normal(0, 1, (batch, 3, size, size)))
    net(x)
    fast = fast_block(net.heads)
    fast.hybridize(static_alloc=True, static_shape=True)
    trainer, loss_of = make_trainer(net.heads, LoopOptions(lr=1e-3)), SSDMultiBoxLoss()
    positive = rng.random((batch, len(net.anchors))) < 0.01
    labels = mx.nd.array(np.where(positive, rng.integers(1, classes + 1, positive.shape), 0))
    boxes = mx.nd.array(rng.normal(0, 1, (*positive.shape, 4)))

    def step() -> None:
        with mx.autograd.record():
            total, _, _ = loss_of(*fast(x), labels, boxes)
        mx.autograd.backward(total[0])
        trainer.step(1)
        mx.nd.waitall()

    return step


def infer() -> Callable[[], object]:
    """The backbone, folded and fused."""
    from mnssd.graph.inference import inference_block

    batch = int(sys.argv[2])
    block = inference_block(backbone(), (worker.SIZE, worker.SIZE), mx.cpu())
    x = mx.nd.array(np.random.default_rng(0).normal(0, 1, (batch, 3, worker.SIZE, worker.SIZE)))
    return lambda: block(x).asnumpy()


def detect() -> Callable[[], object]:
    """A JPEG in memory to boxes in its pixels, by `Detector`."""
    from mnssd.export.engines import MXNetEngine
    from mnssd.graph.inference import inference_block
    from mnssd.inference.detector import Detector

    with open(sys.argv[2], "rb") as file:
        data = file.read()
    net = untrained_detector()
    engine = MXNetEngine(inference_block(net, net.size, mx.cpu()), mx.cpu())
    detector = Detector(engine, net.classes, net.size)
    return lambda: detector(data)


def sample() -> Callable[[], object]:
    """From the JPEG file to the arrays of a batch, as the training loader does it."""
    from mnssd.data.image import image_size, to_network_input
    from mnssd.data.sample import Sample
    from mnssd.data.targets import TargetAssigner
    from mnssd.data.transforms import TrainTransform
    from mnssd.tasks.detection_samples import read_sample

    path, objects, anchors = sys.argv[2], np.array(json.loads(sys.argv[3]), np.float32), np.load(sys.argv[4])
    boxes, labels = objects[:, :4], objects[:, 4].astype(np.int32)
    item = Sample("0", path, boxes, labels, np.zeros(len(labels), bool), image_size(path))
    size = (worker.SIZE, worker.SIZE)
    transform, assign, rng = TrainTransform(size), TargetAssigner(anchors), np.random.default_rng(0)

    def load() -> None:
        image, in_pixels = read_sample(item, size)
        pixels, moved, kept = transform(image, in_pixels, labels, rng)
        assign(moved, kept)
        to_network_input([pixels])

    return load


def read() -> Callable[[], object]:
    """An image as training at 300x300 reads it. Arguments: the file [CACHE]."""
    from mnssd.data.image import choose_reduction, image_size, read_image
    from mnssd.data.image_cache import ImageCache

    reduction = choose_reduction(image_size(sys.argv[2]), (worker.SIZE, worker.SIZE))
    read = ImageCache(sys.argv[3]).read if len(sys.argv) > 3 else read_image
    return lambda: read(sys.argv[2], reduction)


def detect_export() -> Callable[[], object]:
    """A JPEG in memory to boxes by an export. Arguments: the photo, the export, the engine."""
    from mnssd.inference.detector import Detector

    with open(sys.argv[2], "rb") as file:
        data = file.read()
    detector = Detector.load(sys.argv[3], engine=sys.argv[4])
    return lambda: detector(data)


def infer_export() -> Callable[[], object]:
    """A batch through the network of an export, with decoding and NMS. Arguments: BATCH EXPORT ENGINE."""
    from mnssd.export.engines import network_input
    from mnssd.export.load import load_export

    export, batch = load_export(Path(sys.argv[3]), "detection", mx.cpu(), sys.argv[4]), int(sys.argv[2])
    pixels = np.random.default_rng(0).integers(0, 256, (batch, worker.SIZE, worker.SIZE, 3), np.uint8)
    x = network_input(list(pixels), export.engine.takes_pixels)
    return lambda: export.engine.run(x)


def export_backbone(folder: str, images: List[str]) -> None:
    """Write the backbone as ONNX and for ncnn."""
    from mnssd.export.options import ExportOptions
    from mnssd.export.write import export_network
    from mnssd.nn.spec import ClassifierSpec

    classes = [str(number) for number in range(worker.CLASSES)]
    spec = ClassifierSpec(network="mobilenet_v2", classes=classes, size=(worker.SIZE, worker.SIZE))
    export_network(backbone(), spec, folder, images[:8], "backbone", ExportOptions(format="onnx,ncnn"))


def export_detector(folder: str, images: List[str]) -> None:
    """Write the detector of `detect` in 32-bit and 8-bit formats."""
    from mnssd.export.options import ExportOptions
    from mnssd.export.write import export_network

    net, options = (
        untrained_detector(),
        ExportOptions(format="symbol,int8,onnx,onnx-int8,openvino,openvino-int8"),
    )
    export_network(net, net.spec, folder, images[:8], "detector", options)


EXPORTS = {"export_backbone": export_backbone, "export_detector": export_detector}

if __name__ == "__main__":
    if sys.argv[1] in EXPORTS:
        EXPORTS[sys.argv[1]](sys.argv[2], sys.argv[3:])
    else:
        tasks = (train_step, detector_step, infer, detect, sample, read, detect_export, infer_export)
        worker.serve({task.__name__: task for task in tasks})
