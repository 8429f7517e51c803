"""The rewritten training graph must be the block itself: its answers, gradients, statistics and arrays."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock
from network_helpers import fill, images, values

from mnssd import zoo
from mnssd.graph import TRAINING_PASSES, Graph, fast_block
from mnssd.graph.batchnorm_relu import fuse_batchnorm_relu, fuse_batchnorm_relu6
from mnssd.graph.channels import pad_channels, pad_outputs
from mnssd.nn import RELU6, SSD, LinearBottleneck, MobileNetV1, MobileNetV2
from mnssd.nn.layers import add_conv, add_separable
from mnssd.weights import assign

PASSES = dict(TRAINING_PASSES)
Passes = Optional[Sequence[Tuple[str, Callable[[Graph], int]]]]


def sequential(*layers: Any) -> HybridBlock:
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(*layers)
    return net


def norm(**options: Any) -> HybridBlock:
    return nn.BatchNorm(**options)


class Clip(HybridBlock):
    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.clip(x, self.low, self.high)


class ReadTwice(HybridBlock):
    """A BatchNorm whose output goes to the activation and past it."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.conv, self.norm, self.act = nn.Conv2D(24, 3), nn.BatchNorm(), RELU6()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        normed = self.norm(self.conv(x))
        return self.act(normed) + normed


class Shared(HybridBlock):
    """One convolution, BatchNorm and activation, used twice, as in a head over several maps."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        with self.name_scope():
            self.stem, self.conv, self.norm, self.act = (
                nn.Conv2D(24, 1),
                nn.Conv2D(24, 1),
                nn.BatchNorm(),
                RELU6(),
            )
            self.last = nn.Conv2D(3, 1) if last else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.stem(x)
        for _ in range(2):
            x = self.act(self.norm(self.conv(x)))
        return self.last(x) if self.last else x


class Pieces(HybridBlock):
    """Reads channels by number, which forbids to add any."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.concat(
            F.slice_axis(x, axis=1, begin=0, end=3), F.slice_axis(x, axis=1, begin=-3, end=None), dim=1
        )


def stack(act: str, first: int = 24, second: int = 20, last: int = 4) -> HybridBlock:
    """A convolution, a separable one and a predictor; by default with channel counts to be padded."""
    net = nn.HybridSequential()
    with net.name_scope():
        add_conv(net, first, kernel=3, stride=2, pad=1, act=act)
        add_separable(net, first, second, stride=1, act=act)
        net.add(nn.Conv2D(last, 1))
    return net


def bottlenecks() -> HybridBlock:
    """With and without an addition, with a projection."""
    net = nn.HybridSequential()
    with net.name_scope():
        add_conv(net, 12, kernel=3, stride=2, pad=1)
        net.add(LinearBottleneck(12, 12, 3, 1), LinearBottleneck(12, 20, 6, 2))
        net.add(LinearBottleneck(20, 24, 2, 1, "projection"), nn.Conv2D(5, 1))
    return net


def made(factory: Callable[[], Any], x: Any, seed: int = 0) -> Any:
    """The block with random weights; the same ones every time."""
    block = factory()
    block.initialize()
    block(x)
    fill(block, seed)
    return block


def as_list(outputs: Any) -> List[Any]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def train_once(forward: Any, x: Any) -> List[np.ndarray]:
    """One backward pass from random gradients of the outputs; returns the outputs."""
    rng = np.random.default_rng(5)
    with mx.autograd.record():
        outputs = as_list(forward(x))
    mx.autograd.backward(outputs, [mx.nd.array(rng.normal(size=o.shape)) for o in outputs])
    mx.nd.waitall()  # see `fast_block` about running statistics
    return [o.asnumpy() for o in outputs]


