"""Checkpoints as training scripts and exporters write them: containers, types, prefixes and wrappers."""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import re
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any, Callable, Dict

import mxnet as mx
import numpy as np
import pytest
from helpers.checkpoint_names import filled, make_first_expansion_an_identity, named, torchvision_names
from helpers.networks import values
from helpers.torch_files import Module, as_module, pickled, tensors, write_legacy, write_zip
from safetensors.numpy import save_file

from mnssd.errors import WeightsError
from mnssd.nn import SSD, MobileNetV1, MobileNetV2
from mnssd.runtime.settings import wait_all
from mnssd.weights import load_backbone, read_weights
from mnssd.weights.conversion import convert

pytestmark = pytest.mark.usefixtures("torch_names")

Arrays = Dict[str, np.ndarray]
DTYPES = ("float32", "float16", "bfloat16", "float64")
PREFIXES = (
    "", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.",
    "model.backbone.", "module.model.encoder.",
)  # fmt: skip


def few_arrays(seed: int = 0) -> Arrays:
    """Some of torchvision's arrays, in a few bytes; values that bfloat16 can hold."""
    shapes = {
        "features.0.0.weight": (4, 3, 3, 3), "features.0.1.weight": (4,), "features.0.1.running_mean": (4,),
        "features.1.conv.0.0.weight": (4, 1, 3, 3), "features.2.conv.1.0.weight": (6, 1, 3, 3),
        "classifier.1.weight": (5, 6), "classifier.1.bias": (5,),
    }  # fmt: skip
    rng = np.random.default_rng(seed)
    arrays = {name: rng.integers(-9, 9, shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    return {**arrays, "features.0.1.num_batches_tracked": np.array(7, np.int64)}


def cast(arrays: Arrays, dtype: str) -> Arrays:
    """In another type; bfloat16 as its bits, as the writers below expect them."""

    def one(value: np.ndarray) -> np.ndarray:
        if value.dtype.kind != "f":
            return value
        return (value.view("<u4") >> 16).astype("<u2") if dtype == "bfloat16" else value.astype(dtype)

    return {name: one(np.ascontiguousarray(value)) for name, value in arrays.items()}


def prefixed(arrays: Arrays, prefix: str) -> Arrays:
    return {prefix + name: value for name, value in arrays.items()}


def write_safetensors(path: Path, arrays: Arrays, header_length: int = 0) -> str:
    """By hand: the library's writer has no bfloat16 of NumPy, and pads headers as it likes."""
    types = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "<i8": "I64", "<u2": "BF16"}
    header: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in arrays.items():
        start, end = end, end + value.nbytes
        header[name] = {"dtype": types[value.dtype.str], "shape": value.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode().ljust(header_length)
    data = b"".join(value.tobytes() for value in arrays.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return str(path)


def write_params(path: Path, arrays: Arrays) -> str:
    def one(value: np.ndarray) -> Any:
        if value.dtype != np.uint16:
            return mx.nd.array(value, dtype=value.dtype)
        wide = mx.nd.array((value.astype("<u4") << 16).view("<f4"))
        return mx.nd.amp_cast(wide, dtype=np.dtype([("bfloat16", np.uint16)]))

    mx.nd.save(str(path), {name: one(value) for name, value in arrays.items()})
    return str(path)


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


def training_state() -> Dict[str, Any]:
    """What training scripts save beside the network, optimizer states among it."""
    momentum = tensors({"momentum_buffer": np.ones(7, np.float32)}, first_key=900)
    return {
        "epoch": 3,
        "args": argparse.Namespace(model="mobilenet_v2", lr=0.1, output=Path("runs")),
        "optimizer": {"state": {0: {"step": 5, **momentum}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "lr_scheduler": {"milestones": defaultdict(int, {3: 1}), "last": np.float64(0.5)},
        "history": [np.float32(1), np.arange(3.0), {1, 2}],
        "when": datetime.date(2020, 1, 2),
    }


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


# ---- refusals ----------------------------------------------------------------------------------------------


def other_files(folder: Path) -> Dict[str, bytes]:
    """Sound files of other kinds, and what the message must name."""
    plain = tensors(few_arrays())
    contents = {
        "optimizer.pth": training_state()["optimizer"],
        "no_network.pth": {"epoch": 3, "args": argparse.Namespace(lr=1)},
        "list.pth": list(plain.values()),
        "numpy.pth": few_arrays(),
        "number.pth": 3,
        "two.pth": {"generator": plain, "discriminator": tensors(few_arrays(1), first_key=50)},
        "int8.pth": tensors({"features.0.0.weight": np.ones((4, 3, 3, 3), np.int8)}),
    }
    for name, content in contents.items():
        write_zip(folder / name, content)
        write_legacy(folder / f"old_{name}", content)
    for name, member in (
        ("script.pt", "script/code/__torch__.py"),
        ("exported.pt2", "e/models/model.json"),
        ("model.keras", "model.weights.h5"),
        ("arrays.npz", "a.npy"),
        ("other.zip", "b.txt"),
    ):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(member, "x")
    with tarfile.open(folder / "x.tar", "w") as archive:
        archive.add(folder / "list.pth", "list.pth")
    for name, data in {
        "weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(99), "empty.pth": b"", "x.pth.gz": gzip.compress(b"x"),
        "page.pth": b"\n<!DOCTYPE html>", "pointer.pth": b"version https://git-lfs.github.com/spec/v1\n",
        "model.ckpt.index": bytes(99), "model.ckpt.data-00000-of-00001": bytes(99),
        "net.onnx": b"\x08\x07", "net.pb": b"\n", "net.tflite": b"\x1c\0\0\0TFL3",
        "net.json": b'{"nodes": []}', "checkpoint": b"model_checkpoint_path: x",
        "last.ckpt": b"mnssd checkpoint 1\n" + bytes(99), "x.pkl": b"\x80\x03}.",
    }.items():  # fmt: skip
        (folder / name).write_bytes(data)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_other_files_are_refused_by_kind(tmp_path: Path) -> None:
    """Each is named, no two kinds with the same words, and none is called damaged."""
    messages = {}
    for name in other_files(tmp_path):
        with pytest.raises(WeightsError, match=re.escape(str(tmp_path / name))) as caught:
            read_weights(str(tmp_path / name))
        messages[name] = str(caught.value).replace(str(tmp_path / name), "")
        assert "damaged" not in messages[name], name
    assert len({m for name, m in messages.items() if not name.startswith("old_")}) >= len(messages) / 2
    for name in [name for name in messages if name.startswith("old_")]:
        assert messages[name] == messages[name[len("old_") :]]


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.params").write_bytes(b"")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    (tmp_path / "model.ckpt.index").write_bytes(b"")
    for name, way_out in (("run", "best.params"), ("saved", ""), ("model.ckpt", ""), ("absent", "")):
        with pytest.raises(WeightsError, match=f"{re.escape(str(tmp_path / name))}.*{way_out}"):
            read_weights(str(tmp_path / name))


def test_incomplete_files_are_refused(tmp_path: Path) -> None:
    paths = [
        write_zip(tmp_path / "a.pth", tensors(few_arrays())),
        write_legacy(tmp_path / "b.pth", tensors(few_arrays())),
        write_safetensors(tmp_path / "c.safetensors", few_arrays()),
        write_params(tmp_path / "d.params", few_arrays()),
    ]
    for path in paths:
        whole = Path(path).read_bytes()
        for length in (10, 100, len(whole) // 2, len(whole) - 1):
            Path(path).write_bytes(whole[:length])
            with pytest.raises(WeightsError, match=re.escape(path)):
                read_weights(path)


def test_deep_and_shared_structures_end(tmp_path: Path) -> None:
    """Small files whose content refers to itself many times over."""
    shared: Any = {}
    for _ in range(40):
        shared = {"a": shared, "b": shared, "c": shared}
    module = Module()
    for _ in range(40):
        parent = Module()
        parent._modules.update(a=module, b=module)
        module = parent
    loop: Dict[str, Any] = {}
    loop["model"] = loop
    for content in (shared, module, loop, {"model": module, "x": shared}):
        with pytest.raises(WeightsError, match=r"deep\.pth"):
            read_weights(write_zip(tmp_path / "deep.pth", content))


def test_views_of_one_storage_are_limited(tmp_path: Path) -> None:
    """Thousands of views would take far more memory than the file has bytes."""
    tensor = tensors({"w": np.ones(100_000, np.float32)})["w"]
    tied = {f"layer{i}.weight": tensor for i in range(3)}
    assert len(read_weights(write_zip(tmp_path / "tied.pth", tied)).arrays) == 3
    many = {f"layer{i}.weight": tensor for i in range(3000)}
    with pytest.raises(WeightsError, match=r"many\.pth"):
        read_weights(write_zip(tmp_path / "many.pth", many))


def test_other_arrays_of_a_file_are_noted(tmp_path: Path) -> None:
    arrays = {**prefixed(few_arrays(), "model."), "criterion.weight": np.ones(3, np.float32)}
    save_file(arrays, str(tmp_path / "x.safetensors"))
    weights = read_weights(str(tmp_path / "x.safetensors"))
    assert "criterion.weight" not in weights.arrays
    assert "criterion.weight" in weights.notes[0]
