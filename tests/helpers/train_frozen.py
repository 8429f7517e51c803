"""`train_ssd.py` with frozen BatchNorm statistics that prints a digest of its weights; for
`test_distributed`.

Batch statistics of a rank are those of its share of the batch, so distributed training equals that of one
process only without them.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

from mnssd.cli.main import run_command
from mnssd.tasks import detection


def freeze_statistics() -> None:
    """Let detection tasks train with the stored statistics."""
    build = detection.zoo.build_detector

    def build_frozen(spec: Any) -> Any:
        from mxnet.gluon import nn

        from mnssd.train.freezing import layers

        net = build(spec)
        for layer in layers(net):
            if isinstance(layer, nn.BatchNorm):
                layer._kwargs["use_global_stats"] = True
        return net

    detection.zoo.build_detector = build_frozen  # type: ignore[assignment]


def print_digest() -> None:
    """Print a digest of the weights, without statistics, after training."""
    from mnssd.train import loop

    fit = loop.fit

    def fit_and_print(task: Any, *rest: Any) -> Any:
        progress = fit(task, *rest)
        digest = hashlib.sha256()
        for parameter in task.block.collect_params().values():
            if parameter.grad_req != "null":
                digest.update(parameter.data().asnumpy().tobytes())
        print(f"weights {digest.hexdigest()[:16]}", flush=True)
        return progress

    loop.fit = fit_and_print  # type: ignore[assignment]


if __name__ == "__main__":
    freeze_statistics()
    print_digest()
    sys.exit(run_command("train-ssd", [*sys.argv[1:], "--no-fast-graph"]))
