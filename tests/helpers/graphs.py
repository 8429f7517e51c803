"""Blocks for tests of graph passes, and comparison of a block with its rewritten graph."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from helpers.networks import fill, values
from mnssd.graph import Graph, fast_block
from mnssd.nn import LinearBottleneck
from mnssd.nn.layers import add_conv, add_separable

Passes = Optional[Sequence[Tuple[str, Callable[[Graph], int]]]]


def sequential(*layers: Any) -> HybridBlock:
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(*layers)
    return net


def norm(**options: Any) -> HybridBlock:
    return nn.BatchNorm(**options)


def stack(act: str, first: int = 24, second: int = 20, last: int = 4) -> HybridBlock:
    """Convolution, separable convolution and predictor; the default channel counts need padding."""
    net = nn.HybridSequential()
    with net.name_scope():
        add_conv(net, first, kernel=3, stride=2, pad=1, act=act)
        add_separable(net, first, second, stride=1, act=act)
        net.add(nn.Conv2D(last, 1))
    return net


def bottlenecks() -> HybridBlock:
    """Bottlenecks with an identity shortcut, without a shortcut, and with a projection."""
    net = nn.HybridSequential()
    with net.name_scope():
        add_conv(net, 12, kernel=3, stride=2, pad=1)
        net.add(LinearBottleneck(12, 12, 3, 1), LinearBottleneck(12, 20, 6, 2))
        net.add(LinearBottleneck(20, 24, 2, 1, "projection"), nn.Conv2D(5, 1))
    return net


def initialized(factory: Callable[[], Any], x: Any, seed: int = 0) -> Any:
    """The block with random weights that depend only on `seed`."""
    block = factory()
    block.initialize()
    block(x)
    fill(block, seed)
    return block


def as_list(outputs: Any) -> List[Any]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def train_once(forward: Any, x: Any) -> List[np.ndarray]:
    """Outputs of a training pass; runs the backward pass with random output gradients."""
    rng = np.random.default_rng(5)
    with mx.autograd.record():
        outputs = as_list(forward(x))
    mx.autograd.backward(outputs, [mx.nd.array(rng.normal(size=o.shape)) for o in outputs])
    mx.nd.waitall()  # for running statistics, see `fast_block`
    return [o.asnumpy() for o in outputs]


def gradients(block: Any) -> Dict[str, np.ndarray]:
    named = block._collect_params_with_prefix()
    return {name: p.grad().asnumpy() for name, p in named.items() if p.grad_req != "null"}


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float, scale: float = 0.0) -> None:
    """Equal within `tolerance` times the largest value, or times `scale` if that is larger."""
    assert actual.shape == expected.shape
    largest = max(float(np.abs(expected).max()), scale)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)


def assert_same_block(
    factory: Callable[[], Any], x: Any, passes: Passes = None, tolerance: float = 1e-4
) -> Any:
    """Compare inference, a training step and inference again; returns the rewritten block."""
    plain, rewritten = initialized(factory, x), initialized(factory, x)
    fast = fast_block(rewritten, passes)
    for before, after in zip(as_list(plain(x)), as_list(fast(x))):
        assert_close(after.asnumpy(), before.asnumpy(), tolerance)
    for before, after in zip(train_once(plain, x), train_once(fast, x)):
        assert np.abs(before).max() > 0
        assert_close(after, before, tolerance)
    expected, actual = gradients(plain), gradients(rewritten)
    # Gradients that are zero in theory (a beta before another BatchNorm) are compared at the scale of the
    # others.
    scale = float(np.median([np.abs(g).max() for g in expected.values()])) if expected else 0.0
    for name, gradient in expected.items():
        assert_close(actual[name], gradient, tolerance, scale)
    statistics = {name: value for name, value in values(plain).items() if "running" in name}
    new_values = values(rewritten)
    for name, value in statistics.items():
        assert_close(new_values[name], value, tolerance)
    for before, after in zip(as_list(plain(x)), as_list(fast(x))):  # with the new statistics
        assert_close(after.asnumpy(), before.asnumpy(), tolerance)
    return fast
