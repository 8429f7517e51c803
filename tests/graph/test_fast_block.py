"""Fast blocks: outputs, gradients and statistics of whole networks, and arrays shared with the block."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.graphs import as_list, assert_close, gradients, initialized, sequential, stack, train_once
from helpers.networks import images, values
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from mnssd import zoo
from mnssd.graph import Graph, fast_block
from mnssd.graph.channels import pad_channels
from mnssd.graph.symbol_graph import trace
from mnssd.nn import RELU6, SSD, MobileNetV1, MobileNetV2
from mnssd.runtime import processor
from mnssd.weights import assign

pytestmark = pytest.mark.usefixtures("on_any_processor")

# ---- whole networks ----------------------------------------------------------------------------------------

NETWORKS: Dict[str, Tuple[Callable[[], Any], Tuple[int, int]]] = {
    # name: (network, (ReLU6 fused, ReLU fused))
    "v1 relu": (lambda: MobileNetV1(0.25, 10), (0, 27)),
    "v1 relu6": (lambda: MobileNetV1(0.25, 10, activation="relu6"), (27, 0)),
    "v2": (lambda: MobileNetV2(0.25, 10), (36, 0)),
    "v2 projection": (lambda: MobileNetV2(0.35, 10, shortcut="projection-all"), (36, 0)),
    "v2 t 4": (lambda: MobileNetV2(0.25, 10, expansion=4), (36, 0)),
    "v1 conv": (lambda: MobileNetV1(0.25, 10, classifier="conv"), (0, 27)),  # not that of the 10 classes
    "ssd v1": (lambda: SSD(MobileNetV1(0.25, 1), ["a", "b"], (96, 96), "ssd").heads, (8, 27)),
    "ssdlite v1": (lambda: SSD(MobileNetV1(0.25, 1), ["a", "b"], (96, 96), "ssdlite").heads, (24, 27)),
    "ssd v2": (lambda: SSD(MobileNetV2(0.25, 1), ["a", "b"], (96, 96), "ssd").heads, (44, 0)),
    "ssdfactorized v2": (
        lambda: SSD(MobileNetV2(0.25, 1), ["a", "b"], (96, 96), "ssdfactorized").heads,
        (48, 0),
    ),
    "ssdfpn v2": (lambda: SSD(MobileNetV2(0.25, 1), ["a", "b"], (96, 96), "ssdfpn").heads, (63, 0)),
    "ssdlite v2": (lambda: SSD(MobileNetV2(0.25, 1), ["a", "b"], (96, 96), "ssdlite").heads, (60, 0)),
}

VARIANTS = ("v2 t 4", "v1 conv", "ssdfactorized v2", "ssdfpn v2")
"""Networks of `NETWORKS` with the operators of another."""


def fix_statistics(block: Any) -> Any:
    """Let every BatchNorm use its running statistics in training, so that rounding errors do not grow."""
    if isinstance(block, nn.BatchNorm):
        block._kwargs["use_global_stats"] = True
    for child in block._children.values():
        fix_statistics(child)
    return block


def distance(actual: Dict[Any, np.ndarray], expected: Dict[Any, np.ndarray]) -> np.ndarray:
    """Relative difference of each array."""
    return np.array(
        [np.linalg.norm(actual[key] - value) / np.linalg.norm(value) for key, value in expected.items()]
    )


def perturbed(x: Any, seed: int = 0) -> Any:
    """The input with a relative change of 5e-6.

    Rounding that moves a value across 0 or 6 changes its whole gradient, and batch statistics amplify
    rounding, so the tolerance for deep networks is what this change does to the plain one.
    """
    return x * (1 + 5e-6 * mx.nd.array(np.random.default_rng(seed).normal(size=x.shape)))


def assert_no_worse_than_rounding(arrays: Dict[str, Dict[Any, np.ndarray]], limit: float) -> None:
    """`arrays` of the plain block, the fast one, and the plain one with the perturbed input."""
    fast = distance(arrays["fast"], arrays["plain"])
    rounding = distance(arrays["perturbed"], arrays["plain"])
    for quantile in (50, 90):
        assert np.percentile(fast, quantile) < max(1e-4, 3 * np.percentile(rounding, quantile))
    assert np.median(fast) < limit


def passes_of_all_kinds(factory: Callable[[], Any], x: Any) -> Tuple[Any, Any, Any, Dict[str, int]]:
    """Outputs, gradients and running statistics of a training step by kind of block, and the pass counts."""
    outputs: Dict[str, Any] = {}
    slopes: Dict[str, Any] = {}
    statistics: Dict[str, Any] = {}
    net = initialized(factory, x)
    moving = {key: p for key, p in net._collect_params_with_prefix().items() if "running" in key}
    start = {key: parameter.data().copy() for key, parameter in moving.items()}
    for kind in ("plain", "perturbed", "fast"):
        for key, parameter in moving.items():
            parameter.set_data(start[key])
        forward = fast_block(net) if kind == "fast" else net
        outputs[kind] = dict(enumerate(train_once(forward, perturbed(x) if kind == "perturbed" else x)))
        # 7.beta is followed by another BatchNorm: its gradient is zero in theory
        slopes[kind] = {key: value for key, value in gradients(net).items() if not key.endswith("7.beta")}
        statistics[kind] = {key: parameter.data().asnumpy().copy() for key, parameter in moving.items()}
    return outputs, slopes, statistics, dict(forward.rewritten)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        *(
            pytest.param(name, "blocks_of_sixteen", marks=[pytest.mark.slow] if name in VARIANTS else [])
            for name in NETWORKS
        ),
        ("ssd v2", "blocks_of_eight"),
        *(
            pytest.param(name, "blocks_of_eight", marks=pytest.mark.slow)
            for name in NETWORKS
            if name != "ssd v2"
        ),
    ],
)
def test_gradients_with_fixed_statistics(name: str, blocks: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(blocks)
    factory, counts = NETWORKS[name]
    x = images(4, 96, 96)
    outputs, slopes, _, rewritten = passes_of_all_kinds(lambda: fix_statistics(factory()), x)
    assert distance(outputs["fast"], outputs["plain"]).max() < 1e-4
    assert_no_worse_than_rounding(slopes, limit=0.1)
    assert (rewritten["BatchNorm + ReLU6"], rewritten["BatchNorm + ReLU"]) == counts
    assert rewritten["pad channels"] > 0 or blocks == "blocks_of_eight"
    assert rewritten["join predictors"] == (6 if name.startswith("ssd ") else 0)  # one per feature map


@pytest.mark.parametrize("name", ["v1 relu", "v2 projection", "ssd v2", "ssdlite v1"])
def test_gradients_with_batch_statistics(name: str) -> None:
    outputs, slopes, statistics, _ = passes_of_all_kinds(NETWORKS[name][0], images(4, 96, 96))
    assert_no_worse_than_rounding(outputs, limit=0.02)
    assert_no_worse_than_rounding(statistics, limit=0.02)
    assert_no_worse_than_rounding(slopes, limit=0.7)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_symbol_survives_conversion_to_a_graph(name: str) -> None:
    x = images(1, 96, 96)
    block = initialized(NETWORKS[name][0], x)
    symbol = trace(block)
    back = Graph(symbol, {}).symbol()
    assert back.list_arguments() == symbol.list_arguments()
    assert back.list_auxiliary_states() == symbol.list_auxiliary_states()
    assert back.list_outputs() == symbol.list_outputs()
    # Not to the last bit: oneDNN may choose another implementation for another memory alignment.
    for expected, actual in zip(as_list(block(x)), as_list(fast_block(block, ())(x))):
        np.testing.assert_allclose(actual.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in zoo.list_models() if not n.startswith("ssd")])
def test_symbol_survives_conversion_to_a_graph_at_every_width(name: str) -> None:
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
    """Change of each array, including running statistics, by five steps with momentum."""
    labels, net = mx.nd.array([0, 1, 2, 3]), initialized(factory, images(4, size, size))
    start = values(net)
    forward = fast_block(net) if kind == "fast" else net
    forward.hybridize(static_alloc=True, static_shape=True)
    options = {"learning_rate": rate, "momentum": 0.9, "wd": 1e-4}
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", options, kvstore=None)
    for number in range(5):
        x = images(4, size, size, seed=number)
        step(forward, trainer, perturbed(x, number) if kind == "perturbed" else x, labels)
    mx.nd.waitall()
    return {name: value - start[name] for name, value in values(net).items()}


def test_five_training_steps_of_a_block() -> None:
    def factory() -> HybridBlock:
        return sequential(stack("relu6"), nn.GlobalAvgPool2D(), nn.Flatten())

    plain, fast = (after_steps(factory, kind, 32, rate=0.02) for kind in ("plain", "fast"))
    assert min(np.linalg.norm(value) for value in plain.values()) > 1e-3
    assert distance(fast, plain).max() < 1e-3


def test_five_training_steps_of_a_network() -> None:
    plain, fast, perturbed_plain = (
        after_steps(lambda: MobileNetV2(0.25, 4), kind, 96, rate=0.001)
        for kind in ("plain", "fast", "perturbed")
    )
    fast_distance, rounding = distance(fast, plain), distance(perturbed_plain, plain)
    for quantile in (10, 50):
        assert np.percentile(fast_distance, quantile) < 3 * np.percentile(rounding, quantile)
    assert np.percentile(fast_distance, 10) < 0.1


# ---- arrays shared with the block --------------------------------------------------------------------------


@pytest.fixture
def pair() -> Tuple[Any, Any, Any]:
    """A block with padded statistics, its fast form, and an input."""
    x = images(4, 32, 32)
    block = initialized(lambda: stack("relu6"), x)
    return block, fast_block(block), x


def outputs_agree(block: Any, fast: Any, x: Any) -> bool:
    return bool(np.allclose(block(x).asnumpy(), fast(x).asnumpy(), rtol=1e-4, atol=1e-4))


def test_training_updates_the_statistics_of_the_block(pair: Tuple[Any, Any, Any], tmp_path: Path) -> None:
    block, fast, x = pair
    before = values(block)
    train_once(fast, x)
    after = values(block)
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    assert changed == [name for name in before if "running" in name]
    block.save_parameters(str(tmp_path / "saved.params"))
    fresh = stack("relu6")
    fresh.load_parameters(str(tmp_path / "saved.params"))
    for name, value in values(fresh).items():
        np.testing.assert_array_equal(value, after[name])
    assert outputs_agree(fresh, fast, x)


@pytest.mark.parametrize("how", ["set_data", "load_parameters", "assign", "training the block"])
def test_changes_of_the_block_affect_the_fast_block(
    pair: Tuple[Any, Any, Any], how: str, tmp_path: Path
) -> None:
    block, fast, x = pair
    fast.hybridize(static_alloc=True, static_shape=True)
    train_once(fast, x)
    old = fast(x).asnumpy()
    other = initialized(lambda: stack("relu6"), x, seed=1)
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
    assert outputs_agree(other, fast, x)


def test_fast_block_trains_the_parameters_of_the_block(
    pair: Tuple[Any, Any, Any],
) -> None:
    block, fast, _ = pair
    assert block[1].running_var.data().shape == (24,)
    assert block[1].running_var.shape == (24,)
    trainable = {name for name, p in fast.collect_params().items() if p.grad_req != "null"}
    assert trainable == {name for name, p in block.collect_params().items() if p.grad_req != "null"}


def test_second_fast_block_takes_over_the_statistics(pair: Tuple[Any, Any, Any]) -> None:
    block, _, x = pair
    second = fast_block(block)
    before = values(block)
    train_once(second, x)
    assert not np.array_equal(values(block)["1.running_mean"], before["1.running_mean"])
    assert outputs_agree(block, second, x)


def test_frozen_parameters_stay_frozen() -> None:
    """Frozen as by ``--freeze``: no gradients, fixed statistics."""
    x = images(4, 32, 32)
    block = initialized(lambda: stack("relu6"), x)
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


def test_nan_reaches_the_statistics() -> None:
    """oneDNN's ReLU returns 0 for NaN, so outputs may be finite."""
    x = images(4, 32, 32)
    block = initialized(lambda: stack("relu6"), x)
    fast = fast_block(block)
    block[0].weight.set_data(block[0].weight.data() * np.nan)
    train_once(fast, x)
    assert np.isnan(block[1].running_mean.data().asnumpy()).all()
    assert np.isnan(block[1].running_var.data().asnumpy()).all()


