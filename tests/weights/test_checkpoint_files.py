"""Checkpoints as training scripts and exporters write them: containers, types, prefixes and wrappers."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Dict

import mxnet as mx
import numpy as np
import pytest
from helpers.checkpoint_files import (
    Arrays,
    cast,
    few_arrays,
    prefixed,
    training_state,
    write_params,
    write_safetensors,
)  # fmt: skip
from helpers.checkpoint_names import filled, make_first_expansion_an_identity, named, torchvision_names
from helpers.networks import values
from helpers.torch_files import as_module, pickled, tensors, write_legacy, write_zip

from mnssd.nn import SSD, MobileNetV1, MobileNetV2
from mnssd.runtime.settings import wait_all
from mnssd.weights import load_backbone, read_weights
from mnssd.weights.conversion import convert

pytestmark = pytest.mark.usefixtures("torch_names")

DTYPES = ("float32", "float16", "bfloat16", "float64")
PREFIXES = (
    "", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.",
    "model.backbone.", "module.model.encoder.",
)  # fmt: skip


def write_tensors(write: Callable[[Path, Any], str]) -> Callable[[Path, Arrays], str]:
    return lambda path, arrays: write(path, tensors(arrays))


def assert_same(path: str, expected: Arrays) -> None:
    result = read_weights(path).arrays
    expected = {name: value for name, value in expected.items() if "num_batches" not in name}
    assert sorted(result) == sorted(expected), path
    for name, value in expected.items():
        assert result[name].dtype == np.float32
        np.testing.assert_array_equal(result[name], value)


# ---- containers, types, prefixes, wrappers -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "write", [write_tensors(write_zip), write_tensors(write_legacy), write_safetensors, write_params],
    ids=["zip", "legacy", "safetensors", "params"],
)  # fmt: skip
def test_all_containers_types_and_prefixes(
    write: Callable[[Path, Arrays], str], dtype: str, tmp_path: Path
) -> None:
    arrays = few_arrays()
    for prefix in PREFIXES:
        assert_same(write(tmp_path / "x.bin", prefixed(cast(arrays, dtype), prefix)), arrays)


def wrapped(right: Any, wrong: Any) -> Dict[str, Any]:
    """Checkpoints with the network `right`, and some with a network that is not to be loaded beside it."""
    state, average = training_state(), {"n_averaged": right["n_averaged"]}
    prefixed_right = {f"module.{name}": value for name, value in right.items() if name != "n_averaged"}
    right = OrderedDict((name, value) for name, value in right.items() if name != "n_averaged")
    return {
        "torchvision": {"model": wrong, "model_ema": {**average, **prefixed_right}, **state},
        "timm": {"state_dict": wrong, "state_dict_ema": right, "version": 2, **state},
        "nested": {"model": wrong, "model_ema": {**average, "module": right}, **state},
        "ema": {"model": wrong, "ema": right},
        "no ema": {"model": right, "ema": None, **state},
        "module": as_module(right),
        "modules": {"model": as_module(wrong), "ema": as_module(right), "updates": 3},
        "module in attributes": {"trainer": argparse.Namespace(net=as_module(right), lr=0.1)},
        "lightning": {"state_dict": {f"model.{k}": v for k, v in right.items()}, "loops": {}, **state},
        "lightning ema": {"state_dict": {**prefixes(wrong, "model."), **prefixes(right, "ema_model.")}},
        "parts": {part: prefixes_of(right, part) for part in ("features", "classifier")},
        "unknown key": {"best_so_far": right, **state},
        "twice": {**prefixes(right, "net."), **prefixes(right, "compiled._orig_mod.")},
        **{
            key: {key: right, **state}
            for key in ("state_dict", "model", "model_state_dict", "net", "network", "weights", "module")
        },
    }


def prefixes(arrays: Dict[str, Any], prefix: str) -> Dict[str, Any]:
    return {prefix + name: value for name, value in arrays.items()}


def prefixes_of(arrays: Dict[str, Any], part: str) -> Dict[str, Any]:
    return {name[len(part) + 1 :]: v for name, v in arrays.items() if name.startswith(f"{part}.")}


@pytest.mark.parametrize("write", [write_zip, write_legacy], ids=["zip", "legacy"])
def test_all_wrappers(write: Callable[[Path, Any], str], tmp_path: Path) -> None:
    arrays, wrong = few_arrays(), few_arrays(1)
    right = tensors({**arrays, "n_averaged": np.array(9, np.int64)})
    for name, content in wrapped(right, tensors(wrong, first_key=100)).items():
        path = write(tmp_path / f"{name}.pth", content)
        assert read_weights(path).arrays.keys() == {n for n in arrays if "num_batches" not in n}, name
        assert_same(path, arrays)


@pytest.mark.parametrize("write", [write_zip, write_legacy], ids=["zip", "legacy"])
def test_lists_and_tuples_with_a_network(write: Callable[[Path, Any], str], tmp_path: Path) -> None:
    arrays = few_arrays()
    network = tensors(arrays)
    for content in (
        (network, 3),
        [training_state(), network],
        ({"model": network}, "x"),
        [as_module(network)],
    ):
        assert_same(write(tmp_path / "x.pth", content), arrays)


def test_newer_pickles(tmp_path: Path) -> None:
    arrays = few_arrays()
    for protocol in (3, 4, 5):
        content = {"model": tensors(arrays), **training_state()}
        found: Dict[str, Any] = {}
        program = pickled(content, found=found, protocol=protocol)
        path = write_zip(tmp_path / "new.pth", program)
        with zipfile.ZipFile(path, "a") as archive:
            for key, storage in found.items():
                archive.writestr(f"archive/data/{key}", storage.values.tobytes())
        assert_same(path, arrays)


def test_every_length_of_a_safetensors_header(tmp_path: Path) -> None:
    """The length comes first in the file."""
    arrays = few_arrays()
    path = tmp_path / "x.safetensors"
    shortest = int.from_bytes(Path(write_safetensors(path, arrays)).read_bytes()[:8], "little")
    # By chance the first bytes are those of a zip file, a pickle of protocol 2 or 4, an MXNet file.
    lengths = [*range(shortest, shortest + 256), 0x4B50, 0x1280, 0x1480]
    for length in lengths:
        assert_same(write_safetensors(path, arrays, length), arrays)
    assert {length % 256 for length in lengths} == set(range(256))


def test_checksums_that_pytorch_was_told_not_to_write(tmp_path: Path) -> None:
    path = Path(write_zip(tmp_path / "x.pth", tensors(few_arrays())))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        for match in re.finditer(re.escape(signature), bytes(data)):
            data[match.start() + offset : match.start() + offset + 4] = bytes(4)
    path.write_bytes(data)
    assert_same(str(path), few_arrays())


# ---- whole networks ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> MobileNetV2:
    net = filled(MobileNetV2(0.25, classes=10))
    make_first_expansion_an_identity(net)
    return net


def tonylins_names(arrays: Arrays, has_expansion: bool) -> Arrays:
    """From torchvision's names; with the expansion in the first block that the first version had."""
    inner = {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7}
    first = {"0.0": 0, "0.1": 1, "1": 3, "2": 4}
    renamed: Arrays = {}
    for name, value in arrays.items():
        match = re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", name)
        if match is None:
            renamed[name] = value
        else:
            index = first[match[2]] + 3 * has_expansion if match[1] == "1" else inner[match[2]]
            renamed[f"features.{match[1]}.conv.{index}.{match[3]}"] = value
    if has_expansion:
        channels = renamed["features.1.conv.3.weight"].shape[0]
        one = np.ones(channels, np.float32)
        renamed["features.1.conv.0.weight"] = np.eye(channels, dtype=np.float32)[:, :, None, None]
        bn = {"weight": one * np.sqrt(1 + 1e-5), "bias": 0 * one, "running_mean": 0 * one, "running_var": one}
        renamed.update({f"features.1.conv.1.{key}": v.astype(np.float32) for key, v in bn.items()})
    return renamed


