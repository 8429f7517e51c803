"""The two engines of the loader in one process, in turn: Gluon's `DataLoader` against threads per sample.

    python benchmarks/engines.py VOCDEVKIT SPLIT [--workers 0 1 2] [--rounds 7] [--steps 12]

A round is a part of an epoch with each engine: its first steps, with the start and the end of the loader.
`loop` trains, `loader` only loads, `start and end` loads one batch. The ratio is that of the medians, Gluon's
time over the other, and below 1.03 the loop is within 3 %.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from itertools import chain, islice
from typing import Any, Callable, Dict, Iterator, List

import mnssd  # noqa: F401  (before MXNet: it chooses the threads)

import mxnet as mx  # isort: skip
import numpy as np

from mnssd.data import loader
from mnssd.data.gluon_batches import BATCHES_AHEAD, gluon_batches
from mnssd.data.prefetch import prefetch
from mnssd.data.transform_options import AugmentOptions
from mnssd.tasks.detection import DetectionTask
from mnssd.train.optimizer import make_trainer
from mnssd.train.options import DetectionOptions, DetectionTraining, LoopOptions
from mnssd.train.step import TrainingStep


def thread_batches(get: Any, batches: Any, batchify: Any, workers: int) -> Iterator[Any]:
    """The batches of `gluon_batches`, by threads that load one sample at a time."""
    size = max(map(len, batches), default=1)
    items = prefetch(get, chain.from_iterable(batches), workers, BATCHES_AHEAD * size)
    with contextlib.closing(items):
        for batch in batches:
            yield batchify(list(islice(items, len(batch))))


ENGINES: Dict[str, Any] = {"gluon": gluon_batches, "threads": thread_batches}


def make_task(args: argparse.Namespace, workers: int) -> DetectionTask:
    """MobileNetV2 SSD with random weights."""
    data = DetectionOptions(
        dataset="voc", data_root=args.devkit, train_splits=args.split, size=(args.size, args.size)
    )
    loop = LoopOptions(batch_size=args.batch, workers=workers, val_interval=0, lr=1e-4)
    return DetectionTask(DetectionTraining(data, AugmentOptions(), loop))


def in_turn(work: Callable[[], None], task: DetectionTask, rounds: int) -> Dict[str, float]:
    """Median seconds of `work` with each engine; the order changes with each round."""
    seconds: Dict[str, List[float]] = {name: [] for name in ENGINES}
    for number in range(rounds + 1):
        for name in sorted(ENGINES, reverse=bool(number % 2)):
            loader.gluon_batches = ENGINES[name]  # type: ignore[attr-defined]
            begun = time.perf_counter()
            work()
            if number:  # the first round is a warm-up
                seconds[name].append(time.perf_counter() - begun)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


def train(task: DetectionTask, step: TrainingStep, steps: int) -> None:
    """Run the first steps of an epoch."""
    with contextlib.closing(task.batches.epoch(0)) as batches:
        for batch in islice(batches, steps):
            step(batch, 1e-4)
    mx.nd.waitall()


def load(task: DetectionTask, steps: int) -> None:
    """Load the first batches of an epoch."""
    with contextlib.closing(task.batches.epoch(0)) as batches:
        for _ in islice(batches, steps):
            pass


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("devkit")
    parser.add_argument("split")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=300)
    args = parser.parse_args()
    print("| workers | part | Gluon | threads | ratio |\n|---|---|---|---|---|")
    for workers in args.workers:
        task = make_task(args, workers)
        steps = min(args.steps, len(task.batches))
        step = TrainingStep(task, make_trainer(task.block, task.options.loop))
        parts: Dict[str, Callable[[], None]] = {
            "loop": lambda task=task, step=step, steps=steps: train(task, step, steps),
            "loader": lambda task=task, steps=steps: load(task, steps),
            "start and end": lambda task=task: load(task, 1),
        }  # fmt: skip
        for part, work in parts.items():
            medians = in_turn(work, task, args.rounds)
            gluon, threads = medians["gluon"], medians["threads"]
            print(
                f"| {workers} | {part} | {gluon:.3f} s | {threads:.3f} s | {gluon / threads:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