def gradients(block: Any) -> Dict[str, np.ndarray]:
    named = block._collect_params_with_prefix()
    return {name: p.grad().asnumpy() for name, p in named.items() if p.grad_req != "null"}


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float, scale: float = 0.0) -> None:
    """Within `tolerance` of the largest value, which is `scale` at least."""
    assert found.shape == expected.shape
    largest = max(float(np.abs(expected).max()), scale)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest)


def assert_same_block(
    factory: Callable[[], Any], x: Any, passes: Passes = None, tolerance: float = 1e-4
) -> Any:
    """Predict, train and predict again, plain and rewritten; returns the rewritten block."""
    plain, rewritten = made(factory, x), made(factory, x)
    fast = fast_block(rewritten, passes)
    for before, after in zip(as_list(plain(x)), as_list(fast(x))):
        assert_close(after.asnumpy(), before.asnumpy(), tolerance)
    for before, after in zip(train_once(plain, x), train_once(fast, x)):
        assert np.abs(before).max() > 0
        assert_close(after, before, tolerance)
    expected, found = gradients(plain), gradients(rewritten)
    # A gradient that is zero in theory (a beta before another BatchNorm) is judged by the size of the others.
    scale = float(np.median([np.abs(g).max() for g in expected.values()])) if expected else 0.0
    for name, gradient in expected.items():
        assert_close(found[name], gradient, tolerance, scale)
    statistics = {name: value for name, value in values(plain).items() if "running" in name}
    now = values(rewritten)
    for name, value in statistics.items():
        assert_close(now[name], value, tolerance)
    for before, after in zip(as_list(plain(x)), as_list(fast(x))):  # with the new statistics
        assert_close(after.asnumpy(), before.asnumpy(), tolerance)
    return fast


# ---- each pass on its own, and all together ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "counts"),
    [
        # convolutions with padded inputs or outputs; convolutions padded and cut; ReLU6; ReLU
        (lambda: stack("relu6"), (4, 1, 3, 0)),
        (lambda: stack("relu"), (4, 1, 0, 3)),
        (lambda: stack("relu6", 16, 32, 48), (0, 0, 3, 0)),
        (lambda: stack("relu", 16, 32, 48), (0, 0, 0, 3)),
        (bottlenecks, (12, 1, 7, 0)),
    ],
    ids=["relu6", "relu", "whole vectors relu6", "whole vectors relu", "bottlenecks"],
)
def test_rewritten_block_is_the_same(factory: Any, counts: Sequence[int]) -> None:
    fast = assert_same_block(factory, images(4, 32, 32))
    assert fast.rewritten == dict(zip(PASSES, counts))


@pytest.mark.parametrize("only", list(PASSES))
@pytest.mark.parametrize("act", ["relu6", "relu"])
def test_each_pass_alone_changes_nothing_that_can_be_seen(only: str, act: str) -> None:
    # the odd counts for the padding, whole vectors for the fusing
    factory = (lambda: stack(act)) if only.startswith("pad") else (lambda: stack(act, 16, 32, 48))
    fast = assert_same_block(factory, images(4, 32, 32), [(only, PASSES[only])])
    applies = (
        only.startswith("pad") or only == {"relu6": "BatchNorm + ReLU6", "relu": "BatchNorm + ReLU"}[act]
    )
    assert (fast.rewritten[only] > 0) is applies


TAILS: Dict[str, Callable[[int], Any]] = {
    "depthwise": lambda c: nn.Conv2D(c, 3, 1, 1, groups=c, use_bias=False),
    "depthwise, BatchNorm": lambda c: layers(lambda net: add_conv(net, c, kernel=3, pad=1, groups=c)),
    "pointwise, BatchNorm": lambda c: layers(lambda net: add_conv(net, c)),
    "bottleneck": lambda c: LinearBottleneck(c, c, 3, 1),
}


def layers(fill_in: Callable[[Any], None]) -> HybridBlock:
    net = nn.HybridSequential()
    with net.name_scope():
        fill_in(net)
    return net


