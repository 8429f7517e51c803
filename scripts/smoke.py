"""Smoke test: import all modules, run a small detector forward and backward, and print the versions.

`make test-pythons` runs it in the environment of each Python.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys


def main() -> int:
    """Run the test; failures raise an exception."""
    import mnssd
    from mnssd.runtime import settings

    for module in pkgutil.walk_packages(mnssd.__path__, "mnssd."):
        importlib.import_module(module.name)

    import mxnet as mx

    from mnssd import zoo

    settings.seed_everything(0)
    net = zoo.get_model("ssd_128_mobilenet_v2_0.35", classes=["circle", "square"])
    net.initialize(ctx=settings.pick_context("cpu"))
    images = mx.nd.random.uniform(shape=(2, 3, 128, 128))
    with mx.autograd.record():
        class_scores, box_offsets = net.heads(images)
        loss = class_scores.square().mean() + box_offsets.square().mean()
    loss.backward()
    net.hybridize()
    labels, scores, boxes = net(images)
    assert float(loss.asscalar()) > 0
    assert labels.shape[:2] == scores.shape[:2] == boxes.shape[:2] == (2, labels.shape[1])
    mx.nd.waitall()

    versions = settings.describe()["versions"]
    print("ok: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