def d_li14_names(arrays: Arrays) -> Arrays:
    names = {"features.18.": "conv.", "classifier.1.": "classifier."}
    renamed = tonylins_names(arrays, has_expansion=False)
    for old, new in names.items():
        renamed = {name.replace(old, new): value for name, value in renamed.items()}
    return renamed


def assert_same_network(net: Any, path: str) -> None:
    """The arrays of the file, converted, must be those of the network."""
    converted, _ = convert(read_weights(path).arrays)
    expected = values(net)
    assert set(converted) - {"output.0.bias"} == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(converted[name], value, rtol=1e-6, err_msg=name)


def test_same_logits(network: MobileNetV2, tmp_path: Path) -> None:
    arrays = named(network, torchvision_names(), skip_expansion=True)
    content = {"model_ema": tensors(prefixed(arrays, "module.")), **training_state()}
    fresh = MobileNetV2(0.25, classes=10)
    fresh.initialize()
    load_backbone(fresh, write_legacy(tmp_path / "x.pth", content))
    x = mx.nd.array(np.random.default_rng(1).normal(size=(1, 3, 64, 64)))
    np.testing.assert_allclose(fresh(x).asnumpy(), network(x).asnumpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "rename",
    [
        lambda arrays: tonylins_names(arrays, True), lambda arrays: tonylins_names(arrays, False),
        d_li14_names, lambda arrays: prefixed(arrays, "model."),
    ],
    ids=["tonylins", "tonylins without expansion", "d-li14", "torchvision in a module"],
)  # fmt: skip
def test_names_of_v2(network: MobileNetV2, rename: Callable[[Arrays], Arrays], tmp_path: Path) -> None:
    arrays = rename(named(network, torchvision_names(), skip_expansion=True))
    assert_same_network(
        network, write_zip(tmp_path / "x.pth", {"state_dict": tensors(arrays), **training_state()})
    )