@pytest.mark.parametrize("channels", [8, 12, 20, 24])
@pytest.mark.parametrize("tail", list(TAILS))
def test_gradients_where_layouts_meet(channels: int, tail: str) -> None:
    """Outputs whose channels may not be padded: plain and blocked tensors meet there."""

    def factory() -> HybridBlock:
        head = layers(lambda net: add_conv(net, channels, kernel=3, stride=2, pad=1))
        return sequential(head, TAILS[tail](channels))

    assert_same_block(factory, images(4, 32, 32))


def fuse_both(graph: Graph) -> Tuple[int, int]:
    return fuse_batchnorm_relu6(graph), fuse_batchnorm_relu(graph)


def graph_of(factory: Callable[[], Any]) -> Graph:
    block = made(factory, images(1, 32, 32))
    return Graph(block(mx.sym.var("data")), {name: p.shape for name, p in block.collect_params().items()})


@pytest.mark.parametrize(
    ("name", "after", "counts"),
    [
        ("clip at 5", lambda: [norm(), Clip(0, 5)], (0, 0)),
        ("clip from -1", lambda: [norm(), Clip(-1, 6)], (0, 0)),
        ("another activation", lambda: [norm(), nn.Activation("softrelu")], (0, 0)),
        ("two readers", lambda: [ReadTwice()], (0, 0)),
        ("no BatchNorm", lambda: [RELU6(), nn.Conv2D(16, 1), nn.Activation("relu")], (0, 0)),
        ("pooling between", lambda: [norm(), nn.MaxPool2D(), RELU6()], (0, 0)),
        ("pooling before", lambda: [nn.MaxPool2D(), norm(), RELU6()], (0, 0)),
        ("an odd channel", lambda: [nn.Conv2D(17, 1), norm(), RELU6()], (0, 0)),
        ("an odd channel in", lambda: [nn.Conv2D(17, 1), nn.Conv2D(16, 1), norm(), RELU6()], (0, 0)),
        # the formula turns gamma's sign, which the operator does not read where it is fixed
        ("gamma fixed, ReLU6", lambda: [norm(scale=False), RELU6()], (0, 0)),
        ("gamma fixed, ReLU", lambda: [norm(scale=False), nn.Activation("relu")], (0, 1)),
        ("statistics fixed", lambda: [norm(use_global_stats=True), RELU6()], (1, 0)),
        ("ReLU6 of ReLU6", lambda: [norm(), RELU6(), RELU6()], (1, 0)),
    ],
)
def test_fusing_where_the_pattern_is_and_nowhere_else(name: str, after: Any, counts: Tuple[int, int]) -> None:
    def factory() -> HybridBlock:
        return sequential(nn.Conv2D(16, 3), *after(), nn.Conv2D(16, 1))

    assert fuse_both(graph_of(factory)) == counts
    assert_same_block(
        factory, images(4, 32, 32), [("relu6", fuse_batchnorm_relu6), ("relu", fuse_batchnorm_relu)]
    )


def test_norm_over_another_axis_is_left_alone() -> None:
    """Only looked at: MXNet cannot train one."""
    graph = graph_of(lambda: sequential(nn.Conv2D(12, 3), norm(axis=2), RELU6(), nn.Conv2D(4, 1)))
    assert pad_channels(graph) == 0
    assert fuse_both(graph) == (0, 0)


