"""A training loop in the style of GluonCV's scripts/detection/ssd/train_ssd.py: its transform and loss.

    python benchmarks/loop_gluon.py VOCDEVKIT SPLIT WORKERS STEPS

The network is that of work_gluon.py. Prints images per second over the steps after the first two.
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
    root, split, workers, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
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
    done, begun = 0, 0.0
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
            done += 1
            if done in (2, steps):
                mx.nd.waitall()
                if done == steps:
                    print(f"{(steps - 2) * BATCH / (time.monotonic() - begun):.4f}", flush=True)
                    return
                begun = time.monotonic()


if __name__ == "__main__":
    main()
