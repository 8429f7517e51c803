"""Inference blocks, with which `Detector` and evaluation run networks."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import fill, images

from mnssd import nn, zoo
from mnssd.graph.fold_concat import fold_concat
from mnssd.graph.inference import inference_block
from mnssd.graph.symbol_graph import Graph


def relative_difference(output: Any, reference: Any) -> float:
    """Largest difference divided by the largest value."""
    a, b = output.asnumpy(), reference.asnumpy()
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize(
    "network", [nn.MobileNetV1(0.25, 10), nn.MobileNetV2(0.35, 10, shortcut="projection")], ids=["v1", "v2"]
)
def test_outputs_of_a_classifier_at_any_batch_size(network: Any) -> None:
    network.initialize()
    network(images(1, 96, 64))
    fill(network)
    block = inference_block(network, (96, 64), mx.cpu())
    for batch in (1, 3, 2):
        x = images(batch, 96, 64, seed=batch)
        assert relative_difference(block(x), network(x)) < 1e-4


@pytest.mark.parametrize("head", ["ssd", "ssdlite", "ssdfpn"])
def test_outputs_of_a_detector_keep_their_order(head: str) -> None:
    net = zoo.get_model(f"{head}_128_mobilenet_v2_0.25", classes=["cat", "dog"])
    net.initialize()
    net(images(1, 128, 128))
    fill(net.heads)
    block = inference_block(net.heads, (128, 128), mx.cpu())
    x = images(2, 128, 128)
    for output, reference in zip(block(x), net.heads(x)):
        assert output.shape == reference.shape
        assert relative_difference(output, reference) < 1e-4


def test_inference_block_copies_the_weights() -> None:
    network = nn.MobileNetV2(0.25, 5)
    network.initialize()
    x = images(1, 64, 64)
    network(x)
    fill(network)
    block = inference_block(network, (64, 64), mx.cpu())
    before = block(x).asnumpy()
    fill(network, seed=1)
    np.testing.assert_array_equal(block(x).asnumpy(), before)
    assert relative_difference(network(x), mx.nd.array(before)) > 0.01
    assert relative_difference(inference_block(network, (64, 64), mx.cpu())(x), network(x)) < 1e-4


def test_fold_concat_folds_only_constants() -> None:
    data, weight, zeros = (mx.sym.var(name) for name in ("data", "weight", "zeros"))
    once = mx.sym.Concat(weight, zeros, dim=0, name="once")
    twice = mx.sym.Concat(once, mx.sym.var("more"), dim=1, name="twice")
    outside = mx.sym.Concat(data, zeros, dim=0, name="outside")
    rng = np.random.default_rng(0)
    shapes = {"weight": (2, 3), "zeros": (1, 3), "more": (3, 2), "data": (4, 3)}
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    symbol = mx.sym.Group([mx.sym.dot(outside, twice), outside])
    constants = {name: value for name, value in values.items() if name != "data"}
    graph = Graph(symbol, {name: value.shape for name, value in constants.items()})
    assert fold_concat(graph, constants) == 2
    assert [node.name for node in graph.nodes() if node.op == "Concat"] == ["outside"]

    def run(what: mx.sym.Symbol, arrays: Any) -> Any:
        args = {name: mx.nd.array(arrays[name]) for name in what.list_arguments()}
        return [out.asnumpy() for out in what.bind(mx.cpu(), args).forward()]

    for after, before in zip(run(graph.symbol(), {**values, **graph.constants}), run(symbol, values)):
        np.testing.assert_array_equal(after, before)
    assert fold_concat(graph, constants) == 0
