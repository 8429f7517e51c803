"""A training loop in the style of GluonCV's scripts/detection/ssd/train_ssd.py: its transform and loss.

    python benchmarks/loop_gluon.py VOCDEVKIT SPLIT WORKERS

The network is that of work_gluon.py. A repetition is a step, with the wait for its batch.
"""

from __future__ import annotations

import sys
import time

import mxnet as mx
import work_gluon
import worker
from gluoncv.data import VOCDetection
from gluoncv.data.batchify import Stack, Tuple
from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform
from gluoncv.loss import SSDMultiBoxLoss
from mxnet import autograd, gluon

BATCH = 16


def main() -> None:
    """Train."""
    turns = worker.Turns()
    root, split, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    year, name = split.split("_")
    dataset = VOCDetection(root=root, splits=[(int(year), name)])
    net = work_gluon.detector(len(dataset.classes))
    with autograd.train_mode():
        _, _, anchors = net(mx.nd.zeros((1, 3, worker.SIZE, worker.SIZE)))
    loader = gluon.data.DataLoader(
        dataset.transform(SSDDefaultTrainTransform(worker.SIZE, worker.SIZE, anchors)),
        BATCH, True, batchify_fn=Tuple(Stack(), Stack(), Stack()), last_batch="rollover", num_workers=workers,
    )  # fmt: skip
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-3, "wd": 5e-4, "momentum": 0.9})
    loss_of = SSDMultiBoxLoss()
    net.hybridize(static_alloc=True, static_shape=True)
    done, begun = 0, time.perf_counter()
    while True:
        for images, cls_targets, box_targets in loader:
            # Batches from worker processes lie in shared memory, which a hybridized network refuses.
            images, cls_targets, box_targets = (
                array.as_in_context(mx.cpu()) for array in (images, cls_targets, box_targets)
            )
            with autograd.record():
                cls_preds, box_preds, _ = net(images)
                total, _, _ = loss_of(cls_preds, box_preds, cls_targets, box_targets)
                autograd.backward(total)
            trainer.step(1)
            mx.nd.waitall()
            done += 1
            if done == 2:  # MXNet plans memory in the first steps
                turns.start()
            elif done > 2:
                turns.add(time.perf_counter() - begun)
            begun = time.perf_counter()


if __name__ == "__main__":
    main()
