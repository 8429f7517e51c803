"""The optimizers' arithmetic, and what a checkpoint keeps of them."""

from __future__ import annotations

from typing import Any, Dict

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from mnssd.train.optimizer import make_trainer, optimizer_arrays, restore_optimizer
from mnssd.train.options import LoopOptions


def network() -> Any:
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=4), nn.BatchNorm(in_channels=3), nn.Dense(2, in_units=3))
    net.initialize(mx.init.Normal(0.5))
    return net


def names(net: Any) -> Dict[str, Any]:
    return {n: p for n, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}


def step(net: Any, trainer: Any, seed: int) -> Dict[str, np.ndarray]:
    """One step on random data; returns the gradients."""
    x = mx.nd.array(np.random.default_rng(seed).normal(size=(8, 4)))
    with mx.autograd.record():
        loss = (net(x) ** 2).sum()
    loss.backward()
    gradients = {name: p.grad().asnumpy() for name, p in names(net).items()}
    trainer.step(1)
    return gradients


def test_adamw_is_what_the_paper_says() -> None:
    net = network()
    options = LoopOptions(optimizer="adamw", lr=0.01, wd=0.1, predictor_lr=0.5, momentum=0.8)
    trainer = make_trainer(net, options, [net[2]])
    weights = {name: p.data().asnumpy().astype(np.float64) for name, p in names(net).items()}
    mean, variance = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    for t in range(1, 6):
        for name, g in step(net, trainer, t).items():
            mean[name] = 0.8 * mean[name] + 0.2 * g
            variance[name] = 0.999 * variance[name] + 0.001 * g.astype(np.float64) ** 2
            rate = 0.01 * (0.5 if name.startswith("2.") else 1)
            decay = 0.1 if name.endswith("weight") else 0
            towards = mean[name] / (1 - 0.8**t)
            # As MXNet's Adam, epsilon is added before the correction of the variance, not after it.
            away = np.sqrt(variance[name]) / np.sqrt(1 - 0.999**t) + 1e-8 / np.sqrt(1 - 0.999**t)
            weights[name] -= rate * towards / away + rate * decay * weights[name]
        for name, p in names(net).items():
            np.testing.assert_allclose(p.data().asnumpy(), weights[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_goes_on_from_what_was_kept(optimizer: str) -> None:
    options = LoopOptions(optimizer=optimizer, lr=0.01, wd=0.01)
    net, other = network(), network()
    trainer = make_trainer(net, options)
    for t in range(3):
        step(net, trainer, t)
    kept = optimizer_arrays(trainer, names(net))
    assert {name.split("/")[0] for name in kept} == (
        {"momentum"} if optimizer == "sgd" else {"mean", "variance"}
    )
    for mine, theirs in zip(net.collect_params().values(), other.collect_params().values()):
        theirs.set_data(mine.data())
    second = make_trainer(other, options)
    restore_optimizer(second, names(other), kept, 3)
    for t in range(3, 6):
        step(net, trainer, t)
        step(other, second, t)
    for name, p in names(net).items():
        np.testing.assert_array_equal(p.data().asnumpy(), names(other)[name].data().asnumpy())
