"""Initial weights of networks."""

from __future__ import annotations

from typing import Any

import mxnet as mx


def initialize(net: Any, ctx: Any = None) -> None:
    """Initialize a network that starts without weights.

    Gaussian with variance 2 / fan-in (He et al. 2015); fan-in because MXNet computes the fan-out of a
    depthwise convolution as if every output read every channel. A block's `residual_gamma` starts at 0, so
    that the network starts shallow (Goyal et al. 2017, section 5.1; measured in benchmarks/SHAPES.md).
    """

    def zero_residual_gamma(block: Any) -> None:
        if getattr(block, "residual_gamma", None) is not None:
            block.residual_gamma.init = mx.init.Zero()

    net.apply(zero_residual_gamma)
    net.initialize(mx.init.Xavier("gaussian", "in", 2), ctx=ctx)


def finish_initialization(net: Any) -> None:
    """Initialize now what Gluon leaves to the first forward pass of an `nn.SSD`.

    Gluon 1.9.1: initializing a parameter again before that replaces its initial values, as GluonCV's scripts
    do. To see it, call ``net.initialize(mx.init.One())``, ``net.initialize()`` and the network.
    """
    waiting = [p for p in net.collect_params().values() if p._data is None and p._deferred_init]
    if waiting:
        width, height = net.size
        net(mx.nd.zeros((1, 3, height, width), ctx=waiting[0]._deferred_init[1][0]))