@pytest.mark.parametrize(
    ("name", "inside", "count"),
    [
        ("whole vectors", lambda: [nn.Conv2D(16, 3), norm(), nn.Conv2D(32, 1)], 0),
        ("an output", lambda: [nn.Conv2D(12, 3), norm(), RELU6()], 0),
        ("before a dense layer", lambda: [nn.Conv2D(12, 3), norm(), nn.Flatten(), nn.Dense(3)], 0),
        ("read by number", lambda: [nn.Conv2D(12, 3), norm(), Pieces(), nn.Conv2D(4, 1)], 0),
        ("groups of 2", lambda: [nn.Conv2D(12, 3), nn.Conv2D(12, 3, groups=6), nn.Conv2D(4, 1)], 0),
        ("two filters a channel", lambda: [nn.Conv2D(6, 3), nn.Conv2D(12, 3, groups=6), nn.Conv2D(4, 1)], 0),
        ("as many groups as filters", lambda: [nn.Conv2D(8, 3), nn.Conv2D(4, 3, groups=4), RELU6()], 0),
        ("inside", lambda: [nn.Conv2D(12, 3), norm(), nn.MaxPool2D(), nn.Conv2D(4, 1)], 2),
        ("gamma fixed", lambda: [nn.Conv2D(12, 3), norm(scale=False), nn.Conv2D(4, 1)], 2),
        ("not zero for zero", lambda: [nn.Conv2D(12, 3), nn.Activation("sigmoid"), nn.Conv2D(4, 1)], 2),
        ("depthwise with bias", lambda: [nn.Conv2D(12, 3), nn.Conv2D(12, 3, groups=12), nn.Conv2D(4, 1)], 3),
    ],
)
def test_padding_where_it_cannot_be_seen_and_nowhere_else(name: str, inside: Any, count: int) -> None:
    fast = assert_same_block(lambda: sequential(*inside()), images(4, 32, 32), [("pad", pad_channels)])
    assert fast.rewritten["pad"] == count


@pytest.mark.parametrize("padded", [False, True])
def test_layers_used_twice(padded: bool) -> None:
    """Their running statistics are one variable, whether all uses are padded or one alone."""
    fast = assert_same_block(lambda: Shared(last=padded), images(4, 16, 16))
    assert fast.rewritten["pad channels"] == (4 if padded else 3)


def test_passes_leave_a_graph_without_their_pattern_untouched() -> None:
    x = images(1, 32, 32)
    block = made(lambda: sequential(nn.Conv2D(16, 3), Clip(0, 5), nn.Conv2D(32, 1)), x)
    shapes = {name: parameter.shape for name, parameter in block.collect_params().items()}
    graph = Graph(block(mx.sym.var("data")), shapes)
    before = graph.symbol().tojson()
    assert [rewrite(graph) for _, rewrite in TRAINING_PASSES] == [0] * len(TRAINING_PASSES)
    assert graph.symbol().tojson() == before
    assert not graph.constants
    assert not graph.lengthened


def test_padded_channels_fill_whole_vectors() -> None:
    x = images(2, 64, 64)
    block = made(lambda: MobileNetV2(0.35, 10), x)
    shapes = {name: parameter.shape for name, parameter in block.collect_params().items()}
    graph = Graph(block(mx.sym.var("data")), shapes)
    pad_channels(graph)
    filters = [int(node.attrs["num_filter"]) for node in graph.nodes() if node.op == "Convolution"]
    assert [count for count in filters if count % 16] == [10]  # the classifier
    assert pad_outputs(graph) == 1


# ---- whole networks ----------------------------------------------------------------------------------------

NETWORKS: Dict[str, Tuple[Callable[[], Any], Tuple[int, int]]] = {
    # name: (network, (ReLU6 fused, ReLU fused))
    "v1 relu": (lambda: MobileNetV1(0.25, 10), (0, 27)),
    "v1 relu6": (lambda: MobileNetV1(0.25, 10, activation="relu6"), (27, 0)),
    "v2": (lambda: MobileNetV2(0.25, 10), (36, 0)),
    "v2 projection": (lambda: MobileNetV2(0.35, 10, shortcut="projection"), (36, 0)),
    "ssd v1": (lambda: SSD(MobileNetV1(0.25, 1), ["a", "b"], (96, 96), "ssd").heads, (8, 27)),
    "ssdlite v1": (lambda: SSD(MobileNetV1(0.25, 1), ["a", "b"], (96, 96), "ssdlite").heads, (24, 27)),
    "ssd v2": (lambda: SSD(MobileNetV2(0.25, 1), ["a", "b"], (96, 96), "ssd").heads, (44, 0)),
    "ssdlite v2": (lambda: SSD(MobileNetV2(0.25, 1), ["a", "b"], (96, 96), "ssdlite").heads, (60, 0)),
}


