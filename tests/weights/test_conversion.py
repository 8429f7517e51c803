"""Checkpoints of torchvision, timm and the Gluon zoo, converted by name."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List

import mxnet as mx
import numpy as np
import pytest
from helpers.checkpoint_names import (
    filled,
    make_first_expansion_an_identity,
    named,
    timm_v1_names,
    timm_v2_names,
    torchvision_names,
)  # fmt: skip
from helpers.networks import values
from helpers.torch_files import tensors, write_legacy, write_zip
from safetensors.numpy import save_file

from mnssd import zoo
from mnssd.data.image import IMAGENET_MEAN, IMAGENET_STD
from mnssd.errors import WeightsError
from mnssd.nn import MobileNetV1, MobileNetV2
from mnssd.nn.backbones import Backbone, Conversion, backbones
from mnssd.tasks.detection import detector_spec
from mnssd.train.options import DetectionTraining
from mnssd.weights import load_backbone, read_params
from mnssd.weights.conversion import convert

pytestmark = pytest.mark.usefixtures("torch_names")


@pytest.mark.parametrize("names", [torchvision_names, timm_v2_names])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_v2_of_torchvision_and_timm(names: Callable[[], List[str]], form: str, tmp_path: Path) -> None:
    net = filled(MobileNetV2(0.25, classes=10))
    make_first_expansion_an_identity(net)
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
    assert report.unused == ["output.0.bias"]  # absent in the Gluon zoo's network
    assert not report.missing + report.mismatched
    assert len(report.notes) == 1
    x = mx.nd.array(np.random.default_rng(1).normal(size=(2, 3, 64, 64)))
    np.testing.assert_allclose(fresh(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-5)


def test_v1_of_timm(tmp_path: Path) -> None:
    """timm normalizes pixels by 0.5 and 0.5; the converted network takes ImageNet's mean and deviation."""
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
    # Padding stands for another color now, so that the first row and column differ.
    np.testing.assert_allclose(first[:, :, 1:, 1:], second[:, :, 1:, 1:], rtol=1e-4, atol=1e-5)
    for name, value in values(net).items():
        if name not in ("features.0.weight", "features.1.running_mean"):
            np.testing.assert_array_equal(values(fresh)[name], value)


def test_gluon_file_without_the_first_expansion(tmp_path: Path) -> None:
    net = filled(MobileNetV2(0.25, classes=10))
    make_first_expansion_an_identity(net)
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


def test_report_lists_odd_arrays(tmp_path: Path) -> None:
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
    with pytest.raises(WeightsError, match=r"odd\.pth"):
        load_backbone(MobileNetV2(0.5), write_zip(tmp_path / "odd.pth", tensors(arrays)))
    resnet = {
        "conv1.weight": np.zeros((4, 3, 7, 7), np.float32),
        "layer1.0.conv1.weight": np.zeros(3, np.float32),
    }
    assert convert(resnet)[0].keys() == resnet.keys()
    with pytest.raises(WeightsError, match=r"resnet\.pth.*conv1\.weight"):
        load_backbone(MobileNetV2(0.25), write_zip(tmp_path / "resnet.pth", tensors(resnet)))


def test_conversion_of_a_new_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    def layer_name(layer: str) -> str:
        return {"stem": "features.0", "norm": "features.1"}[layer]

    conversion = Conversion("toy", lambda arrays: "stem.weight" in arrays, layer_name)
    toy = Backbone("toy", MobileNetV1, (), conversions=(conversion,))
    monkeypatch.setitem(backbones._entries, "toy", toy)
    arrays = {"stem.weight": np.zeros((4, 3, 3, 3)), "norm.weight": np.zeros(4), "norm.bias": np.zeros(4)}
    assert list(convert(arrays)[0]) == ["features.0.weight", "features.1.gamma", "features.1.beta"]


@pytest.mark.parametrize("names", [torchvision_names, timm_v2_names, timm_v1_names])
def test_incomplete_checkpoint_is_reported(names: Callable[[], List[str]], tmp_path: Path) -> None:
    net = filled(MobileNetV1(0.25, 10) if names is timm_v1_names else MobileNetV2(0.25, 10))
    whole = named(net, names(), skip_expansion=names is not timm_v1_names)
    first, norm = next(iter(whole)), f"{names()[1]}.running_mean"
    last = f"{names()[-1]}.weight"
    for change in ({norm: None}, {first: whole[first][0]}, {last: whole[last][None, None]}):
        arrays = {name: change.get(name, value) for name, value in whole.items()}
        report = load_backbone(
            type(net)(0.25, 10),
            write_zip(tmp_path / "odd.pth", tensors({k: v for k, v in arrays.items() if v is not None})),
        )
        assert len(report.missing + report.mismatched) == 1


def test_activation_option_reaches_the_network() -> None:
    """timm's and TensorFlow's MobileNetV1 need ReLU6."""
    options = DetectionTraining.resolve(
        {"network": "mobilenet_v1", "activation": "relu6", "width": 0.25}, "options"
    ).data
    spec = detector_spec(options, ("a", "b"))
    assert spec.as_dict()["activation"] == "relu6"
    plain = DetectionTraining.resolve({"network": "mobilenet_v1", "width": 0.25}, "options").data
    counts = [
        zoo.build_detector(spec).heads(mx.sym.var("data"))[0].tojson().count('"op": "clip"')
        for spec in (spec, detector_spec(plain, ("a", "b")))
    ]
    assert counts[0] == counts[1] + 27  # the backbone's; all other layers have ReLU6 already
