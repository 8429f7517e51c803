"""Packed weights, calibration and 8-bit graphs."""

from __future__ import annotations

import json
from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import SIZE, inference_graph, make_image, make_net
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mnssd.data.image import to_network_input
from mnssd.errors import ExportError
from mnssd.export import calibrate, symbol_quantize
from mnssd.export.calibrate import Calibration
from mnssd.export.packing import LARGEST, STEPS, pack_float16, pack_int8, unpack_arrays
from mnssd.export.symbol_quantize import int8_graph
from mnssd.graph.quantize import fuse_for_int8, int8_convolutions, quantize, tensors_to_calibrate
from mnssd.runtime import processor

needs_vnni = pytest.mark.skipif(
    not processor.has_vnni(), reason="without VNNI oneDNN's sums of 8-bit products are not exact"
)


@pytest.fixture(scope="module")
def trained() -> Tuple[Any, Any]:
    return make_net()


# ---- packing -----------------------------------------------------------------------------------------------

WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)


@given(WEIGHTS)
@settings(max_examples=60, deadline=None)
def test_int8_packing_rounds_to_the_nearest_step(weight: np.ndarray) -> None:
    packed = pack_int8({"arg:w": weight, "arg:b": weight[0]}, ["arg:w"])
    assert packed["arg:w"].dtype == np.int8
    again = unpack_arrays(packed)
    assert set(again) == {"arg:w", "arg:b"}
    np.testing.assert_array_equal(again["arg:b"], weight[0])
    by_channel = (-1,) + (1,) * (weight.ndim - 1)
    step = np.abs(weight.reshape(len(weight), -1)).max(axis=1).reshape(by_channel) / 127.5
    # Both extremes represent the largest weight, up to half a step beyond rounding.
    ends = np.isin(packed["arg:w"], (127, -128))
    assert (np.abs(again["arg:w"] - weight) <= np.where(ends, 1.001, 0.501) * step + 1e-30).all()
    # Packing again gives the same integers.
    twice = pack_int8({"arg:w": again["arg:w"]}, ["arg:w"])
    np.testing.assert_array_equal(twice["arg:w"], packed["arg:w"])


def test_float16_packing_refuses_large_values() -> None:
    weight = np.array([[1.0, 1e-3, 3.0001]], np.float32)
    again = unpack_arrays(pack_float16({"arg:w": weight}, ["arg:w"]))["arg:w"]
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, weight, rtol=1e-3)
    with pytest.raises(ExportError, match="arg:w"):
        pack_float16({"arg:w": weight * 1e5}, ["arg:w"])


# ---- calibration -------------------------------------------------------------------------------------------


def ranges_of(method: str, pixels: List[np.ndarray]) -> Tuple[float, float]:
    parameters = {"arg:gain": np.ones((1, 3, 1, 1), np.float32)}
    symbol = mx.sym.broadcast_mul(mx.sym.var("data"), mx.sym.var("gain"), name="scaled")
    return calibrate.find_ranges(symbol, parameters, ["scaled_output"], pixels, method, mx.cpu())[
        "scaled_output"
    ]


def test_ranges_of_each_calibration_method() -> None:
    pixels = [make_image(i, 64, 48) for i in range(5)]  # one full batch and a smaller one
    x = to_network_input(pixels)
    assert ranges_of("naive", pixels) == pytest.approx((x.min(), x.max()))
    low, high = ranges_of("percentile", pixels)
    kept = np.percentile(np.abs(x), calibrate.PERCENTILE)
    assert high == pytest.approx(kept, rel=1e-3)
    assert low == pytest.approx(max(x.min(), -kept), rel=1e-3)
    low, high = ranges_of("entropy", pixels)
    assert x.min() <= low < 0 < high <= x.max()
    with pytest.raises(ValueError, match="guess"):
        ranges_of("guess", pixels)


def test_ranges_of_in_place_additions(trained: Tuple[Any, Any]) -> None:
    """Equal to the ranges in the plain graph, although oneDNN adds in place."""
    symbol, parameters = inference_graph(*trained, raw_heads=True)
    fused = fuse_for_int8(symbol)
    pixels = [make_image(i, *SIZE) for i in range(3)]
    tensors = tensors_to_calibrate(fused)
    ranges = calibrate.find_ranges(fused, parameters, tensors, pixels, "naive", mx.cpu())
    nodes = json.loads(symbol.tojson())["nodes"]
    sums = [f"{node['name']}_output" for node in nodes if node["op"] == "elemwise_add"]
    assert len(sums) == 10
    plain = calibrate.find_ranges(symbol, parameters, sums, pixels, "naive", mx.cpu())
    of_sums = sorted(ranges[name] for name in tensors if "_add_" in name)
    np.testing.assert_allclose(of_sums, sorted(plain.values()), atol=1e-4)


# ---- the graph ---------------------------------------------------------------------------------------------


