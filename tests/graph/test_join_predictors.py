"""Joining convolutions that read the same tensor."""

from __future__ import annotations

from typing import Any, Dict, List

import mxnet as mx
import numpy as np
import pytest

from mnssd import zoo
from mnssd.graph.inference import fold, read_arrays
from mnssd.graph.join_predictors import join_predictors
from mnssd.graph.symbol_graph import Graph, trace


def conv(x: Any, name: str, filters: int, kernel: int = 3, **options: Any) -> Any:
    pad = (kernel // 2, kernel // 2)
    return mx.sym.Convolution(
        x, num_filter=filters, kernel=(kernel, kernel), pad=pad, name=name, workspace=1024, **options
    )


def graph_and_arrays(symbol: Any) -> Any:
    shapes, _, _ = symbol.infer_shape(data=(2, 4, 9, 7))
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in zip(symbol.list_arguments(), shapes)
        if name != "data"
    }
    return Graph(symbol, {name: value.shape for name, value in arrays.items()}), arrays


def run(symbol: Any, arrays: Dict[str, np.ndarray]) -> List[np.ndarray]:
    x = np.random.default_rng(1).normal(size=(2, 4, 9, 7)).astype(np.float32)
    values = {"data": x, **arrays}
    arguments = {name: mx.nd.array(values[name]) for name in symbol.list_arguments()}
    return [output.asnumpy() for output in symbol.bind(mx.cpu(), arguments).forward()]


def filter_counts(graph: Graph) -> List[int]:
    return [int(node.attrs["num_filter"]) for node in graph.nodes() if node.op == "Convolution"]


@pytest.mark.parametrize("no_bias", [False, True])
def test_convolutions_of_one_tensor_are_joined(no_bias: bool) -> None:
    x = mx.sym.relu(mx.sym.var("data"))
    a, b, c = (conv(x, name, count, no_bias=no_bias) for name, count in (("a", 5), ("b", 3), ("c", 1)))
    transposed = [
        mx.sym.transpose(conv, axes=axes) for conv, axes in ((b, (0, 2, 3, 1)), (a, (1, 0, 2, 3)), (c, ()))
    ]
    symbol = mx.sym.Group([*transposed, mx.sym.transpose(a, axes=(3, 2, 1, 0))])
    graph, arrays = graph_and_arrays(symbol)
    assert join_predictors(graph) == 1
    assert filter_counts(graph) == [9]
    for after, before in zip(run(graph.symbol(), arrays), run(symbol, arrays)):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    assert join_predictors(graph) == 0


def test_other_convolutions_are_unchanged() -> None:
    x = mx.sym.relu(mx.sym.var("data"))
    halves = mx.sym.split(x, 2, axis=1)
    convs = (
        [
            conv(x, "plain", 4),
            conv(x, "small", 4, kernel=1),
            conv(x, "stride", 4, stride=(2, 2)),
            conv(x, "without", 4, no_bias=True),
            conv(x, "grouped", 4, num_group=4),
            conv(x, "grouped_too", 4, num_group=4),
            conv(halves[0], "left", 4),
            conv(halves[1], "right", 4),
            mx.sym.Convolution(x, mx.sym.relu(mx.sym.var("made_weight", shape=(4, 4, 3, 3))),
                               num_filter=4, kernel=(3, 3), pad=(1, 1), workspace=1024, no_bias=True),
        ]
    )  # fmt: skip
    fused = [mx.sym.relu(conv(x, "activated", 4)), conv(x, "added", 4) + mx.sym.relu(conv(x, "and", 4))]
    symbol = mx.sym.Group([*map(mx.sym.transpose, convs), *fused, conv(x, "seen", 4)])
    graph, _ = graph_and_arrays(symbol)
    before = filter_counts(graph)
    assert join_predictors(graph) == 0
    assert filter_counts(graph) == before


def test_convolutions_with_unknown_shapes_are_unchanged() -> None:
    x = mx.sym.var("data")
    symbol = mx.sym.Group([mx.sym.transpose(conv(x, name, 2)) for name in "ab"])
    assert join_predictors(Graph(symbol, {"a_weight": (2, 4, 3, 3), "a_bias": (2,)})) == 0


@pytest.mark.parametrize(("head", "joined"), [("ssd", 6), ("ssdlite", 0)])
def test_predictors_of_a_detector_are_joined(head: str, joined: int) -> None:
    net = zoo.get_model(f"{head}_128_mobilenet_v2_0.25", classes=["cat", "dog"]).heads
    net.initialize()
    net(mx.nd.zeros((1, 3, 128, 128)))
    arrays = read_arrays(net)
    graph = Graph(trace(net), {name: value.shape for name, value in arrays.items()})
    before = len(filter_counts(graph))
    symbol, _ = fold(graph, arrays)
    assert len(filter_counts(Graph(symbol, {}))) == before - joined