def fix_statistics(block: Any) -> Any:
    """Let every BatchNorm use its running statistics in training, too: then rounding does not grow."""
    if isinstance(block, nn.BatchNorm):
        block._kwargs["use_global_stats"] = True
    for child in block._children.values():
        fix_statistics(child)
    return block


def distance(found: Dict[Any, np.ndarray], expected: Dict[Any, np.ndarray]) -> np.ndarray:
    """Relative difference of each array."""
    apart = [np.linalg.norm(found[key] - value) / np.linalg.norm(value) for key, value in expected.items()]
    return np.array(apart)


def shaken(x: Any, seed: int = 0) -> Any:
    """The input but for a relative change of 5e-6.

    A value that rounding moves across 0 or 6 takes its whole gradient with it, and batch statistics make
    rounding grow, so deep networks are judged by what this change does to the plain one.
    """
    return x * (1 + 5e-6 * mx.nd.array(np.random.default_rng(seed).normal(size=x.shape)))


def assert_no_worse_than_rounding(found: Dict[str, Dict[Any, np.ndarray]], limit: float) -> None:
    """`found`: arrays of the plain block, of the fast one, and of the plain one on the shaken input."""
    apart, natural = distance(found["fast"], found["plain"]), distance(found["shaken"], found["plain"])
    for quantile in (50, 90):
        assert np.percentile(apart, quantile) < max(1e-4, 3 * np.percentile(natural, quantile))
    assert np.median(apart) < limit


def passes_of_all_kinds(factory: Callable[[], Any], x: Any) -> Tuple[Any, Any, Any, Dict[str, int]]:
    """One backward pass each: outputs, gradients and running statistics by kind, and what was rewritten."""
    outputs: Dict[str, Any] = {}
    slopes: Dict[str, Any] = {}
    statistics: Dict[str, Any] = {}
    net = made(factory, x)
    moving = {key: p for key, p in net._collect_params_with_prefix().items() if "running" in key}
    start = {key: parameter.data().copy() for key, parameter in moving.items()}
    for kind in ("plain", "shaken", "fast"):
        for key, parameter in moving.items():
            parameter.set_data(start[key])
        forward = fast_block(net) if kind == "fast" else net
        outputs[kind] = dict(enumerate(train_once(forward, shaken(x) if kind == "shaken" else x)))
        # 7.beta stands before another BatchNorm: zero in theory
        slopes[kind] = {key: value for key, value in gradients(net).items() if not key.endswith("7.beta")}
        statistics[kind] = {key: parameter.data().asnumpy().copy() for key, parameter in moving.items()}
    return outputs, slopes, statistics, dict(forward.rewritten)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_rewritten_networks_are_the_same_with_fixed_statistics(name: str) -> None:
    factory, counts = NETWORKS[name]
    x = images(4, 96, 96)
    outputs, slopes, _, rewritten = passes_of_all_kinds(lambda: fix_statistics(factory()), x)
    assert distance(outputs["fast"], outputs["plain"]).max() < 1e-4
    assert_no_worse_than_rounding(slopes, limit=0.1)
    assert (rewritten["BatchNorm + ReLU6"], rewritten["BatchNorm + ReLU"]) == counts
    assert rewritten["pad channels"] > 0


