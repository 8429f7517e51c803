"""Folding BatchNorm into convolutions."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest

from mnssd import nn
from mnssd.graph.fold_batchnorm import fold_batchnorm
from mnssd.graph.symbol_graph import Graph, trace
from mnssd.runtime.settings import wait_all


def randomize(block: Any, x: mx.nd.NDArray, seed: int = 0) -> Dict[str, np.ndarray]:
    """Initialize `block` with random parameters and statistics; returns them by name."""
    block.initialize(mx.init.Xavier("gaussian", "in", 2))
    block(x)
    rng = np.random.default_rng(seed)
    for name, parameter in block.collect_params().items():
        if name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
        elif name.endswith(("beta", "running_mean", "bias")):
            parameter.set_data(mx.nd.array(rng.normal(0, 0.3, parameter.shape)))
    wait_all()
    return {name: parameter.data().asnumpy() for name, parameter in block.collect_params().items()}


def fold(symbol: mx.sym.Symbol, arrays: Dict[str, np.ndarray]) -> Tuple[int, Graph]:
    """Fold a Symbol's graph."""
    graph = Graph(symbol, {name: value.shape for name, value in arrays.items()})
    return fold_batchnorm(graph, arrays), graph


def run(symbol: mx.sym.Symbol, arrays: Dict[str, np.ndarray], x: np.ndarray) -> List[np.ndarray]:
    """Outputs in inference mode, without graph passes."""
    values = {name: mx.nd.array(value) for name, value in {**arrays, "data": x}.items()}
    args = {name: values[name] for name in symbol.list_arguments()}
    aux = {name: values[name] for name in symbol.list_auxiliary_states()}
    executor = symbol.bind(mx.cpu(), args, aux_states=aux, grad_req="null")
    return [output.asnumpy() for output in executor.forward(is_train=False)]


def count_norms(graph: Graph) -> int:
    """Number of BatchNorms."""
    return sum(node.op == "BatchNorm" for node in graph.nodes())


def check_same(symbol: mx.sym.Symbol, arrays: Dict[str, np.ndarray], x: np.ndarray) -> Tuple[int, Graph]:
    """Fold and compare every output; returns the number of folded BatchNorms and the graph."""
    count, graph = fold(symbol, arrays)
    for before, after in zip(run(symbol, arrays, x), run(graph.symbol(), {**arrays, **graph.constants}, x)):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(before).max()))
    return count, graph


@pytest.mark.parametrize(
    "backbone",
    [
        nn.MobileNetV1(0.25, 10, classifier="conv"),
        nn.MobileNetV2(0.25, 10, shortcut="projection-all", expansion=4),
        nn.SSD(nn.MobileNetV1(0.25, 1), ["a"], (96, 96), "ssdfactorized").heads,
    ],
    ids=["v1", "v2", "factorized"],
)
def test_outputs_of_whole_networks(backbone: Any) -> None:
    x = np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype(np.float32)
    arrays = randomize(backbone, mx.nd.array(x))
    symbol = trace(backbone)
    before = sum(name.endswith("running_var") for name in arrays)
    count, graph = check_same(symbol, arrays, x)
    assert count == before
    assert count_norms(graph) == 0
    folded = graph.symbol()
    assert folded.list_auxiliary_states() == []
    assert not any(name.endswith(("gamma", "beta")) for name in folded.list_arguments())


CONVOLUTION = {"kernel": (3, 3), "pad": (1, 1), "num_filter": 4, "name": "conv"}


def small(**norm: Any) -> Tuple[mx.sym.Symbol, mx.sym.Symbol, Dict[str, np.ndarray]]:
    """Convolution with 2 groups and bias, the BatchNorm after it, and arrays for both."""
    conv = mx.sym.Convolution(mx.sym.var("data"), num_group=2, **CONVOLUTION)
    rng = np.random.default_rng(2)
    arrays = {"conv_weight": rng.normal(size=(4, 1, 3, 3)), "conv_bias": rng.normal(size=4)}
    arrays.update({"norm_gamma": rng.uniform(1, 2, 4), "norm_beta": rng.normal(size=4)})
    arrays.update({"norm_moving_mean": rng.normal(size=4), "norm_moving_var": rng.uniform(0.001, 0.01, 4)})
    single = {name: value.astype(np.float32) for name, value in arrays.items()}
    return conv, mx.sym.BatchNorm(conv, name="norm", **norm), single