def test_every_convolution_is_quantized(trained: Tuple[Any, Any]) -> None:
    symbol, parameters = inference_graph(*trained)
    pixels = [make_image(i, *SIZE) for i in range(4)]
    quantized, packed = int8_graph(symbol, parameters, Calibration("naive", pixels), mx.cpu())
    convolutions = sum(node["op"] == "Convolution" for node in json.loads(symbol.tojson())["nodes"])
    assert len(int8_convolutions(quantized)) == convolutions > 60
    integers = [name for name, value in packed.items() if value.dtype == np.int8]
    assert len(integers) == convolutions
    assert all(packed[LARGEST + name[len("arg:") :]].shape == packed[name].shape[:1] for name in integers)
    assert quantized.list_outputs() == symbol.list_outputs()


@needs_vnni
def test_convolution_matches_integer_arithmetic() -> None:
    """Compared with NumPy; 1x1, so that it is a matrix product."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (16, 3, 1, 1)).astype(np.float32) * rng.uniform(0.01, 3, (16, 1, 1, 1))
    bias = rng.normal(0, 1, 16).astype(np.float32)
    x = mx.sym.var("data")
    conv = mx.sym.Convolution(x, mx.sym.var("w"), mx.sym.var("b"), kernel=(1, 1), num_filter=16, name="conv")
    pixels = [make_image(i, 32, 32) for i in range(4)]
    parameters = {"arg:w": weight.astype(np.float32), "arg:b": bias}
    quantized, packed = int8_graph(conv, parameters, Calibration("naive", pixels), mx.cpu())
    arrays = unpack_arrays(packed)
    block = calibrate.load_block(quantized, arrays, mx.cpu())
    data = to_network_input(pixels)
    output = block(mx.nd.array(data)).asnumpy()
    # MXNet 1.9.1 divides ranges by 127.5.
    step = np.abs(data).max() / 127.5
    integers = np.clip(np.rint(data / step), -128, 127)
    sums = np.einsum("oc,nchw->nohw", packed["arg:w"][:, :, 0, 0].astype(np.float64), integers)
    by_channel, biases = (a.reshape(1, -1, 1, 1) for a in (packed[LARGEST + "w"] / STEPS, packed["arg:b"]))
    exact = sums * by_channel * step + biases
    reference = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], data) + biases
    out_step = np.abs(reference).max() / 127.5
    steps_off = np.abs(np.clip(np.rint(exact / out_step), -128, 127) - np.rint(output / out_step))
    np.testing.assert_allclose(output / out_step, np.rint(output / out_step), atol=1e-3)
    assert steps_off.max() <= 1  # a value between two steps may round either way
    assert (steps_off == 0).mean() > 0.95


@needs_vnni
def test_packed_weights_give_the_same_outputs(trained: Tuple[Any, Any]) -> None:
    """To the bit: MXNet derives the same integers and steps from unpacked weights."""
    symbol, parameters = inference_graph(*trained, raw_heads=True)
    pixels = [make_image(i, *SIZE) for i in range(4)]
    quantized, packed = int8_graph(symbol, parameters, Calibration("naive", pixels), mx.cpu())
    unpacked = unpack_arrays(packed)
    weights = {name: parameters[name] for name, value in packed.items() if value.dtype == np.int8}
    assert any((packed[name] == -128).any() for name in weights)
    x = mx.nd.array(to_network_input([make_image(9, *SIZE)]))
    outputs = [
        calibrate.load_block(quantized, values, mx.cpu())(x) for values in (unpacked, {**unpacked, **weights})
    ]
    for from_packed, from_floats in zip(*outputs):
        np.testing.assert_array_equal(from_packed.asnumpy(), from_floats.asnumpy())


def test_bias_correction_restores_means(trained: Tuple[Any, Any]) -> None:
    symbol, parameters = inference_graph(*trained, raw_heads=True)
    pixels = [make_image(i, *SIZE) for i in range(4)]
    fused = fuse_for_int8(symbol)
    tensors = tensors_to_calibrate(fused)
    ranges = calibrate.find_ranges(fused, parameters, tensors, pixels, "naive", mx.cpu())
    quantized = quantize(fused, ranges)
    convolutions = int8_convolutions(quantized)
    names = [f"{convolution.before}_output" for convolution in convolutions]
    expected = symbol_quantize._channel_means(fused, parameters, names, pixels, mx.cpu())
    corrected = symbol_quantize.correct_biases(fused, quantized, parameters, parameters, pixels, mx.cpu())
    assert all(np.array_equal(corrected[name], parameters[name]) for name in corrected if "bias" not in name)
    names = [f"{convolution.name}_output" for convolution in convolutions]
    errors = [
        np.mean([np.abs(a - b).mean() for a, b in zip(expected, means)])
        for means in (
            symbol_quantize._channel_means(quantized, values, names, pixels, mx.cpu())
            for values in (parameters, corrected)
        )
    ]
    assert errors[1] < 0.5 * errors[0]