@pytest.mark.parametrize("name", ["v1 relu", "v2 projection", "ssd v2", "ssdlite v1"])
def test_rewritten_networks_are_the_same_with_batch_statistics(name: str) -> None:
    outputs, slopes, statistics, _ = passes_of_all_kinds(NETWORKS[name][0], images(4, 96, 96))
    assert_no_worse_than_rounding(outputs, limit=0.02)
    assert_no_worse_than_rounding(statistics, limit=0.02)
    assert_no_worse_than_rounding(slopes, limit=0.7)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_graph_and_back_is_the_same_symbol(name: str) -> None:
    x = images(1, 96, 96)
    block = made(NETWORKS[name][0], x)
    outputs = block(mx.sym.var("data"))
    symbol = outputs if isinstance(outputs, mx.sym.Symbol) else mx.sym.Group(list(outputs))
    back = Graph(symbol, {}).symbol()
    assert back.list_arguments() == symbol.list_arguments()
    assert back.list_auxiliary_states() == symbol.list_auxiliary_states()
    assert back.list_outputs() == symbol.list_outputs()
    for expected, found in zip(as_list(block(x)), as_list(fast_block(block, ())(x))):
        np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())


@pytest.mark.parametrize("name", [n for n in zoo.model_names() if not n.startswith("ssd")])
def test_graph_and_back_for_every_width(name: str) -> None:
    symbol = zoo.get_model(name)(mx.sym.var("data"))
    back = Graph(symbol, {}).symbol()
    assert back.list_inputs() == symbol.list_inputs()
    assert back.infer_shape(data=(1, 3, 64, 64)) == symbol.infer_shape(data=(1, 3, 64, 64))


def step(forward: Any, trainer: Any, x: Any, labels: Any) -> None:
    with mx.autograd.record():
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(forward(x), labels)
    loss.backward()
    trainer.step(len(x))


def after_steps(factory: Callable[[], Any], kind: str, size: int, rate: float) -> Dict[str, np.ndarray]:
    """How far five steps with momentum move each array, running statistics too."""
    labels, net = mx.nd.array([0, 1, 2, 3]), made(factory, images(4, size, size))
    start = values(net)
    forward = fast_block(net) if kind == "fast" else net
    forward.hybridize(static_alloc=True, static_shape=True)
    options = {"learning_rate": rate, "momentum": 0.9, "wd": 1e-4}
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", options, kvstore=None)
    for number in range(5):
        x = images(4, size, size, seed=number)
        step(forward, trainer, shaken(x, number) if kind == "shaken" else x, labels)
    mx.nd.waitall()
    return {name: value - start[name] for name, value in values(net).items()}


def test_several_steps_of_a_block_reach_the_same_weights() -> None:
    def factory() -> HybridBlock:
        return sequential(stack("relu6"), nn.GlobalAvgPool2D(), nn.Flatten())

    plain, fast = (after_steps(factory, kind, 32, rate=0.02) for kind in ("plain", "fast"))
    assert min(np.linalg.norm(value) for value in plain.values()) > 1e-3
    assert distance(fast, plain).max() < 1e-3


def test_several_steps_of_a_network_reach_the_same_weights() -> None:
    plain, fast, shaken = (
        after_steps(lambda: MobileNetV2(0.25, 4), kind, 96, rate=0.001)
        for kind in ("plain", "fast", "shaken")
    )
    apart, natural = distance(fast, plain), distance(shaken, plain)
    for quantile in (10, 50):
        assert np.percentile(apart, quantile) < 3 * np.percentile(natural, quantile)
    assert np.percentile(apart, 10) < 0.1


# ---- the block's own arrays --------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Tuple[Any, Any, Any]:
    """A block with padded statistics, its fast form, and an input."""
    x = images(4, 32, 32)
    block = made(lambda: stack("relu6"), x)
    return block, fast_block(block), x


def agree(block: Any, fast: Any, x: Any) -> bool:
    return bool(np.allclose(block(x).asnumpy(), fast(x).asnumpy(), rtol=1e-4, atol=1e-4))


