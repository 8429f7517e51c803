"""The block that evaluation and `Detector` run: the network's own answers, from copies of its weights."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import fill, images, values

from mnssd import nn, zoo
from mnssd.graph.fold_concat import fold_concat
from mnssd.graph.inference import inference_block
from mnssd.graph.symbol_graph import Graph
from mnssd.train.optimizer import make_trainer
from mnssd.train.options import LoopOptions


def relative(answer: Any, reference: Any) -> float:
    """The largest difference, as a share of the largest value."""
    a, b = answer.asnumpy(), reference.asnumpy()
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize(
    "network", [nn.MobileNetV1(0.25, 10), nn.MobileNetV2(0.35, 10, shortcut="projection")], ids=["v1", "v2"]
)
def test_classifiers_answer_the_same_at_any_batch_size(network: Any) -> None:
    network.initialize()
    network(images(1, 96, 64))
    fill(network)
    block = inference_block(network, (96, 64), mx.cpu())
    for batch in (1, 3, 2):
        x = images(batch, 96, 64, seed=batch)
        assert relative(block(x), network(x)) < 1e-4


@pytest.mark.parametrize("head", ["ssd", "ssdlite"])
def test_heads_of_a_detector_answer_the_same_and_in_order(head: str) -> None:
    net = zoo.get_model(f"{head}_128_mobilenet_v2_0.25", classes=["cat", "dog"])
    net.initialize()
    net(images(1, 128, 128))
    fill(net.heads)
    block = inference_block(net.heads, (128, 128), mx.cpu())
    x = images(2, 128, 128)
    for answer, reference in zip(block(x), net.heads(x)):
        assert answer.shape == reference.shape
        assert relative(answer, reference) < 1e-4


def test_it_holds_copies() -> None:
    network = nn.MobileNetV2(0.25, 5)
    network.initialize()
    x = images(1, 64, 64)
    network(x)
    fill(network)
    block = inference_block(network, (64, 64), mx.cpu())
    before = block(x).asnumpy()
    fill(network, seed=1)
    np.testing.assert_array_equal(block(x).asnumpy(), before)
    assert relative(network(x), mx.nd.array(before)) > 0.01
    assert relative(inference_block(network, (64, 64), mx.cpu())(x), network(x)) < 1e-4


def test_bottlenecks_with_a_shortcut_begin_as_the_shortcut_alone() -> None:
    net = nn.MobileNetV2(0.25, 5)
    zoo.initialize(net)
    net(images(1, 64, 64))
    last = {i: b.out[7].gamma.data().asnumpy() for i, b in enumerate(net.features) if hasattr(b, "out")}
    assert len(last) == 17
    for index, gamma in last.items():
        assert (gamma == (0 if net.features[index].use_shortcut else 1)).all()
    assert (net.features[5].out[1].gamma.data().asnumpy() == 1).all()


def test_pretrained_parameters_may_learn_at_a_rate_of_their_own() -> None:
    net = zoo.get_model("ssd_96_mobilenet_v2_0.25", classes=["cat"])
    zoo.initialize(net)
    net(images(1, 96, 96))
    last = net.heads.last_convolutions()
    in_both = last[0].weight
    backbone = list(net.heads.backbone.collect_params().values())
    make_trainer(net.heads, LoopOptions(predictor_lr=4.0, pretrained_lr=0.25), last, [*backbone, in_both])
    rates = {id(p): p.lr_mult for p in net.heads.collect_params().values()}
    assert {rates[id(p)] for p in backbone} == {0.25}
    assert rates[id(in_both)] == 1.0
    assert rates[id(last[1].weight)] == 4.0
    assert rates[id(net.heads.extras[0][0].weight)] == 1.0


@pytest.mark.parametrize("head", ["ssd", "ssdlite"])
def test_last_layers_may_learn_at_a_rate_of_their_own(head: str) -> None:
    net = zoo.get_model(f"{head}_96_mobilenet_v2_0.25", classes=["cat"])
    zoo.initialize(net)
    x = images(2, 96, 96)
    net(x)
    options = LoopOptions(lr=0.5, predictor_lr=0.0, momentum=0.0, wd=0.0)
    trainer = make_trainer(net.heads, options, net.heads.last_convolutions())
    names = net.heads._collect_params_with_prefix()
    before = values(net.heads)
    with mx.autograd.record():
        classes, boxes = net.heads(x)
        loss = (classes**2).sum() + (boxes**2).sum()
    loss.backward()
    trainer.step(1)
    after = values(net.heads)
    still = {n for n, p in names.items() if (after[n] == before[n]).all() and p.grad_req != "null"}
    last = {
        n for n in still if "predictors" in n and n.endswith(("weight", "bias")) and ".depthwise." not in n
    }
    assert len(last) == 24  # six maps, classes and boxes, weight and bias
    assert "extras.0.0.weight" not in still
    if head == "ssdlite":
        assert "class_predictors.0.depthwise.0.weight" not in still


def test_known_arrays_are_joined_and_others_are_not() -> None:
    data, weight, zeros = (mx.sym.var(name) for name in ("data", "weight", "zeros"))
    once = mx.sym.Concat(weight, zeros, dim=0, name="once")
    twice = mx.sym.Concat(once, mx.sym.var("more"), dim=1, name="twice")
    outside = mx.sym.Concat(data, zeros, dim=0, name="outside")
    rng = np.random.default_rng(0)
    shapes = {"weight": (2, 3), "zeros": (1, 3), "more": (3, 2), "data": (4, 3)}
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    symbol = mx.sym.Group([mx.sym.dot(outside, twice), outside])
    known = {name: value for name, value in values.items() if name != "data"}
    graph = Graph(symbol, {name: value.shape for name, value in known.items()})
    assert fold_concat(graph, known) == 2
    assert [node.name for node in graph.nodes() if node.op == "Concat"] == ["outside"]

    def run(what: mx.sym.Symbol, arrays: Any) -> Any:
        args = {name: mx.nd.array(arrays[name]) for name in what.list_arguments()}
        return [out.asnumpy() for out in what.bind(mx.cpu(), args).forward()]

    for after, before in zip(run(graph.symbol(), {**values, **graph.constants}), run(symbol, values)):
        np.testing.assert_array_equal(after, before)
    assert fold_concat(graph, known) == 0
