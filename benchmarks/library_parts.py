"""Parts of GluonCV against the code here that does the same: milliseconds, and memory of the targets.

Run it as ``python benchmarks/library_parts.py`` on a quiet machine. Rounds alternate between the two. The
table in docs/architecture.md, "By-hand code against library code", has its figures.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from typing import Any, Callable, List, Tuple

import mnssd  # noqa: F401  (before MXNet: it chooses the threads)

import mxnet as mx  # isort: skip
import numpy as np
from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform
from gluoncv.loss import SSDMultiBoxLoss
from gluoncv.model_zoo.ssd.target import SSDTargetGenerator

from mnssd.boxes import STDS
from mnssd.data.image import to_network_input
from mnssd.data.targets import TargetAssigner
from mnssd.data.transform_options import AugmentOptions
from mnssd.data.transforms import TrainTransform
from mnssd.nn.anchors import make_anchors
from mnssd.tasks.detection_loss import MIN_NEGATIVES, MultiBoxLoss

CLASSES, OBJECTS = 20, 8
MAPS = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def random_boxes(rng: np.random.Generator, count: int) -> Tuple[np.ndarray, np.ndarray]:
    """Corners in 300x300 pixels, and labels."""
    first = rng.uniform(0, 200, (count, 2))
    boxes = np.hstack([first, first + rng.uniform(20, 100, (count, 2))]).astype(np.float32)
    return boxes, rng.integers(0, CLASSES, count)


def losses(anchors: np.ndarray, batch: int) -> List[Callable[[], None]]:
    """Forward and backward pass of GluonCV's loss and of the loss here, on one batch."""
    rng, assign = np.random.default_rng(0), TargetAssigner(anchors)
    pairs = (assign(*random_boxes(rng, OBJECTS)) for _ in range(batch))
    classes, offsets = (np.stack(part) for part in zip(*pairs))
    preds = [mx.nd.array(rng.normal(0, 1, (batch, len(anchors), size))) for size in (CLASSES + 1, 4)]
    for pred in preds:
        pred.attach_grad()
    theirs, ours = (
        SSDMultiBoxLoss(min_hard_negatives=MIN_NEGATIVES),
        MultiBoxLoss("ohem", "smooth_l1", 0, anchors),
    )

    def gluoncv() -> None:
        targets = mx.nd.array(classes), mx.nd.array(offsets)
        with mx.autograd.record():
            total, _, _ = theirs(*preds, *targets)
        total[0].backward()
        mx.nd.waitall()

    def here() -> None:
        with mx.autograd.record():
            total = ours(*preds, classes, offsets).total
        total.backward()
        mx.nd.waitall()

    return [gluoncv, here]


def targets(anchors: np.ndarray) -> List[Callable[[], None]]:
    """Targets of one image by GluonCV's generator and by the assigner here."""
    boxes, labels = random_boxes(np.random.default_rng(0), OBJECTS)
    generator = SSDTargetGenerator(iou_thresh=0.5, stds=STDS, negative_mining_ratio=-1)
    assign, array = TargetAssigner(anchors), mx.nd.array(anchors[None])

    def gluoncv() -> None:
        parts: Any = generator(array, None, mx.nd.array(boxes[None]), mx.nd.array(labels[None, :, None]))
        for part in parts[:2]:
            part.asnumpy()

    return [gluoncv, lambda: void(assign(boxes, labels))]


def augmentations() -> List[Callable[[], None]]:
    """Augmentation of an image of 500x375 with 8 objects by GluonCV's transform and by the one here."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (375, 500, 3)).astype(np.uint8)
    boxes, labels = random_boxes(rng, OBJECTS)
    image, rows = mx.nd.array(pixels, dtype=np.uint8), np.column_stack([boxes, labels]).astype(np.float64)
    theirs, ours = SSDDefaultTrainTransform(300, 300), TrainTransform((300, 300), AugmentOptions())

    def here() -> None:
        to_network_input([ours(pixels, boxes, labels, rng)[0]])

    return [lambda: void(theirs(image, rows)[0].asnumpy()), here]


def void(_: Any) -> None:
    """Nothing."""


def measure(works: List[Callable[[], None]], rounds: int) -> List[float]:
    """Median milliseconds of each, in turn."""
    seconds: List[List[float]] = [[] for _ in works]
    for number in range(rounds + 3):
        for work, taken in zip(works, seconds):
            begun = time.perf_counter()
            work()
            if number >= 3:
                taken.append(time.perf_counter() - begun)
    return [1000 * float(np.median(taken)) for taken in seconds]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16, help="images per step")
    parser.add_argument("--rounds", type=int, default=50, help="rounds of each")
    args = parser.parse_args()
    anchors = make_anchors(MAPS, (300, 300))
    parts = {
        f"loss, {args.batch} images": losses(anchors, args.batch),
        "targets of an image": targets(anchors),
        "augmentation of an image": augmentations(),
    }
    print("| part | GluonCV | here | ratio |\n|---|---|---|---|")
    for name, works in parts.items():
        theirs, ours = measure(works, args.rounds)
        print(f"| {name} | {theirs:.2f} ms | {ours:.2f} ms | {theirs / ours:.2f} |")
    tracemalloc.start()
    targets(anchors)[1]()
    print(f"targets here: {tracemalloc.get_traced_memory()[1] / 2**20:.1f} MiB at most")


if __name__ == "__main__":
    main()
