"""Optimizers: their arithmetic, learning rates by parameter, and their state in a checkpoint."""

from __future__ import annotations

from typing import Any, Dict

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import images, values
from mxnet.gluon import nn

from mnssd import zoo
from mnssd.train.optimizer import make_trainer, optimizer_arrays, restore_optimizer
from mnssd.train.options import LoopOptions


def network() -> Any:
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=4), nn.BatchNorm(in_channels=3), nn.Dense(2, in_units=3))
    net.initialize(mx.init.Normal(0.5))
    return net


def parameters(net: Any) -> Dict[str, Any]:
    return {n: p for n, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}


def step(net: Any, trainer: Any, seed: int) -> Dict[str, np.ndarray]:
    """Take a step on random data; returns the gradients."""
    x = mx.nd.array(np.random.default_rng(seed).normal(size=(8, 4)))
    with mx.autograd.record():
        loss = (net(x) ** 2).sum()
    loss.backward()
    gradients = {name: p.grad().asnumpy() for name, p in parameters(net).items()}
    trainer.step(1)
    return gradients


def test_adamw_follows_the_paper() -> None:
    net = network()
    options = LoopOptions(optimizer="adamw", lr=0.01, wd=0.1, predictor_lr=0.5, momentum=0.8)
    trainer = make_trainer(net, options, [net[2]])
    weights = {name: p.data().asnumpy().astype(np.float64) for name, p in parameters(net).items()}
    mean, variance = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    for t in range(1, 6):
        for name, gradient in step(net, trainer, t).items():
            mean[name] = 0.8 * mean[name] + 0.2 * gradient
            variance[name] = 0.999 * variance[name] + 0.001 * gradient.astype(np.float64) ** 2
            lr = 0.01 * (0.5 if name.startswith("2.") else 1)
            decay = 0.1 if name.endswith("weight") else 0
            numerator = mean[name] / (1 - 0.8**t)
            # As in MXNet's Adam, epsilon is added before the bias correction of the variance, not after it.
            denominator = np.sqrt(variance[name]) / np.sqrt(1 - 0.999**t) + 1e-8 / np.sqrt(1 - 0.999**t)
            weights[name] -= lr * numerator / denominator + lr * decay * weights[name]
        for name, p in parameters(net).items():
            np.testing.assert_allclose(p.data().asnumpy(), weights[name], rtol=1e-4, atol=1e-6)


def test_learning_rate_multipliers_of_pretrained_last_layers_are_multiplied() -> None:
    net = network()
    options = LoopOptions(predictor_lr=0.5, pretrained_lr=0.1)
    make_trainer(net, options, [net[2]], [net[0].weight, net[2].weight])
    multipliers = {name: p.lr_mult for name, p in parameters(net).items()}
    assert multipliers["0.weight"] == 0.1
    assert multipliers["0.bias"] == 1.0
    assert multipliers["2.weight"] == pytest.approx(0.05)
    assert multipliers["2.bias"] == 0.5


@pytest.mark.parametrize("head", ["ssd", "ssdlite"])
def test_predictor_learning_rate_applies_to_the_last_convolutions(head: str) -> None:
    net = zoo.get_model(f"{head}_96_mobilenet_v2_0.25", classes=["cat"])
    zoo.initialize(net)
    x = images(2, 96, 96)
    net(x)
    options = LoopOptions(lr=0.5, predictor_lr=0.0, momentum=0.0, wd=0.0)
    trainer = make_trainer(net.heads, options, net.heads.last_convolutions())
    before = values(net.heads)
    with mx.autograd.record():
        classes, boxes = net.heads(x)
        loss = (classes**2).sum() + (boxes**2).sum()
    loss.backward()
    trainer.step(1)
    after = values(net.heads)
    unchanged = [name for name in parameters(net.heads) if (after[name] == before[name]).all()]
    last = [name for name in unchanged if "predictors" in name and ".depthwise." not in name]
    assert len([name for name in last if name.endswith(("weight", "bias"))]) == 24  # six maps, two each
    assert "extras.0.0.weight" not in unchanged
    assert "class_predictors.0.depthwise.0.weight" not in unchanged


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_restored_optimizer_continues_exactly(optimizer: str) -> None:
    options = LoopOptions(optimizer=optimizer, lr=0.01, wd=0.01)
    net, copy = network(), network()
    trainer = make_trainer(net, options)
    for t in range(3):
        step(net, trainer, t)
    arrays = optimizer_arrays(trainer, parameters(net))
    states = {name.split("/")[0] for name in arrays}
    assert states == ({"momentum"} if optimizer == "sgd" else {"mean", "variance"})
    for source, target in zip(net.collect_params().values(), copy.collect_params().values()):
        target.set_data(source.data())
    restored = make_trainer(copy, options)
    restore_optimizer(restored, parameters(copy), arrays, 3)
    for t in range(3, 6):
        step(net, trainer, t)
        step(copy, restored, t)
    for name, p in parameters(net).items():
        np.testing.assert_array_equal(p.data().asnumpy(), parameters(copy)[name].data().asnumpy())