@pytest.mark.parametrize("network_class", [MobileNetV1, MobileNetV2])
def test_all_files_of_gluon(network_class: Any, tmp_path: Path) -> None:
    """The names that `export` and `collect_params` write depend on how many networks the process has."""
    net = filled(network_class(0.25, classes=10))
    net.hybridize()
    net(mx.nd.zeros((1, 3, 64, 64)))
    wait_all()
    net.save_parameters(str(tmp_path / "structure.params"))
    net.collect_params().save(str(tmp_path / "names.params"))
    net.collect_params().save(str(tmp_path / "stripped.params"), strip_prefix=net.prefix)
    net.export(str(tmp_path / "exported"))
    for name in ("structure.params", "names.params", "stripped.params", "exported-0000.params"):
        assert_same_network(net, str(tmp_path / name))


@pytest.mark.parametrize("prefix", ["module.model.", "base_net."])
def test_names_of_v1(prefix: str, tmp_path: Path) -> None:
    """marvis' classifier, and the backbone of qfgaohao's detector, whose pixels are normalized otherwise."""
    net = filled(MobileNetV1(0.25, classes=10))
    layers = ["0.0", "0.1", *(f"{block}.{inner}" for block in range(1, 14) for inner in (0, 1, 3, 4))]
    is_classifier = prefix.startswith("module")
    arrays = named(net, [*(prefix + layer for layer in layers), "module.fc"], skip_expansion=False)
    if not is_classifier:
        arrays = {name: value for name, value in arrays.items() if name.startswith(prefix)}
        arrays["extras.0.0.weight"] = np.ones((4, 4, 1, 1), np.float32)
    converted, _ = convert(read_weights(write_legacy(tmp_path / "x.pth", tensors(arrays))).arrays)
    changed = set() if is_classifier else {"features.0.weight", "features.1.running_mean"}
    for name, value in values(net).items():
        if is_classifier or not name.startswith("output."):
            assert np.array_equal(converted[name], value) == (name not in changed), name
    assert ("extras.0.0.weight" in converted) != is_classifier


def test_names_of_a_detector_of_gluon(tmp_path: Path) -> None:
    """The heads count their convolutions in names like the backbone's."""
    net = SSD(MobileNetV1(0.25, 1), ["a"], (96, 96))
    net.initialize()
    net(mx.nd.zeros((1, 3, 96, 96)))
    path = str(tmp_path / "detector.params")
    net.collect_params().save(path)
    converted, _ = convert(read_weights(path).arrays)
    for name, value in values(net.heads.backbone).items():
        np.testing.assert_array_equal(converted[name], value)


def test_arrays_of_old_versions_of_mxnet(tmp_path: Path) -> None:
    """Before MXNet 1.0 an array had no storage type, before 0.11 32-bit extents and no magic number."""
    value = np.arange(6, dtype="<f4").reshape(2, 3)
    rest = np.array([1, 0, 0], "<i4").tobytes() + value.tobytes()
    headers = {
        "v1": np.array([0xF993FAC8, 2], "<u4").tobytes() + np.array([2, 3], "<i8").tobytes(),
        "v0": np.array([2, 2, 3], "<u4").tobytes(),
    }
    for version, header in headers.items():
        names = np.array([1, 1], "<u8").tobytes() + b"w"
        data = np.array([0x112, 0, 1], "<u8").tobytes() + header + rest + names
        path = tmp_path / version
        path.write_bytes(data)
        np.testing.assert_array_equal(mx.nd.load(str(path))["w"].asnumpy(), value)
        np.testing.assert_array_equal(read_weights(str(path)).arrays["w"], value)


@pytest.mark.parametrize(
    ("rename", "mean", "std"),
    [
        (lambda arrays: prefixed(arrays, "backbone."), np.array([123, 117, 104]) / 255, 1 / 255),
        (
            lambda arrays: {
                name.replace("features.", "base_net."): v for name, v in tonylins_names(arrays, False).items()
            },
            127 / 255,
            128 / 255,
        ),
    ],
    ids=["lufficc", "qfgaohao"],
)
def test_backbone_of_a_detector(
    network: MobileNetV2, rename: Callable[[Arrays], Arrays], mean: Any, std: Any, tmp_path: Path
) -> None:
    """Their pixels are normalized in another way."""
    arrays = named(network, torchvision_names(), skip_expansion=True)
    arrays = {name: value for name, value in arrays.items() if "classifier" not in name}
    others = {"backbone.extras.0.conv.0.0.weight": 4, "box_head.predictor.cls_headers.0.0.bias": 3}
    extra = {name: np.ones(size, np.float32) for name, size in others.items()}
    path = write_legacy(tmp_path / "ssd.pth", {"model": tensors({**rename(arrays), **extra})})
    fresh = MobileNetV2(0.25, classes=10)
    fresh.initialize()
    report = load_backbone(fresh, path)
    assert report.missing == ["output.0.weight"]
    assert report.unused == list(extra)
    pixels = np.random.default_rng(1).uniform(0, 1, (1, 64, 64, 3))
    ours = (pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    first, second = (
        net.features[1](net.features[0](mx.nd.array(x.transpose(0, 3, 1, 2)))).asnumpy()
        for net, x in ((fresh, ours), (network, (pixels - mean) / std))
    )
    scale = np.abs(second).max()
    np.testing.assert_allclose(first[:, :, 1:, 1:], second[:, :, 1:, 1:], rtol=1e-3, atol=1e-5 * scale)