X = np.random.default_rng(3).normal(size=(2, 2, 5, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "norm",
    [
        {},  # gamma fixed at 1, epsilon 1e-3, visible with these small variances
        {"fix_gamma": False},
        {"fix_gamma": False, "eps": 0.1},
        {"fix_gamma": False, "use_global_stats": True},
    ],
)
def test_attributes_are_respected(norm: Dict[str, Any]) -> None:
    _, symbol, arrays = small(**norm)
    count, graph = check_same(symbol, arrays, X)
    assert (count, count_norms(graph)) == (1, 0)


def test_second_of_two_norms_stays() -> None:
    _, symbol, arrays = small(fix_gamma=False)
    second = mx.sym.BatchNorm(symbol, name="second", fix_gamma=False)
    second_arrays = {
        name.replace("norm", "second"): value for name, value in arrays.items() if "norm" in name
    }
    count, graph = check_same(second, {**arrays, **second_arrays}, X)
    assert (count, count_norms(graph)) == (1, 1)


def test_chain_of_folded_convolutions_and_shared_weights() -> None:
    """Two convolutions with one shared weight: each gets its own folded weight."""
    _, first, arrays = small(fix_gamma=False)
    rng = np.random.default_rng(4)
    weight, statistics = mx.sym.var("shared"), {}
    out = first
    for name in ("a", "b"):
        out = mx.sym.Convolution(out, weight, no_bias=True, **{**CONVOLUTION, "name": name})
        out = mx.sym.BatchNorm(out, name=f"{name}_norm", fix_gamma=False)
        for what in ("gamma", "beta", "moving_mean", "moving_var"):
            statistics[f"{name}_norm_{what}"] = rng.uniform(0.5, 1.5, 4).astype(np.float32)
    shared = rng.normal(size=(4, 4, 3, 3)).astype(np.float32)
    count, graph = check_same(out, {**arrays, **statistics, "shared": shared}, X)
    assert (count, count_norms(graph)) == (3, 0)


def unfoldable() -> Dict[str, mx.sym.Symbol]:
    """Variants of `small` whose BatchNorm cannot be folded."""
    conv, norm, _ = small(fix_gamma=False)
    _, other_axis, _ = small(fix_gamma=False, axis=2)
    _, with_statistics, _ = small(fix_gamma=False, output_mean_var=True)
    relu = mx.sym.BatchNorm(mx.sym.relu(conv), name="norm", fix_gamma=False)
    return {
        "convolution read twice": mx.sym.Group([norm, conv]),
        "activation between": relu,
        "no convolution": mx.sym.BatchNorm(mx.sym.var("data"), name="norm", fix_gamma=False),
        "other axis": other_axis,
        "statistics are outputs": mx.sym.Group(list(with_statistics)),
        "weights missing": norm,
        "weights computed": mx.sym.BatchNorm(
            mx.sym.Convolution(
                mx.sym.var("data"), mx.sym.var("conv_weight") * 2, no_bias=True, **CONVOLUTION
            ),
            name="norm",
        ),
    }


@pytest.mark.parametrize("case", list(unfoldable()))
def test_norm_that_cannot_be_folded_stays(case: str) -> None:
    _, _, arrays = small()
    if case == "weights missing":
        del arrays["conv_weight"]
    count, graph = fold(unfoldable()[case], arrays)
    assert (count, count_norms(graph), graph.constants) == (0, 1, {})


def test_graph_without_norms_is_unchanged() -> None:
    symbol = mx.sym.relu(mx.sym.Convolution(mx.sym.var("data"), **CONVOLUTION))
    _, _, arrays = small()
    count, graph = fold(symbol, arrays)
    assert count == 0
    assert graph.symbol().tojson() == symbol.tojson()
