"""State dicts of PyTorch, written here byte for byte as PyTorch writes them, and hostile ones."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mnssd import zoo
from mnssd.data.image import IMAGENET_MEAN, IMAGENET_STD
from mnssd.errors import WeightsError
from mnssd.nn import MobileNetV1, MobileNetV2
from mnssd.tasks.detection import detector_spec
from mnssd.train.options import resolve_detection
from mnssd.weights import load_backbone, read_params
from mnssd.weights.conversion import convert
from mnssd.weights.state_dict import read_state_dict

STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint16": "BFloat16Storage",
}


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that PyTorch's pickles mention, so that a pickle can be written which mentions them."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(module, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*args: Any) -> None:
        raise AssertionError("nothing in a file is to be called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


class Storage:
    def __init__(self, key: str, values: np.ndarray) -> None:
        self.key, self.values = key, values


class Tensor:
    """Pickled as PyTorch pickles one."""

    def __init__(
        self, storage: Storage, offset: int, shape: Tuple[int, ...], strides: Tuple[int, ...]
    ) -> None:
        self.parts = (storage, offset, shape, strides)

    def __reduce__(self) -> Any:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2  # type: ignore[attr-defined]
        return rebuild, (*self.parts, False, OrderedDict())


def tensors(arrays: Dict[str, np.ndarray]) -> OrderedDict[str, Tensor]:
    found: OrderedDict[str, Tensor] = OrderedDict()
    for number, (name, array) in enumerate(arrays.items()):
        array = array.copy()  # contiguous
        strides = tuple(step // array.itemsize for step in array.strides)
        found[name] = Tensor(Storage(str(number), array), 0, array.shape, strides)
    return found


def pickled(value: Any, legacy: bool = False) -> bytes:
    target = io.BytesIO()
    pickler = pickle.Pickler(target, protocol=2)

    def persistent_id(item: Any) -> Any:
        if not isinstance(item, Storage):
            return None
        kind = getattr(sys.modules["torch"], STORAGES[str(item.values.dtype)])
        rest = (None,) if legacy else ()
        return ("storage", kind, item.key, "cpu", item.values.size, *rest)

    pickler.persistent_id = persistent_id  # type: ignore[method-assign]
    pickler.dump(value)
    return target.getvalue()


def storages_of(value: Any) -> List[Storage]:
    if isinstance(value, Tensor):
        return [value.parts[0]]
    if not isinstance(value, dict):
        return []
    return list({s.key: s for item in value.values() for s in storages_of(item)}.values())


def write_zip(path: Path, value: Any, compression: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", value if isinstance(value, bytes) else pickled(value))
        archive.writestr("archive/byteorder", "little")
        for storage in storages_of(value):
            archive.writestr(f"archive/data/{storage.key}", storage.values.tobytes())
        archive.writestr("archive/version", "3\n")
    return str(path)


def write_legacy(path: Path, value: Any) -> str:
    storages = storages_of(value)
    parts = [pickled(item) for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [pickled(value, legacy=True), pickled([storage.key for storage in storages])]
    parts += [struct.pack("<q", s.values.size) + s.values.tobytes() for s in storages]
    path.write_bytes(b"".join(parts))
    return str(path)


def arrays_of(seed: int = 0) -> Dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "b.weight": rng.normal(size=5).astype(np.float32),
    }


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_both_forms_are_read(write: Callable[[Path, Any], str], tmp_path: Path) -> None:
    arrays = arrays_of()
    plain = read_state_dict(write(tmp_path / "plain.pth", tensors(arrays)))
    wrapped = {"epoch": 3, "lr": 0.1, "state_dict": tensors({f"module.{k}": v for k, v in arrays.items()})}
    for found in (plain, read_state_dict(write(tmp_path / "wrapped.pth", wrapped))):
        assert list(found) == list(arrays)
        for name, value in arrays.items():
            np.testing.assert_array_equal(found[name], value)


def test_types_views_and_safetensors(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32)
    shared = Storage("0", values)
    found = read_state_dict(write_zip(tmp_path / "iter_frames.pth", OrderedDict(
        row=Tensor(shared, 4, (4,), (1,)), transposed=Tensor(shared, 0, (4, 3), (1, 4)),
        empty=Tensor(shared, 0, (0,), (1,)), one=Tensor(shared, 11, (), ()),
    )))  # fmt: skip
    np.testing.assert_array_equal(found["row"], values[4:8])
    np.testing.assert_array_equal(found["transposed"], values.reshape(3, 4).T)
    assert found["empty"].shape == (0,)
    assert found["one"] == 11
    brain = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    many = {"half": np.array([0.5], np.float16), "count": np.array(7, np.int64), "brain": brain}
    found = read_state_dict(write_zip(tmp_path / "types.pth", tensors(many)))
    assert [found[name].dtype for name in many] == [np.float32, np.int64, np.float32]
    np.testing.assert_array_equal(found["brain"], [1.5, -2.0])
    save_file(arrays_of(), str(tmp_path / "x.safetensors"))
    np.testing.assert_array_equal(read_state_dict(str(tmp_path / "x.safetensors"))["a"], arrays_of()["a"])


class Attack:
    """Runs a command when it is unpickled as usual."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_nothing_in_a_file_is_run(write: Callable[[Path, Any], str], tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for value in ({"a": Attack(marker)}, {"state_dict": tensors(arrays_of()), "epoch": Attack(marker)}):
        pickle.loads(pickle.dumps(value["a"] if "a" in value else value["epoch"]))
        assert marker.exists()  # the attack is one
        marker.unlink()
        with pytest.raises(WeightsError, match=r"it asks for \w+\.system"):
            read_state_dict(write(tmp_path / "bad.pth", value))
        assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        b"\x80\x02r\xff\xff\xff\x7f.",  # room for two thousand million memories
        b"\x80\x02]\xff.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02K\x01.",
        b"\x80\x02}.",
        b"\x80\x02cgetattr\n__builtins__\n.",
        b"",
    ],
)
def test_hostile_programs(program: bytes, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="load another copy"):
        read_state_dict(write_zip(tmp_path / "bad.pth", program))
    (tmp_path / "legacy.pth").write_bytes(program)
    with pytest.raises(WeightsError, match="load another copy"):
        read_state_dict(str(tmp_path / "legacy.pth"))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(9, (4,), (1,)), (0, (3, 5), (5, 1)), (0, (13,), (0,)), (-1, (2,), (1,)), (0, (2,), (-1,)),
     (0, (2, 2), (1,)), (0, (10**9, 10**9), (0, 0)), (0, (1,) * 40, (1,) * 40)],
)  # fmt: skip
def test_tensors_beyond_their_storage(offset: int, shape: Any, strides: Any, tmp_path: Path) -> None:
    tensor = Tensor(Storage("0", np.arange(12, dtype=np.float32)), offset, shape, strides)
    with pytest.raises(WeightsError):
        read_state_dict(write_zip(tmp_path / "bad.pth", {"a": tensor}))


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bomb.pth", tensors({"a": np.zeros(10**6, np.float32)}), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="compressed"):
        read_state_dict(path)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state_dict(str(tmp_path / "none.pth"))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_are_refused_or_read(data: st.DataObject, tmp_path: Path) -> None:
    kind = data.draw(st.sampled_from(["zip", "legacy", "safetensors"]))
    path = tmp_path / kind
    if kind == "safetensors":
        save_file(arrays_of(), str(path))
    else:
        (write_zip if kind == "zip" else write_legacy)(path, tensors(arrays_of()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        found = read_state_dict(str(path))
    except WeightsError:
        return
    assert all(isinstance(value, np.ndarray) for value in found.values())


# ---- names -------------------------------------------------------------------------------------------------


def filled(net: Any, seed: int = 0) -> Any:
    """With parameters and statistics that are all different; returns what it answers, too."""
    net.initialize()
    net(mx.nd.zeros((1, 3, 64, 64)))
    rng = np.random.default_rng(seed)
    for name, parameter in net._collect_params_with_prefix().items():
        low, high = (0.5, 1.5) if name.endswith(("gamma", "running_var")) else (-0.3, 0.3)
        scale = 1.0 if parameter.data().ndim == 1 else 2.0 / np.sqrt(np.prod(parameter.shape[1:]) * 0.03)
        parameter.set_data(mx.nd.array(rng.uniform(low, high, parameter.shape) * scale))
    mx.nd.waitall()
    return net


def values(net: Any) -> Dict[str, np.ndarray]:
    mx.nd.waitall()
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


def pass_on_in_the_first_bottleneck(net: Any) -> None:
    """Make its expansion what a network without it has: nothing."""
    out = net.features[3].out
    channels = out[0].weight.shape[0]
    out[0].weight.set_data(mx.nd.array(np.eye(channels).reshape(channels, channels, 1, 1)))
    for parameter, value in (
        (out[1].gamma, 1.0),
        (out[1].beta, 0),
        (out[1].running_mean, 0),
        (out[1].running_var, 1),
    ):
        parameter.set_data(mx.nd.full(parameter.shape, value))
    out[1].gamma.set_data(out[1].gamma.data() * np.sqrt(1 + 1e-5))


def layers_in_order(
    arrays: Dict[str, np.ndarray], skip_expansion: bool
) -> List[Tuple[str, Dict[str, np.ndarray]]]:
    """Convolutions and BatchNorms as they follow each other, with PyTorch's names for what is in them."""
    found: Dict[str, Dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        layer, _, what = name.rpartition(".")
        if skip_expansion and layer in ("features.3.out.0", "features.3.out.1"):
            continue
        found.setdefault(layer, {})[{"gamma": "weight", "beta": "bias"}.get(what, what)] = value
    for parts in found.values():
        if "running_var" in parts:
            parts["num_batches_tracked"] = np.array(7, np.int64)
    return list(found.items())


def torchvision_names() -> List[str]:
    """Of `torchvision.models.mobilenet_v2`, layer by layer: a list written down from its documentation."""
    names = ["features.0.0", "features.0.1"]
    names += [f"features.1.conv.{inner}" for inner in ("0.0", "0.1", "1", "2")]
    for block in range(2, 18):
        names += [f"features.{block}.conv.{inner}" for inner in ("0.0", "0.1", "1.0", "1.1", "2", "3")]
    return [*names, "features.18.0", "features.18.1", "classifier.1"]


def timm_v2_names() -> List[str]:
    names = ["conv_stem", "bn1", *(f"blocks.0.0.{inner}" for inner in ("conv_dw", "bn1", "conv_pw", "bn2"))]
    for stage, count in enumerate((2, 3, 4, 3, 3, 1), start=1):
        for block in range(count):
            inner = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
            names += [f"blocks.{stage}.{block}.{name}" for name in inner]
    return [*names, "conv_head", "bn2", "classifier"]


def timm_v1_names() -> List[str]:
    names = ["conv_stem", "bn1"]
    for stage, count in enumerate((1, 2, 2, 6, 2)):
        for block in range(count):
            names += [f"blocks.{stage}.{block}.{name}" for name in ("conv_dw", "bn1", "conv_pw", "bn2")]
    return [*names, "classifier"]


def named(net: Any, names: List[str], skip_expansion: bool) -> Dict[str, np.ndarray]:
    layers = layers_in_order(values(net), skip_expansion)
    assert len(layers) == len(names)
    renamed = {f"{name}.{what}": v for name, (_, parts) in zip(names, layers) for what, v in parts.items()}
    last = f"{names[-1]}.weight"
    renamed[last] = renamed[last].reshape(renamed[last].shape[:2])
    return renamed


@pytest.mark.parametrize("names", [torchvision_names, timm_v2_names])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_v2_of_others(names: Callable[[], List[str]], form: str, tmp_path: Path) -> None:
    net = filled(MobileNetV2(0.25, classes=10))
    pass_on_in_the_first_bottleneck(net)
    arrays = named(net, names(), skip_expansion=True)
    arrays[f"{names()[-1]}.bias"] = np.ones(10, np.float32)
    path = tmp_path / form
    if form == "safetensors":
        save_file(arrays, str(path))
    else:
        (write_zip if form == "zip" else write_legacy)(path, tensors(arrays))
    fresh = MobileNetV2(0.25, classes=10)
    fresh.initialize()
    report = load_backbone(fresh, str(path))
    assert report.unused == ["output.0.bias"]  # the zoo's network has none
    assert not report.missing + report.mismatched
    assert "named as by" in "\n".join(report.lines())
    x = mx.nd.array(np.random.default_rng(1).normal(size=(2, 3, 64, 64)))
    np.testing.assert_allclose(fresh(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-5)


def test_v1_of_timm(tmp_path: Path) -> None:
    """timm's V1 wants pixels minus 0.5 over 0.5: what comes of it takes ImageNet's mean and deviation."""
    net = filled(MobileNetV1(0.25, classes=10, activation="relu6"))
    arrays = named(net, timm_v1_names(), skip_expansion=False)
    path = tmp_path / "v1.safetensors"
    save_file(arrays, str(path))
    fresh = MobileNetV1(0.25, classes=10, activation="relu6")
    fresh.initialize()
    report = load_backbone(fresh, str(path))
    assert not report.unused + report.missing + report.mismatched
    assert "--activation relu6" in "\n".join(report.lines())
    pixels = np.random.default_rng(1).uniform(0, 1, (1, 3, 64, 64))
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    ours, theirs = mx.nd.array((pixels - mean) / std), mx.nd.array((pixels - 0.5) / 0.5)
    first, second = (
        part[1](part[0](x)).asnumpy() for part, x in ((fresh.features, ours), (net.features, theirs))
    )
    # Beyond the border stands another colour now; inside nothing may differ.
    np.testing.assert_allclose(first[:, :, 1:, 1:], second[:, :, 1:, 1:], rtol=1e-4, atol=1e-5)
    for name, value in values(net).items():
        if name not in ("features.0.weight", "features.1.running_mean"):
            np.testing.assert_array_equal(values(fresh)[name], value)


def test_zoo_files_without_the_expansion(tmp_path: Path) -> None:
    net = filled(MobileNetV2(0.25, classes=10))
    pass_on_in_the_first_bottleneck(net)
    arrays = {}
    for name, value in values(net).items():
        if name.startswith("features.3.out."):
            place = int(name.split(".")[3]) - 3
            if place < 0:
                continue
            name = ".".join(["features.3.out", str(place), *name.split(".")[4:]])
        arrays[name] = mx.nd.array(value)
    path = str(tmp_path / "short.params")
    mx.nd.save(path, arrays)
    assert read_params(path)["features.3.out.0.weight"].shape == (8, 1, 3, 3)
    fresh = MobileNetV2(0.25, classes=10)
    fresh.initialize()
    report = load_backbone(fresh, path)
    assert not report.unused + report.missing + report.mismatched
    x = mx.nd.array(np.random.default_rng(1).normal(size=(2, 3, 64, 64)))
    np.testing.assert_allclose(fresh(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-5)


def test_what_does_not_belong_is_named(tmp_path: Path) -> None:
    net = filled(MobileNetV2(0.25, classes=10))
    arrays = named(net, torchvision_names(), skip_expansion=True)
    del arrays["features.4.conv.1.1.running_var"]
    arrays["features.5.conv.2.weight"] = arrays["features.5.conv.2.weight"][:, :3]
    arrays["features.40.conv.2.weight"] = np.zeros(3, np.float32)
    arrays["ema.decay"] = np.zeros(3, np.float32)
    fresh = MobileNetV2(0.25, classes=10)
    fresh.initialize()
    report = load_backbone(fresh, write_zip(tmp_path / "odd.pth", tensors(arrays)))
    assert report.missing == ["features.6.out.4.running_var"]
    assert [text.split()[0] for text in report.mismatched] == ["features.7.out.6.weight"]
    assert sorted(report.unused) == ["ema.decay", "features.40.conv.2.weight"]
    with pytest.raises(WeightsError, match="weights of another network"):
        load_backbone(MobileNetV2(0.5), write_zip(tmp_path / "odd.pth", tensors(arrays)))
    resnet = {
        "conv1.weight": np.zeros((4, 3, 7, 7), np.float32),
        "layer1.0.conv1.weight": np.zeros(3, np.float32),
    }
    assert convert(resnet).arrays.keys() == resnet.keys()
    with pytest.raises(WeightsError, match="weights of another network"):
        load_backbone(MobileNetV2(0.25), write_zip(tmp_path / "resnet.pth", tensors(resnet)))


def test_detector_with_relu6(tmp_path: Path) -> None:
    """The option that timm's and TensorFlow's V1 want reaches the network, and is kept with it."""
    options = resolve_detection({"network": "mobilenet_v1", "activation": "relu6", "width": 0.25}, "options").data
    spec = detector_spec(options, ("a", "b"))
    assert spec.as_dict()["activation"] == "relu6"
    plain = resolve_detection({"network": "mobilenet_v1", "width": 0.25}, "options").data
    counts = [
        zoo.build_detector(each).heads(mx.sym.var("data"))[0].tojson().count('"op": "clip"')
        for each in (spec, detector_spec(plain, ("a", "b")))
    ]
    assert counts[0] == counts[1] + 27  # the layers of the backbone; the layers after it have ReLU6 anyway