def test_training_writes_the_blocks_statistics(pair: Tuple[Any, Any, Any], tmp_path: Path) -> None:
    block, fast, x = pair
    before = values(block)
    train_once(fast, x)
    after = values(block)
    moved = [name for name in before if not np.array_equal(before[name], after[name])]
    assert moved == [name for name in before if "running" in name]
    block.save_parameters(str(tmp_path / "saved.params"))
    fresh = stack("relu6")
    fresh.load_parameters(str(tmp_path / "saved.params"))
    for name, value in values(fresh).items():
        np.testing.assert_array_equal(value, after[name])
    assert agree(fresh, fast, x)


@pytest.mark.parametrize("how", ["set_data", "load_parameters", "assign", "training the block"])
def test_what_is_set_on_the_block_is_seen_by_the_fast_one(
    pair: Tuple[Any, Any, Any], how: str, tmp_path: Path
) -> None:
    block, fast, x = pair
    fast.hybridize(static_alloc=True, static_shape=True)
    train_once(fast, x)
    old = fast(x).asnumpy()
    other = made(lambda: stack("relu6"), x, seed=1)
    if how == "set_data":
        for mine, theirs in zip(block.collect_params().values(), other.collect_params().values()):
            mine.set_data(theirs.data())
    elif how == "load_parameters":
        other.save_parameters(str(tmp_path / "other.params"))
        block.load_parameters(str(tmp_path / "other.params"))
    elif how == "assign":
        assign(block, values(other), "other")
    else:
        train_once(block, x)
        other = block
    assert not np.allclose(fast(x).asnumpy(), old, rtol=1e-3)
    assert agree(other, fast, x)


def test_statistics_keep_their_shape_and_the_trainer_sees_the_plain_parameters(
    pair: Tuple[Any, Any, Any],
) -> None:
    block, fast, _ = pair
    assert block[1].running_var.data().shape == (24,)
    assert block[1].running_var.shape == (24,)
    trainable = {name for name, p in fast.collect_params().items() if p.grad_req != "null"}
    assert trainable == {name for name, p in block.collect_params().items() if p.grad_req != "null"}


def test_second_fast_block_takes_over(pair: Tuple[Any, Any, Any]) -> None:
    block, _, x = pair
    second = fast_block(block)
    before = values(block)
    train_once(second, x)
    assert not np.array_equal(values(block)["1.running_mean"], before["1.running_mean"])
    assert agree(block, second, x)


def test_frozen_parameters_stay_frozen() -> None:
    """As ``--freeze`` does it: no gradient for gamma, fixed statistics."""
    x = images(4, 32, 32)
    block = made(lambda: stack("relu6"), x)
    for parameter in list(block[0].collect_params().values()) + list(block[1].collect_params().values()):
        parameter.grad_req = "null"
    block[1]._kwargs["use_global_stats"] = True
    before = values(block)
    fast = fast_block(block)
    trainer = mx.gluon.Trainer(block.collect_params(), "sgd", {"learning_rate": 0.1}, kvstore=None)
    train_once(fast, x)
    trainer.step(4)
    after = values(block)
    for name, value in before.items():
        assert np.array_equal(value, after[name]) == name.startswith(("0.", "1.")), name


def test_nan_is_seen_in_the_statistics() -> None:
    """oneDNN's ReLU makes 0 of NaN, so the outputs may not show what the statistics do."""
    x = images(4, 32, 32)
    block = made(lambda: stack("relu6"), x)
    fast = fast_block(block)
    block[0].weight.set_data(block[0].weight.data() * np.nan)
    train_once(fast, x)
    assert np.isnan(block[1].running_mean.data().asnumpy()).all()
    assert np.isnan(block[1].running_var.data().asnumpy()).all()


# ---- where it runs -----------------------------------------------------------------------------------------


