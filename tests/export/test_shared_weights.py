"""Shared weights: k-means, codes, files that load back exactly, files that are refused, exports."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import SIZE, inference_graph, make_classifier, make_image, write_run
from safetensors.numpy import load_file, save_file
from scipy.cluster.vq import kmeans2

from mnssd.cli.main import main
from mnssd.data.image import to_network_input
from mnssd.errors import ExportError, OptionError
from mnssd.export import shared_file
from mnssd.export.load import load_export
from mnssd.export.options import ExportOptions
from mnssd.export.shared_file import read_shared, write_shared
from mnssd.export.shared_graph import correct_means, share_network
from mnssd.export.shared_weights import (
    ITERATIONS,
    find_values,
    huffman_decode,
    huffman_encode,
    pack_codes,
    share_weights,
    to_half,
    unpack_codes,
)
from mnssd.export.write import export_network

Tensors = Dict[str, np.ndarray]


def weights(shape: Tuple[int, ...], seed: int = 0, zeros: float = 0.0) -> np.ndarray:
    """Weights of channels that differ in scale, a share of them zero."""
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.01, 10, (shape[0],) + (1,) * (len(shape) - 1))
    values = rng.normal(0, 1, shape) * scales * (rng.random(shape) >= zeros)
    return np.asarray(values, np.float32)


# ---- k-means -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "seed"), [(4, 0), (5, 1), (8, 2)])
def test_values_are_those_of_scipy(bits: int, seed: int) -> None:
    samples = np.random.default_rng(seed).laplace(0, 1, 3000).astype(np.float32)
    start = np.linspace(samples.min(), samples.max(), 1 << bits)[:, np.newaxis]
    with np.testing.suppress_warnings() as sup:
        sup.filter(UserWarning)  # empty clusters, which keep their values there, too
        expected, _ = kmeans2(samples[:, np.newaxis].astype(float), start, iter=ITERATIONS, minit="matrix")
    np.testing.assert_allclose(find_values(samples, 1 << bits), expected.ravel(), atol=1e-5)


@pytest.mark.parametrize(("shape", "bits", "most"), [
    ((16, 64, 1, 1), 4, 16), ((8, 32, 3, 3), 5, 32), ((10, 200), 6, 64), ((32, 1, 3, 3), 4, 256),
])  # fmt: skip
def test_weights_take_few_values(shape: Tuple[int, ...], bits: int, most: int) -> None:
    weight = weights(shape)
    layer = share_weights(weight, bits)
    assert layer.codes.shape == shape
    assert 2 < len(layer.values) <= most
    expanded = layer.expand()
    assert expanded.dtype == np.float32
    errors = np.abs(expanded - weight).reshape(shape[0], -1)
    assert (errors.max(axis=1) <= 0.6 * layer.scales).all()  # of every channel, whatever its scale
    again = share_weights(weight, bits)
    np.testing.assert_array_equal(again.codes, layer.codes)
    np.testing.assert_array_equal(again.values, layer.values)


@pytest.mark.parametrize(
    ("shape", "zeros"), [((8, 100, 1, 1), 0.9), ((8, 1, 3, 3), 0.5), ((4, 100, 1, 1), 1.0)]
)
def test_zeros_stay_zero(shape: Tuple[int, ...], zeros: float) -> None:
    weight = weights(shape, zeros=zeros)
    expanded = share_weights(weight, 4).expand()
    np.testing.assert_array_equal(expanded[weight == 0], 0)
    assert ((expanded == 0) & (weight != 0)).sum() <= 0.3 * (weight != 0).sum()


@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e30])
def test_tiny_and_huge_weights_are_finite(size: float) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (4, 100)).astype(np.float32) * np.float32(size)
    expanded = share_weights(weight, 8).expand()
    np.testing.assert_allclose(expanded, weight, rtol=0, atol=0.1 * np.abs(weight).max())


def test_layers_of_few_values_keep_them() -> None:
    rows = np.random.default_rng(0).choice(np.float32([-2, -0.5, 0, 1, 3]), (6, 90, 1, 1))
    np.testing.assert_allclose(share_weights(rows, 8).expand(), rows, rtol=1e-6)


# ---- codes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 4, 5, 7, 8])
@pytest.mark.parametrize("count", [1, 8, 1001])
def test_packed_codes_are_read_back(bits: int, count: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, count).astype(np.uint8)
    data = pack_codes(codes, bits)
    assert len(data) == (count * bits + 7) // 8
    np.testing.assert_array_equal(unpack_codes(data, bits, count), codes)
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(ValueError, match=str(count)):
            unpack_codes(wrong, bits, count)


@pytest.mark.parametrize(("zeros", "most_bits"), [(0.0, 4.6), (0.9, 1.3), (0.99, 0.25), (1.0, 0.1)])
def test_huffman_codes_are_read_back(zeros: float, most_bits: float) -> None:
    rng = np.random.default_rng(0)
    codes = np.clip(rng.normal(16, 5, 50_000), 0, 31).astype(np.uint8) * (rng.random(50_000) >= zeros)
    data = huffman_encode(codes)
    assert 8 * len(data) / len(codes) < most_bits
    np.testing.assert_array_equal(huffman_decode(data, len(codes)), codes)
    for wrong in (data[:-1], data[:20], b"", data + b"\0", b"\0" + data):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever zlib says
            huffman_decode(wrong, len(codes))
    for count in (len(codes) - 1, len(codes) + 1):
        with pytest.raises(ValueError, match=str(count)):
            huffman_decode(data, count)


# ---- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("huffman", [False, True])
@pytest.mark.parametrize("bits", [4, 5, 8])
def test_files_load_back_exactly(bits: int, huffman: bool, tmp_path: Path) -> None:
    shapes = {"arg:a": (32, 96, 1, 1), "arg:b": (32, 1, 3, 3), "arg:c": (7, 130), "arg:d/e": (5, 9, 3, 3)}
    shared = {name: share_weights(weights(shape, zeros=0.3), bits) for name, shape in shapes.items()}
    plain = {"arg:bias": weights((32,)), "aux:mean": weights((3, 4))}
    for name in ("x", "y"):
        write_shared(tmp_path / name, plain, shared, huffman)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    arrays = read_shared(tmp_path / "x")
    assert set(arrays) == {*plain, *shared}
    for name, array in arrays.items():
        assert array.dtype == np.float32
        expected = plain[name] if name in plain else shared[name].expand()
        np.testing.assert_array_equal(array, expected)


def change(path: Path, tensors: Tensors) -> None:
    """Write the file again with other tensors."""
    save_file({**load_file(path), **tensors}, str(path))


DAMAGES: Dict[str, Callable[[Path, Tensors], Any]] = {
    "cut": lambda path, _: path.write_bytes(path.read_bytes()[:-9]),
    "longer": lambda path, _: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path, _: path.write_bytes(b""),
    "a pickle": lambda path, _: path.write_bytes(b"\x80\x04N."),
    "missing": lambda path, _: path.unlink(),
    "a folder": lambda path, _: (path.unlink(), path.mkdir()),
    "another count": lambda path, x: change(path, {"shape/w": x["shape/w"] + np.int32(1)}),
    "a huge shape": lambda path, x: change(path, {"shape/w": np.int32([2**31 - 1, 2**31 - 1])}),
    "a negative shape": lambda path, x: change(path, {"shape/w": -x["shape/w"]}),
    "a shape of one number": lambda path, x: change(path, {"shape/w": np.array(16, np.int32)}),
    "a shape of floats": lambda path, x: change(path, {"shape/w": x["shape/w"].astype(np.float32)}),
    "a bomb": lambda path, x: change(
        path,
        {
            "huffman/w": np.frombuffer(zlib.compress(bytes(1 << 26)), np.uint8),
            "shape/w": np.int32([16, 1000]),
        },
    ),
    "codes without values": lambda path, x: change(path, {"values/w": x["values/w"][:2]}),
    "no values": lambda path, x: change(path, {"values/w": x["values/w"][:0]}),
    "too few scales": lambda path, x: change(path, {"scales/w": x["scales/w"][1:]}),
    "values that are not finite": lambda path, x: change(path, {"values/w": x["values/w"] * np.inf}),
    "a layer of bytes": lambda path, x: change(path, {"other": np.zeros(5, np.uint8)}),
    "a layer twice": lambda path, x: change(path, {"w": np.zeros(5, np.float32)}),
    "doubles": lambda path, x: change(path, {"other": np.zeros(5)}),
    "codes removed": lambda path, x: save_file({k: v for k, v in x.items() if k != "huffman/w"}, str(path)),
}


def test_scales_take_two_bytes_unless_that_changes_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "w.safetensors"
    for factor, kind in ((1.0, np.float16), (1e-9, np.float32), (1e9, np.float32)):
        layer = share_weights((factor * rng.normal(0, 1, (8, 4, 3, 3))).astype(np.float32), 5)
        write_shared(path, {}, {"w": layer}, True)
        assert load_file(path)["scales/w"].dtype == kind
        np.testing.assert_array_equal(read_shared(path)["w"], layer.expand())


def test_files_with_float32_scales_are_read(tmp_path: Path) -> None:
    """Those of earlier versions."""
    layer = share_weights(np.random.default_rng(0).normal(0, 1, (8, 4, 3, 3)).astype(np.float32), 5)
    path = tmp_path / "w.safetensors"
    write_shared(path, {}, {"w": layer}, True)
    tensors = load_file(path)
    tensors["scales/w"] = tensors["scales/w"].astype(np.float32)
    save_file(tensors, path)
    np.testing.assert_array_equal(read_shared(path)["w"], layer.expand())


@pytest.mark.parametrize("value", [1.0, 0.3, 65504.0, 1e6, 1e-7, -2.5])
def test_half_precision_changes_a_value_by_a_thousandth_at_most(value: float) -> None:
    array = np.array([value, 0.0], np.float32)
    rounded = to_half(array)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, array, rtol=1 / 1024)
    assert np.array_equal(rounded, array) or np.array_equal(rounded.astype(np.float16), rounded)


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damaged_files_are_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    write_shared(path, {"b": weights((16,))}, {"w": share_weights(weights((16, 100)), 5)}, True)
    DAMAGES[damage](path, load_file(path))
    with pytest.raises(ExportError, match=r"net\.safetensors"):
        read_shared(path)


def test_oversized_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, layer = tmp_path / "net.safetensors", share_weights(weights((16, 100)), 5)
    write_shared(path, {}, {"w": layer}, True)
    monkeypatch.setattr(shared_file, "MOST_WEIGHTS", 1599)
    for action in (lambda: read_shared(path), lambda: write_shared(path, {}, {"w": layer}, True)):
        with pytest.raises(ExportError, match=r"net\.safetensors"):
            action()
    monkeypatch.setattr(shared_file, "MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(ExportError, match=r"net\.safetensors"):
        read_shared(path)


# ---- networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["standard", "depthwise", "grouped", "dense", "pointwise"])
def test_corrected_biases_keep_the_means(layer: str) -> None:
    x, w, b = (mx.sym.var(name) for name in ("data", "w", "b"))
    groups = {"depthwise": 3, "grouped": 3}.get(layer, 1)
    if layer == "dense":
        shape: Tuple[int, ...] = (4, 3)
        pooled = mx.sym.flatten(mx.sym.Pooling(x, global_pool=True, pool_type="avg", name="pool"))
        symbol = mx.sym.FullyConnected(pooled, w, b, num_hidden=4, name="out")
    else:
        kernel = 1 if layer == "pointwise" else 3
        shape = (6, 3 // groups, kernel, kernel)
        symbol = mx.sym.Convolution(x, w, b, kernel=shape[2:], num_filter=6, num_group=groups, name="out")
    images = [make_image(i, 40, 40) for i in range(3)]
    rng = np.random.default_rng(0)
    arrays = {"arg:w": weights(shape), "arg:b": rng.normal(size=shape[0]).astype(np.float32)}
    rounded = arrays["arg:w"] + rng.normal(0.1, 0.1, shape).astype(np.float32)
    corrected = correct_means(symbol, arrays, {"arg:w": arrays["arg:w"] - rounded}, images, mx.cpu())

    def means(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        data = to_network_input(images)
        out = symbol.eval(data=mx.nd.array(data), w=mx.nd.array(weight), b=mx.nd.array(bias))[0].asnumpy()
        return np.asarray(out.reshape(*out.shape[:2], -1).mean(axis=(0, 2)))

    expected = means(arrays["arg:w"], arrays["arg:b"])
    before = np.abs(means(rounded, arrays["arg:b"]) - expected).max()
    after = np.abs(means(rounded, corrected["arg:b"]) - expected).max()
    assert after < (1e-4 if layer in ("dense", "pointwise") else 0.1 * before)  # the border of an image


def test_network_that_is_not_finite_is_refused(tiny_detector: Tuple[Any, Any]) -> None:
    symbol, arrays = inference_graph(*tiny_detector)
    name = next(name for name, value in arrays.items() if value.ndim == 4)
    broken = {**arrays, name: arrays[name] * np.float32(np.nan)}
    with pytest.raises(ExportError, match=name):
        share_network((symbol, broken), (4,), 5, [make_image(0, *SIZE)], mx.cpu())


def test_export_of_a_detector(tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path) -> None:
    run, images = write_run(tmp_path / "run", *tiny_detector), image_files[:3]
    options = ["--shared-bits", "5", "--huffman", "--images", *images]
    assert main(["export", str(run), "--output", str(tmp_path / "e"), *options]) == 0
    sidecar = json.loads((tmp_path / "e" / "run.json").read_text())
    assert set(sidecar["files"]) == {"shared_symbol", "shared_params"}
    assert (sidecar["shared"]["bits"], sidecar["shared"]["huffman"]) == (5, True)
    assert sidecar["parity"]["shared"]["cosine"] > 0.9
    stored = load_file(tmp_path / "e" / "run-shared.safetensors")
    shapes = {key[len("shape/") :]: shape for key, shape in stored.items() if key.startswith("shape/")}
    arrays = inference_graph(*tiny_detector)[1]
    assert len(shapes) == sum(value.ndim == 4 for value in arrays.values())
    for name, shape in shapes.items():
        assert len(stored[f"values/{name}"]) <= (32 if np.prod(shape[1:]) >= 64 else 256)
    whole = sum(4 * value.size for value in arrays.values())
    assert sidecar["files"]["shared_params"]["bytes"] < whole / 4
    assert main(["detect", str(tmp_path / "e"), images[0], "--engine", "mxnet-shared"]) == 0
    assert main(["detect", str(tmp_path / "e"), images[0], "--engine", "mxnet-int8"]) != 0


@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2"])
def test_export_of_a_classifier(network: str, image_files: List[str], tmp_path: Path) -> None:
    net, spec = make_classifier(network)
    options = ExportOptions(shared_bits=8, pixels=network == "mobilenet_v1")
    export_network(net, spec, tmp_path / "e", image_files, "pets", options)
    arrays = read_shared(tmp_path / "e" / "pets-shared.safetensors")
    assert {value.ndim for value in arrays.values()} >= {1, 4}
    loaded = load_export(tmp_path / "e", "classification", mx.cpu())
    assert loaded
    images = [make_image(i, *spec.size) for i in range(2)]
    x = mx.nd.array(to_network_input(images))
    expected = mx.nd.softmax(net(x)).asnumpy()
    np.testing.assert_allclose(loaded.engine(images)[0], expected, atol=0.05)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"shared_bits": 3}, "shared_bits"), ({"shared_bits": 9}, "shared_bits"),
        ({"shared_bits": 5, "format": "symbol"}, "shared"), ({"huffman": True, "format": "onnx"}, "shared"),
        ({"huffman": True, "fp16_weights": True}, "symbol"),
    ],
)  # fmt: skip
def test_options_that_do_not_apply_are_named(options: Dict[str, Any], named: str) -> None:
    with pytest.raises((ValueError, OptionError), match=named):
        ExportOptions(**options)


@pytest.mark.parametrize(
    ("options", "formats"),
    [
        ({}, ("symbol",)), ({"shared_bits": 4}, ("shared",)), ({"huffman": True}, ("shared",)),
        ({"format": "symbol,shared", "shared_bits": 6}, ("symbol", "shared")),
        ({"format": "shared"}, ("shared",)),
    ],
)  # fmt: skip
def test_format_follows_the_options(options: Dict[str, Any], formats: Tuple[str, ...]) -> None:
    assert ExportOptions(**options).format == formats
