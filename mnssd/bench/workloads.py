"""The measurements of `mnssd bench`, each through the functions that the other commands call."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from itertools import chain, count, islice
from typing import Any, Callable, Dict, Generator, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .. import zoo
from ..data.dataset import Dataset
from ..data.image import to_network_input
from ..data.loader import Batch, Loader
from ..data.open import open_dataset
from ..data.preprocess import read_for_network
from ..data.sample import Sample
from ..data.targets import TargetAssigner
from ..data.transform_options import AugmentOptions
from ..data.transforms import TrainTransform
from ..export.engines import MXNetEngine
from ..graph.inference import free_dropped_blocks, inference_block
from ..inference.detector import Detector
from ..inference.predict import predict
from ..metrics.voc import VOCMetric
from ..runtime import processor, settings
from ..tasks.detection import DetectionTask
from ..tasks.detection_samples import read_sample
from ..train.optimizer import make_trainer
from ..train.options import DetectionOptions, LoopOptions
from .measure import WARM_UP, Clock, Measurement, median_seconds, medians_in_turn
from .options import BenchOptions

BACKGROUND = 6.0
"""Bias of the background in untrained detectors: as in trained ones, few boxes pass the threshold."""


def measure_train(options: BenchOptions) -> List[Measurement]:
    """Training steps, images read, augmented and assigned: as the loop runs them, then part by part."""
    augment, detection = AugmentOptions(), _detection_options(options)
    loop = LoopOptions(
        batch_size=options.batch_size, workers=options.workers, ctx=options.ctx,
        fast_graph=options.fast_graph, val_interval=0, lr=1e-4,
    )  # fmt: skip
    task = DetectionTask(detection, augment, loop)
    trainer = make_trainer(task.block, loop, task.last_layers, task.pretrained)
    batches = _endless(task.batches)
    _train(task, trainer, batches, WARM_UP, Clock())
    once = _timed(lambda: _train(task, trainer, batches, 2, Clock())) / 2
    steps = max(4, round(options.seconds / once))
    seconds = _timed(lambda: _train(task, trainer, batches, steps, Clock())) / steps
    clock = Clock(mx.nd.waitall)
    apart = max(3, steps // 2)
    _train(task, trainer, batches, apart, clock)
    what = f"train, batch {options.batch_size}" + ("" if options.fast_graph else ", plain graph")
    return [_measurement(what, seconds / options.batch_size, clock.milliseconds(apart * options.batch_size))]


def measure_infer(options: BenchOptions) -> List[Measurement]:
    """An image in memory to boxes; and the network alone, at batch 1 and 8."""
    ctx = settings.pick_context(options.ctx)
    net, dataset = _detector(options, ctx)
    width, height = net.size
    block, heads = inference_block(net, net.size, ctx), inference_block(net.heads, net.size, ctx)
    rows = []
    with open(dataset[0].image_path, "rb") as file:
        data = file.read()
    detector, x = (
        Detector(MXNetEngine(block, ctx), net.classes, net.size),
        mx.nd.zeros((1, 3, height, width), ctx=ctx),
    )
    pixels, _ = read_for_network(data, net.size)
    frame, read, normalise, network = medians_in_turn(
        [
            lambda: detector(data),
            lambda: read_for_network(data, net.size),
            lambda: to_network_input([pixels]),
            partial(_answer, heads, x),
        ],
        2 * options.seconds,
    )
    parts = {"read": read, "normalise": normalise, "network": network}
    parts["boxes and NMS"] = max(0.0, frame - sum(parts.values()))
    in_milliseconds = {name: part * 1e3 for name, part in parts.items()}
    rows.append(_measurement("detect, one image file in memory", frame, in_milliseconds))
    for batch in (1, 8):
        x = mx.nd.array(np.random.default_rng(0).normal(0, 1, (batch, 3, height, width)), ctx=ctx)
        whole, alone = medians_in_turn(
            [partial(_answer, block, x), partial(_answer, heads, x)], options.seconds
        )
        in_milliseconds = {
            "network": alone / batch * 1e3,
            "boxes and NMS": max(0.0, whole - alone) / batch * 1e3,
        }
        rows.append(_measurement(f"infer, batch {batch}", whole / batch, in_milliseconds))
    return rows


def measure_data(options: BenchOptions) -> List[Measurement]:
    """Samples for training: in one thread part by part, and from the loader in as many threads as cores."""
    dataset = _dataset(options)
    anchors = zoo.build_detector(_spec(options, dataset)).anchors
    transform, assign = TrainTransform(options.size, AugmentOptions()), TargetAssigner(anchors)
    clock, rng = Clock(), np.random.default_rng(0)

    def load(sample: Sample, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        image, boxes = read_sample(sample, options.size)
        image, boxes, labels = transform(image, boxes, sample.labels, rng)
        return (to_network_input([image])[0], *assign(boxes, labels))

    def load_by_parts(sample: Sample) -> None:
        with clock.part("read"):
            image, boxes = read_sample(sample, options.size)
        with clock.part("augment"):
            image, boxes, labels = transform(image, boxes, sample.labels, rng)
        with clock.part("targets"):
            assign(boxes, labels)
        with clock.part("normalise"):
            to_network_input([image])

    samples, done = chain.from_iterable(dataset for _ in count()), 0
    for sample in islice(samples, WARM_UP):
        load_by_parts(sample)
    clock.seconds.clear()
    begun = time.perf_counter()
    while done < 20 or time.perf_counter() - begun < options.seconds:
        load_by_parts(next(samples))
        done += 1
    each = (time.perf_counter() - begun) / done
    rows = [_measurement("data, one thread", each, clock.milliseconds(done))]
    threads = processor.usable_cores()
    batches = _endless(Loader(dataset, load, options.batch_size, 0, threads))
    next(batches)
    images, begun = 0, time.perf_counter()
    while images == 0 or time.perf_counter() - begun < options.seconds:
        images += len(next(batches).indices)
    batches.close()
    each = (time.perf_counter() - begun) / images
    return [*rows, _measurement(f"data, loader with {threads} threads", each, {})]


def measure_eval(options: BenchOptions) -> List[Measurement]:
    """Image files to detections to a metric, as `mnssd eval`; then each part alone."""
    ctx = settings.pick_context(options.ctx)
    net, dataset = _detector(options, ctx)
    workers = options.workers if options.workers >= 0 else settings.image_workers()
    samples = _renamed(dataset)
    found = list(predict(net, islice(samples, 2 * options.batch_size), options.batch_size, workers, ctx))
    metric, begun, images = VOCMetric(tuple(net.classes)), 0.0, -WARM_UP * options.batch_size
    for sample, detections in predict(net, samples, options.batch_size, workers, ctx):
        metric.add(detections, sample)
        images += 1
        # None of the first batches, in whose time the network is folded and fused; and whole ones, or what
        # was launched and not fetched would be left out.
        if images == 0:
            begun = time.perf_counter()
        whole = images > 0 and images % options.batch_size == 0
        if whole and time.perf_counter() - begun > options.seconds:
            break
    each = (time.perf_counter() - begun) / images
    free_dropped_blocks()
    block, (width, height) = inference_block(net, net.size, ctx), net.size
    x = mx.nd.zeros((options.batch_size, 3, height, width), ctx=ctx)
    network = median_seconds(partial(_answer, block, x), options.seconds / 2)
    paths = [sample.image_path for sample, _ in found]
    read = _timed(lambda: [read_for_network(path, net.size) for path in paths]) / len(paths)
    clock, metric = Clock(), VOCMetric(tuple(net.classes))
    for sample, detections in found:
        with clock.part("metric"):
            metric.add(detections, sample)
    parts = {"read": read * 1e3, "network": network / options.batch_size * 1e3}
    parts.update(clock.milliseconds(len(found)))
    return [_measurement(f"eval, batch {options.batch_size}", each, parts)]


KINDS: Dict[str, Callable[[BenchOptions], List[Measurement]]] = {
    "train": measure_train,
    "infer": measure_infer,
    "data": measure_data,
    "eval": measure_eval,
}


def _measurement(what: str, seconds: float, parts: Dict[str, float]) -> Measurement:
    return Measurement(what, 1 / seconds, seconds * 1e3, parts, processor.peak_megabytes())


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _renamed(dataset: Dataset) -> Iterator[Sample]:
    """The samples over and over, each time under other ids: a metric takes an image once."""
    for number in count():
        for sample in dataset:
            yield dataclasses.replace(sample, image_id=f"{sample.image_id} {number}")


def _answer(block: Any, x: mx.nd.NDArray) -> None:
    for output in block(x):
        output.asnumpy()


def _endless(loader: Loader) -> Generator[Batch, None, None]:
    for number in count():
        yield from loader.epoch(number)


def _train(
    task: DetectionTask, trainer: mx.gluon.Trainer, batches: Iterator[Batch], steps: int, clock: Clock
) -> None:
    """So many steps as `train.loop.fit` makes them."""
    for _ in range(steps):
        with clock.part("data"):
            batch = next(batches)
        with clock.part("forward"), mx.autograd.record():
            objective, named = task.losses(batch)
        with clock.part("backward"):
            mx.autograd.backward(objective)
            for value in named.values():
                value.asscalar()
        with clock.part("update"):
            trainer.step(1)
    mx.nd.waitall()


def _detection_options(options: BenchOptions) -> DetectionOptions:
    return DetectionOptions(
        dataset=options.dataset, data_root=options.data_root, train_splits=options.splits,
        network=options.network, width=options.width, size=options.size, head=options.head,
    )  # fmt: skip


def _dataset(options: BenchOptions, classes: Optional[Sequence[str]] = None) -> Dataset:
    return open_dataset(
        options.dataset, options.data_root, options.splits, classes, "train", allow_absent=True
    )


def _spec(options: BenchOptions, dataset: Dataset) -> zoo.DetectorSpec:
    return zoo.DetectorSpec(dataset.classes, options.network, options.width, options.size, options.head)


def _detector(options: BenchOptions, ctx: mx.Context) -> Tuple[Any, Dataset]:
    """The run's detector, or an untrained one, and the images for it."""
    if options.run:
        net = zoo.load_detector(options.run, ctx)
        return net, _dataset(options, net.classes)
    dataset = _dataset(options)
    settings.seed_everything(0)
    net = zoo.build_detector(_spec(options, dataset))
    zoo.initialize(net, ctx)
    width, height = net.size
    net(mx.nd.zeros((1, 3, height, width), ctx=ctx))
    for layer in net.heads.class_convolutions():
        bias = np.zeros((layer.bias.shape[0] // (len(net.classes) + 1), len(net.classes) + 1), np.float32)
        bias[:, 0] = BACKGROUND
        layer.bias.set_data(mx.nd.array(bias.reshape(-1)))
    return net, dataset