def test_without_onednn_nothing_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(2, 32, 32)
    block = made(lambda: stack("relu6"), x)
    monkeypatch.setenv("MXNET_MKLDNN_ENABLED", "0")
    assert fast_block(block).rewritten == {}
    assert fast_block(block, [("pad", pad_channels)]).rewritten == {"pad": 4}  # asked for


@pytest.mark.parametrize("initialized", [False, True])
def test_block_with_unknown_shapes_is_refused(initialized: bool) -> None:
    block = stack("relu6")
    if initialized:
        block.initialize()
    with pytest.raises(
        ValueError, match="weight has no array yet; initialize the block and run it once before"
    ):
        fast_block(block)


def test_block_without_parameters() -> None:
    x = images(1, 32, 32)
    assert_close(fast_block(RELU6())(x).asnumpy(), RELU6()(x).asnumpy(), 0)


def test_no_warning_is_given() -> None:
    block = made(lambda: stack("relu"), images(2, 32, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fast_block(block)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssd_300_mobilenet_v1", "ssd_300_mobilenet_v2", "ssdlite_320_mobilenet_v2"])
def test_detectors_at_their_real_size_with_fixed_statistics(name: str) -> None:
    """oneDNN chooses its kernels, and with them the layouts, by the sizes: so once at those people train."""

    def factory() -> Any:
        return fix_statistics(zoo.get_model(name, ["a", "b", "c"]).heads)

    outputs, slopes, _, _ = passes_of_all_kinds(factory, images(8, *zoo.get_model(name, ["a"]).size))
    assert distance(outputs["fast"], outputs["plain"]).max() < 1e-4
    assert_no_worse_than_rounding(slopes, limit=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["AVX2", "SSE41", "AVX512_CORE"])
def test_this_file_on_other_instruction_sets(isa: str) -> None:
    environment = {**os.environ, "DNNL_MAX_CPU_ISA": isa, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", __file__]
    assert subprocess.run(command, env=environment, check=False).returncode == 0


GRADIENTS = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import mnssd, numpy as np
from network_helpers import images
from test_graph import gradients, made, step, train_once
from mnssd.graph import fast_block
from mnssd.nn import MobileNetV2
x = images(8, 224, 224)
net = made(lambda: MobileNetV2(1.0, 100), x)
train_once(fast_block(net) if {fast} else net, x)
np.savez({path!r}, **gradients(net))
"""


@pytest.mark.slow
def test_rewriting_changes_no_more_than_another_instruction_set(tmp_path: Path) -> None:
    """MobileNetV2 1.0 at 224 pixels, batch 8: gradients of all parameters."""
    found = {}
    for kind, isa in (("plain", "AVX512_CORE"), ("plain", "AVX2"), ("fast", "AVX512_CORE"), ("fast", "AVX2")):
        path, tests = str(tmp_path / f"{kind}-{isa}.npz"), Path(__file__).parent
        code = GRADIENTS.format(root=str(tests.parent), tests=str(tests), fast=kind == "fast", path=path)
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "DNNL_MAX_CPU_ISA": isa}, check=True)
        found[kind, isa] = np.load(path)

    def apart(a: Tuple[str, str], b: Tuple[str, str]) -> Tuple[float, float]:
        """Median and 95th percentile over the parameters of the relative difference of their gradients."""
        differences = []
        for name in found[a].files:
            if not name.endswith("7.beta"):  # before another BatchNorm: zero in theory
                one, other = found[a][name], found[b][name]
                differences.append(np.linalg.norm(one - other) / np.linalg.norm(one))
        return float(np.median(differences)), float(np.percentile(differences, 95))

    machines = apart(("plain", "AVX512_CORE"), ("plain", "AVX2"))
    for isa in ("AVX512_CORE", "AVX2"):
        rewriting = apart(("plain", isa), ("fast", isa))
        print(f"{isa}: rewriting {rewriting}, another instruction set {machines}")
        assert rewriting[0] < 1.5 * machines[0]
        assert rewriting[1] < 1.5 * machines[1]