# ---- processors and contexts -------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ["SSE41", "AVX", "AVX2"])
def test_nothing_is_rewritten_below_avx2(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    """oneDNN has no fast implementation of the fused operator there."""
    block = initialized(lambda: stack("relu6"), images(2, 32, 32))
    monkeypatch.undo()  # the fixture of this file
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", isa)
    assert bool(fast_block(block).rewritten) == (isa == "AVX2" and processor.fuses_batchnorm_relu())


@pytest.mark.usefixtures("blocks_of_sixteen")
def test_nothing_is_rewritten_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(2, 32, 32)
    block = initialized(lambda: stack("relu6"), x)
    monkeypatch.setenv("MXNET_MKLDNN_ENABLED", "0")
    assert fast_block(block).rewritten == {}
    assert fast_block(block, [("pad", pad_channels)]).rewritten == {"pad": 4}  # requested explicitly


@pytest.mark.parametrize("initialized", [False, True])
def test_block_with_unknown_shapes_is_refused(initialized: bool) -> None:
    block = stack("relu6")
    if initialized:
        block.initialize()
    with pytest.raises(ValueError, match="weight"):
        fast_block(block)


def test_block_without_parameters() -> None:
    x = images(1, 32, 32)
    assert_close(fast_block(RELU6())(x).asnumpy(), RELU6()(x).asnumpy(), 0)


def test_fast_block_emits_no_warning() -> None:
    block = initialized(lambda: stack("relu"), images(2, 32, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fast_block(block)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["ssd_300_mobilenet_v1", "ssd_300_mobilenet_v2", "ssdlite_320_mobilenet_v2", "ssdfpn_300_mobilenet_v2"],
)
def test_detectors_at_training_sizes(name: str) -> None:
    """oneDNN chooses kernels and layouts by size, so test the sizes used in training."""

    def factory() -> Any:
        return fix_statistics(zoo.get_model(name, ["a", "b", "c"]).heads)

    outputs, slopes, _, _ = passes_of_all_kinds(factory, images(8, *zoo.get_model(name, ["a"]).size))
    assert distance(outputs["fast"], outputs["plain"]).max() < 1e-4
    assert_no_worse_than_rounding(slopes, limit=0.05)
