"""The workloads of `mnssd bench`, measured through the functions that the other commands call."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
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
from ..train.options import DetectionOptions, DetectionTraining, LoopOptions
from ..train.step import TrainingStep
from .measure import WARM_UP, Clock, Measurement, median_seconds, medians_in_turn
from .options import WORKLOADS, BenchOptions

BACKGROUND_BIAS = 6.0
"""Bias of the background class in untrained detectors, so that as few boxes pass NMS as in trained ones."""


def measure_train(options: BenchOptions) -> List[Measurement]:
    """Training steps with data loading: as the training loop runs them, then part by part."""
    detection = DetectionOptions(
        dataset=options.dataset, data_root=options.data_root, train_splits=options.splits,
        network=options.network, width=options.width, size=options.size, head=options.head,
    )  # fmt: skip
    loop = LoopOptions(
        batch_size=options.batch_size, workers=options.workers, ctx=options.ctx,
        fast_graph=options.fast_graph, val_interval=0, lr=1e-4,
    )  # fmt: skip
    task = DetectionTask(DetectionTraining(detection, AugmentOptions(), loop))
    step = TrainingStep(task, make_trainer(task.block, loop, task.last_layers, task.pretrained))
    batches = _repeat(task.batches)
    _train(step, batches, WARM_UP, Clock())
    estimate = _timed(lambda: _train(step, batches, 2, Clock())) / 2
    steps = max(4, round(options.seconds / estimate))
    seconds = _timed(lambda: _train(step, batches, steps, Clock())) / steps
    clock, timed_steps = Clock(mx.nd.waitall), max(3, steps // 2)
    _train(step, batches, timed_steps, clock)
    name = f"train, batch {options.batch_size}" + ("" if options.fast_graph else ", plain graph")
    parts = clock.milliseconds(timed_steps * options.batch_size)
    return [_measurement(name, seconds / options.batch_size, parts)]


def measure_infer(options: BenchOptions) -> List[Measurement]:
    """Detection in an encoded image in memory, and the network alone with batch sizes 1 and 8."""
    ctx = settings.pick_context(options.ctx)
    net, dataset = _detector(options, ctx)
    width, height = net.size
    block, heads = inference_block(net, net.size, ctx), inference_block(net.heads, net.size, ctx)
    detector = Detector(MXNetEngine(block, ctx), net.classes, net.size)
    data = Path(dataset[0].image_path).read_bytes()
    pixels, _ = read_for_network(data, net.size)
    works: List[Callable[[], object]] = [
        partial(detector, data),
        partial(read_for_network, data, net.size),
        partial(to_network_input, [pixels]),
        partial(_run, heads, mx.nd.zeros((1, 3, height, width), ctx=ctx)),
    ]
    detection, *times = (seconds * 1e3 for seconds in medians_in_turn(works, 2 * options.seconds))
    parts = dict(zip(("read", "normalize", "network"), times))
    parts["decoding and NMS"] = max(0.0, detection - sum(times))
    rows = [_measurement("detect, encoded image in memory", detection / 1e3, parts)]
    for batch in (1, 8):
        x = mx.nd.array(np.random.default_rng(0).normal(0, 1, (batch, 3, height, width)), ctx=ctx)
        whole, alone = medians_in_turn([partial(_run, block, x), partial(_run, heads, x)], options.seconds)
        parts = {"network": alone / batch * 1e3, "decoding and NMS": max(0.0, whole - alone) / batch * 1e3}
        rows.append(_measurement(f"infer, batch {batch}", whole / batch, parts))
    return rows


def measure_data(options: BenchOptions) -> List[Measurement]:
    """Training samples: part by part in one thread, and from the loader with one thread per core."""
    dataset = _dataset(options)
    anchors = zoo.build_detector(_spec(options, dataset)).anchors
    transform, assign = TrainTransform(options.size, AugmentOptions()), TargetAssigner(anchors)
    clock, rng = Clock(), np.random.default_rng(0)

    def load(sample: Sample, rng: np.random.Generator, clock: Clock) -> Tuple[np.ndarray, ...]:
        with clock.part("read"):
            image, boxes = read_sample(sample, options.size)
        with clock.part("augment"):
            image, boxes, labels = transform(image, boxes, sample.labels, rng)
        with clock.part("targets"):
            targets = assign(boxes, labels)
        with clock.part("normalize"):
            pixels = to_network_input([image])[0]
        return (pixels, *targets)

    samples, images = chain.from_iterable(dataset for _ in count()), 0
    for sample in islice(samples, WARM_UP):
        load(sample, rng, clock)
    clock.seconds.clear()
    start = time.perf_counter()
    while images < 20 or time.perf_counter() - start < options.seconds:
        load(next(samples), rng, clock)
        images += 1
    seconds = (time.perf_counter() - start) / images
    rows = [_measurement("data, one thread", seconds, clock.milliseconds(images))]
    threads = processor.usable_cores()
    batches = _repeat(Loader(dataset, partial(load, clock=Clock()), options.batch_size, 0, threads))
    next(batches)
    images, start = 0, time.perf_counter()
    while images == 0 or time.perf_counter() - start < options.seconds:
        images += len(next(batches).indices)
    batches.close()
    seconds = (time.perf_counter() - start) / images
    return [*rows, _measurement(f"data, loader with {threads} threads", seconds, {})]


def measure_eval(options: BenchOptions) -> List[Measurement]:
    """Evaluation of image files as in `mnssd eval`; then each part alone."""
    ctx = settings.pick_context(options.ctx)
    net, dataset = _detector(options, ctx)
    workers = options.workers if options.workers >= 0 else settings.image_workers()
    samples = _repeat_samples(dataset)
    first = islice(samples, 2 * options.batch_size)
    predictions = list(predict(net, first, options.batch_size, workers, ctx))
    metric, start, images = VOCMetric(tuple(net.classes)), 0.0, -WARM_UP * options.batch_size
    for sample, detections in predict(net, samples, options.batch_size, workers, ctx):
        metric.add(detections, sample)
        images += 1
        # The first batches include folding and fusing the network. The last batch counted must be complete:
        # its images are computed together.
        if images == 0:
            start = time.perf_counter()
        is_complete = images > 0 and images % options.batch_size == 0
        if is_complete and time.perf_counter() - start > options.seconds:
            break
    seconds = (time.perf_counter() - start) / images
    free_dropped_blocks()
    block, (width, height) = inference_block(net, net.size, ctx), net.size
    x = mx.nd.zeros((options.batch_size, 3, height, width), ctx=ctx)
    network = median_seconds(partial(_run, block, x), options.seconds / 2)
    paths = [sample.image_path for sample, _ in predictions]
    read = _timed(lambda: [read_for_network(path, net.size) for path in paths]) / len(paths)
    clock, metric = Clock(), VOCMetric(tuple(net.classes))
    for sample, detections in predictions:
        with clock.part("metric"):
            metric.add(detections, sample)
    parts = {"read": read * 1e3, "network": network / options.batch_size * 1e3}
    parts.update(clock.milliseconds(len(predictions)))
    return [_measurement(f"eval, batch {options.batch_size}", seconds, parts)]


def measure(workload: str, options: BenchOptions) -> List[Measurement]:
    """Measure one of `WORKLOADS`."""
    functions = (measure_train, measure_infer, measure_data, measure_eval)
    return dict(zip(WORKLOADS, functions))[workload](options)


def _measurement(name: str, seconds: float, parts: Dict[str, float]) -> Measurement:
    return Measurement(name, 1 / seconds, seconds * 1e3, parts, processor.peak_megabytes())


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _repeat_samples(dataset: Dataset) -> Iterator[Sample]:
    """Samples without end, each pass with new image ids, because a metric refuses an image twice."""
    for number in count():
        for sample in dataset:
            yield dataclasses.replace(sample, image_id=f"{sample.image_id} {number}")


def _run(block: Any, x: mx.nd.NDArray) -> None:
    for output in block(x):
        output.asnumpy()


def _repeat(loader: Loader) -> Generator[Batch, None, None]:
    for epoch in count():
        yield from loader.epoch(epoch)


def _train(step: TrainingStep, batches: Iterator[Batch], steps: int, clock: Clock) -> None:
    for _ in range(steps):
        with clock.part("data"):
            batch = next(batches)
        with clock.part("forward"):
            step.forward(batch)
        with clock.part("backward"):
            step.backward()
        with clock.part("update"):
            step.update()
    mx.nd.waitall()


def _dataset(options: BenchOptions, classes: Optional[Sequence[str]] = None) -> Dataset:
    return open_dataset(
        options.dataset, options.data_root, options.splits, classes, "train", allow_absent=True
    )


def _spec(options: BenchOptions, dataset: Dataset) -> zoo.DetectorSpec:
    return zoo.DetectorSpec(dataset.classes, options.network, options.width, options.size, head=options.head)


def _detector(options: BenchOptions, ctx: mx.Context) -> Tuple[Any, Dataset]:
    """Detector of the run, or an untrained one, and the dataset."""
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
        bias[:, 0] = BACKGROUND_BIAS
        layer.bias.set_data(mx.nd.array(bias.reshape(-1)))
    return net, dataset
