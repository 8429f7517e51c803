"""`train_ssd.py` with BatchNorm as in inference, saying at its end what its weights are; for `test_launch`.

The statistics of a batch are those of a worker's share, so only without them can several workers be compared
with one process.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

from mnssd.cli.main import run_command
from mnssd.tasks import detection


def freeze_statistics() -> None:
    """Every detection task trains with the stored statistics, in the plain graph."""
    build = detection.zoo.build_detector

    def built(spec: Any) -> Any:
        net = build(spec)
        for layer in detection_layers(net):
            layer._kwargs["use_global_stats"] = True
        return net

    detection.zoo.build_detector = built  # type: ignore[assignment]


def detection_layers(net: Any) -> Any:
    from mxnet.gluon import nn

    from mnssd.train.freezing import layers

    return [layer for layer in layers(net) if isinstance(layer, nn.BatchNorm)]


def say_weights() -> None:
    """After the run: a digest of the weights, statistics aside."""
    from mnssd.train import loop

    fit = loop.fit

    def fitted(task: Any, *rest: Any) -> Any:
        progress = fit(task, *rest)
        digest = hashlib.sha256()
        for parameter in task.block.collect_params().values():
            if parameter.grad_req != "null":
                digest.update(parameter.data().asnumpy().tobytes())
        print(f"weights {digest.hexdigest()[:16]}", flush=True)
        return progress

    loop.fit = fitted  # type: ignore[assignment]


if __name__ == "__main__":
    freeze_statistics()
    say_weights()
    sys.exit(run_command("train-ssd", [*sys.argv[1:], "--no-fast-graph"]))
