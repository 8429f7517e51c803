"""Equalization: the same outputs, channels of similar ranges, and graphs that must not change."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import SIZE, inference_graph, make_classifier, make_image, make_net
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.image import to_network_input
from mnssd.export.calibrate import equalized, tensor_values
from mnssd.export.engines import outputs_of
from mnssd.export.network import ExportedClassifier
from mnssd.export.options import ExportOptions
from mnssd.graph.equalize import LARGEST, Equalizer
from mnssd.graph.inference import load_block

Arrays = Dict[str, np.ndarray]
IMAGES = [make_image(seed, *SIZE) for seed in range(3)]


def outputs(symbol: Any, parameters: Arrays, x: Any) -> List[np.ndarray]:
    return [output.asnumpy() for output in outputs_of(load_block(symbol, parameters, mx.cpu()), x)]


def scaled(symbol: Any, parameters: Arrays) -> Arrays:
    return equalized(symbol, parameters, IMAGES, mx.cpu())


def changed(before: Arrays, after: Arrays) -> List[str]:
    assert before.keys() == after.keys()
    return sorted(name for name in before if not np.array_equal(before[name], after[name]))


def ranges(symbol: Any, parameters: Arrays, tensor: str) -> np.ndarray:
    batches = [batch[tensor] for batch in tensor_values(symbol, parameters, [tensor], IMAGES, mx.cpu())]
    return np.abs(np.concatenate(batches)).max(axis=(0, 2, 3))


@pytest.mark.parametrize("head", ["ssd", "ssdlite", "ssdfpn"])
@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2"])
def test_the_outputs_stay_the_same(network: str, head: str) -> None:
    symbol, parameters = inference_graph(*make_net(1, head, network), raw_heads=True)
    after = scaled(symbol, parameters)
    assert len(changed(parameters, after)) > 10
    x = mx.nd.array(to_network_input(IMAGES))
    for actual, expected in zip(outputs(symbol, after, x), outputs(symbol, parameters, x)):
        np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_the_outputs_of_a_classifier_stay_the_same() -> None:
    net, spec = make_classifier("mobilenet_v1")
    symbol, parameters = ExportedClassifier(net, spec, ExportOptions(), []).graph()
    after = scaled(symbol, parameters)
    assert changed(parameters, after)
    x = mx.nd.array(to_network_input(IMAGES))
    (actual,), (expected,) = outputs(symbol, after, x), outputs(symbol, parameters, x)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def convolution(x: Any, name: str, outputs: int, groups: int = 1, kernel: int = 1, weight: Any = None) -> Any:
    weights = {} if weight is None else {"weight": weight}
    pad = (kernel // 2,) * 2
    return mx.sym.Convolution(
        x, name=name, num_filter=outputs, num_group=groups, kernel=(kernel, kernel), pad=pad, **weights
    )


def two_layers(activation: Any, depthwise: bool, shared: bool = False) -> Tuple[Any, Arrays]:
    """A convolution with channels of very different ranges, an activation, and a convolution."""
    rng, channels = np.random.default_rng(0), 16
    weight = mx.sym.var("second_weight") if shared else None
    hidden = activation(convolution(mx.sym.var("data"), "first", channels))
    groups, kernel = (channels, 3) if depthwise else (1, 1)
    symbol = convolution(hidden, "second", channels, groups, kernel, weight)
    if shared:
        symbol = convolution(symbol, "third", channels, groups, kernel, weight)
    shapes, _, _ = symbol.infer_shape(data=(1, 3, SIZE[1], SIZE[0]))
    names = dict(zip(symbol.list_arguments(), shapes))
    del names["data"]
    values = {f"arg:{name}": rng.normal(0, 1, shape).astype(np.float32) for name, shape in names.items()}
    factors = np.geomspace(0.4, 2, channels).astype(np.float32)
    values["arg:first_weight"] *= factors[:, None, None, None]
    values["arg:first_bias"] *= factors
    return symbol, values


def relu(x: Any) -> Any:
    return mx.sym.Activation(x, act_type="relu", name="active")


def relu6(x: Any) -> Any:
    return mx.sym.clip(x, 0, 6, name="active")


def test_channels_before_a_depthwise_convolution_have_equal_ranges() -> None:
    symbol, parameters = two_layers(relu, depthwise=True)
    after = scaled(symbol, parameters)
    before_ranges, after_ranges = (ranges(symbol, p, "active_output") for p in (parameters, after))
    assert before_ranges.max() / before_ranges.min() > 4
    assert before_ranges.max() / before_ranges.min() < LARGEST
    np.testing.assert_allclose(after_ranges, before_ranges.max(), rtol=1e-4)


def rounded(values: np.ndarray, axis: Tuple[int, ...]) -> np.ndarray:
    """As 8-bit integers with a step for all values along `axis`."""
    step = np.abs(values).max(axis=axis, keepdims=True) / 127
    return (np.rint(values / step) * step).astype(np.float32)


@pytest.mark.parametrize("depthwise", [True, False])
def test_rounding_to_8_bits_costs_less(depthwise: bool) -> None:
    symbol, parameters = two_layers(relu, depthwise)

    def error(p: Arrays) -> float:
        names = ["active_output", "second_output"]
        (values,) = tensor_values(symbol, p, names, IMAGES, mx.cpu())
        hidden, exact = values["active_output"], values["second_output"]
        weight = rounded(p["arg:second_weight"], (1, 2, 3))
        groups, kernel = (16, 3) if depthwise else (1, 1)
        second = convolution(mx.sym.var("data"), "second", 16, groups, kernel)
        rest = {"arg:second_weight": weight, "arg:second_bias": p["arg:second_bias"]}
        (actual,) = outputs(second, rest, mx.nd.array(rounded(hidden, (0, 1, 2, 3))))
        return float(np.abs(actual - exact).mean())

    assert error(scaled(symbol, parameters)) < 0.9 * error(parameters)


@pytest.mark.parametrize(
    ("activation", "shared"),
    [(relu6, False), (mx.sym.sigmoid, False), (relu, True)],
    ids=["ReLU6", "sigmoid", "shared weight"],
)
def test_other_activations_and_shared_weights_keep_their_parameters(activation: Any, shared: bool) -> None:
    symbol, parameters = two_layers(activation, depthwise=True, shared=shared)
    assert not changed(parameters, scaled(symbol, parameters))


@given(st.lists(st.floats(0, 1e6), min_size=16, max_size=16))
@settings(max_examples=50, deadline=None)
def test_factors_are_limited(values: List[float]) -> None:
    symbol, parameters = two_layers(relu, depthwise=True)
    equalizer = Equalizer(symbol, parameters)
    after = equalizer.equalized(dict.fromkeys(equalizer.tensors, np.array(values)))
    factors = after["arg:first_bias"] / parameters["arg:first_bias"]
    assert np.isfinite(factors).all()
    assert factors.min() > 0.999
    assert factors.max() < LARGEST * 1.001
