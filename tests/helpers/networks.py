"""Random weights, images and costs for tests of networks, weights and graphs."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import mxnet as mx
import numpy as np

from mnssd.runtime.settings import wait_all


def fill(block: Any, seed: int = 0) -> None:
    """Set all parameters and running statistics to random values that preserve the scale of activations.

    Run the block once before: its shapes must be known.
    """
    rng = np.random.default_rng(seed)
    for name, parameter in block.collect_params().items():
        shape = parameter.shape
        if name.endswith("running_var"):
            value = rng.uniform(0.5, 2.0, shape)
        elif name.endswith("gamma"):
            value = rng.uniform(0.7, 1.5, shape)
        elif name.endswith(("running_mean", "beta", "bias")):
            value = rng.normal(0, 0.3, shape)
        elif name.endswith("weight"):
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            continue
        parameter.set_data(mx.nd.array(value))


def images(batch: int, width: int, height: int, seed: int = 0) -> Any:
    """Random smooth network inputs ``(batch, 3, height, width)``."""
    rng = np.random.default_rng(seed)
    coarse = mx.nd.array(rng.normal(0, 1.5, (batch, 3, height // 8, width // 8)))
    fine = mx.nd.array(rng.normal(0, 0.3, (batch, 3, height, width)))
    return mx.nd.contrib.BilinearResize2D(coarse, height=height, width=width) + fine


def values(block: Any) -> Dict[str, np.ndarray]:
    """Copies of all parameters by structural name."""
    wait_all()
    return {name: p.data().asnumpy().copy() for name, p in block._collect_params_with_prefix().items()}


def count(outputs: Any, width: int, height: int) -> Tuple[int, int]:
    """Parameters without running statistics, and multiply-adds for one image, of a traced network.

    Counted as in the papers: convolutions and dense layers, without biases.
    """
    shape = {"data": (1, 3, height, width)}
    arguments, _, _ = outputs.infer_shape(**shape)
    named = dict(zip(outputs.list_arguments(), arguments))
    parameters = sum(int(np.prod(s)) for name, s in named.items() if name != "data")
    macs = 0
    internals = outputs.get_internals()
    _, out_shapes, _ = internals.infer_shape(**shape)
    for name, out in zip(internals.list_outputs(), out_shapes):
        layer = name[: -len("_output")]
        weight = named.get(layer.replace("_fwd", "_weight"))
        if name.endswith("_fwd_output") and weight is not None and len(weight) > 1:
            macs += int(np.prod(weight)) * int(np.prod(out[2:]))
    return parameters, macs
