"""Published networks, imported whole: logits equal to those of independent implementations."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Dict, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.timm_networks import TimmNetwork
from PIL import Image
from safetensors.numpy import save_file

from mnssd import zoo
from mnssd.data.image import IMAGENET_MEAN, IMAGENET_STD, to_network_input
from mnssd.errors import OptionError, WeightsError
from mnssd.weights import load_backbone
from mnssd.weights.structure import recognize, variant_for

MEAN, STD = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
HALF = np.full(3, 0.5)

CASES = {
    "mobilenetv2_035": (2, 0.35, {}, {}),
    "mobilenetv2_050": (2, 0.5, {}, {"divisor": 8}),
    "mobilenetv2_075": (2, 0.75, {}, {"divisor": 8}),
    "mobilenetv2_110d": (2, 1.1, {"depth": 1.2}, {"divisor": 8, "depth": 1.2}),
    "mobilenetv2_120d": (2, 1.2, {"depth": 1.4}, {"divisor": 8, "depth": 1.4}),
    "tonylins' 0.1": (2, 0.1, {"divisor": 4}, {"divisor": 4}),
    "mobilenetv1_125": (1, 1.25, {"head": False}, {}),
    "mobilenetv1_100h": (1, 1.0, {"head": True}, {"last_conv": True}),
    "narrow V1": (1, 0.3, {"head": False}, {"divisor": 8}),
}
"""Version, width, further arguments of `TimmNetwork`, expected variant without the bias of V2's output."""


def written(name: str, folder: Path) -> Tuple[TimmNetwork, str, str]:
    """The network, the path of its state dict, and its name here."""
    version, width, details, _ = CASES[name]
    network, path = TimmNetwork(version, width, **details), str(folder / "timm.safetensors")
    save_file(network.arrays, path)
    return network, path, f"mobilenet_v{version}_{width:g}"


@pytest.mark.parametrize("name", CASES)
def test_logits_of_timm(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network, path, ours = written(name, tmp_path)
    version, width, _, variant = CASES[name]
    net = zoo.get_model(ours, classes=10, weights=path)
    assert not caplog.records  # nothing was left out
    pixels = np.random.default_rng(1).uniform(0, 1, (1, 3, 32, 32))
    mean, std = (HALF, HALF) if version == 1 else (MEAN, STD)
    # Around the image is ImageNet's mean color here, see benchmarks/CONVERTED-WEIGHTS.md.
    expected = network.logits(pixels, mean, std, MEAN)
    normalized = (pixels - MEAN.reshape(3, 1, 1)) / STD.reshape(3, 1, 1)
    np.testing.assert_allclose(net(mx.nd.array(normalized)).asnumpy(), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1
    bias = {"output_bias": True} if version == 2 else {}
    assert variant_for(path, f"mobilenet_v{version}", width, 10) == {**variant, **bias}
    features_only = {key: value for key, value in variant.items() if key != "last_conv"}
    assert variant_for(path, f"mobilenet_v{version}", width) == features_only


@pytest.mark.parametrize(("name", "layers"), [("mobilenetv2_110d", 28), ("mobilenetv1_100h", 81)])
def test_detector_gets_all_layers_before_its_taps(name: str, layers: int, tmp_path: Path) -> None:
    """The deeper V2 has its taps elsewhere; the last convolution of timm's V1 is after them."""
    _, path, ours = written(name, tmp_path)
    net = zoo.get_model(f"ssd_96_{ours}", ["a"], weights=path)
    classifier = zoo.get_model(ours, 10, weights=path)
    x = mx.nd.array(np.random.default_rng(1).normal(0, 1, (1, 3, 64, 64)))
    first, second = net.heads.backbone(x)
    assert (first.shape[2:], second.shape[2:]) == ((4, 4), (2, 2))
    expected = classifier.features[:layers](x).asnumpy()
    np.testing.assert_allclose(second.asnumpy(), expected, rtol=1e-4, atol=1e-4)


def test_torchvision_logits(shared: Path) -> None:
    """Stored by benchmarks/torchvision_logits.py."""
    path = shared / "weights" / "mobilenet_v2-b0353104.pth"
    stored = np.load(Path(__file__).parent / "logits.npz")
    net = zoo.get_model("mobilenet_v2", weights=str(path))
    folder = shared / "voc" / "VOCdevkit" / "VOC2007" / "JPEGImages"
    compared = 0
    for name, digest, expected in zip(stored["names"], stored["pixels"], stored["logits"]):
        with Image.open(folder / name) as image:
            pixels = np.array(image.convert("RGB").resize((224, 224), Image.BILINEAR))
        if hashlib.sha256(pixels.tobytes()).hexdigest() != digest:
            continue  # another JPEG decoder
        logits = net(mx.nd.array(to_network_input([pixels]))).asnumpy()[0]
        np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)
        compared += 1
    assert compared >= 10
    assert stored["logits"].shape == (20, 1000)


# ---- what is not loaded ------------------------------------------------------------------------------------


def warnings_of(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(caplog.messages)


@pytest.mark.parametrize(
    ("damage", "left_out", "named"),
    [
        ({"conv_head.weight": None}, True, "features.20.weight"),
        ({"blocks.3.1.bn2.running_var": None}, True, "features.10.out.4.running_var"),
        ({"blocks.3.1.conv_pw.weight": (3, 3, 1, 1)}, True, "features.10.out.0.weight"),
        ({"blocks.2.1.se.conv_reduce.weight": (4, 8, 1, 1)}, True, "blocks.2.1.se.conv_reduce.weight"),
        ({"head.norm.bias": (7,)}, True, "head.norm.bias"),
        ({"ema.decay": (1,)}, False, "ema.decay"),
    ],
)  # fmt: skip
def test_last_layer_without_its_input_is_left_out(
    damage: Dict[str, Any], left_out: bool, named: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = TimmNetwork(2, 0.35)
    for name, shape in damage.items():
        network.arrays.pop(name, None)
        if shape is not None:
            network.arrays[name] = np.zeros(shape, np.float32)
    path = str(tmp_path / "odd.safetensors")
    save_file(network.arrays, path)
    net = zoo.get_model("mobilenet_v2_0.35", 10, weights=path)
    net(mx.nd.zeros((1, 3, 32, 32)))
    assert named in warnings_of(caplog)
    assert ("output.0.bias" in warnings_of(caplog)) is left_out
    weight = net.output[0].weight.data().asnumpy()[:, :, 0, 0]
    assert np.array_equal(weight, network.arrays["classifier.weight"]) is not left_out


def test_missing_place_for_the_last_convolution(tmp_path: Path) -> None:
    """The plain V1 has no place for the convolution before timm's classifier."""
    _, path, _ = written("mobilenetv1_100h", tmp_path)
    net = zoo.build_backbone("mobilenet_v1", 1.0, 10, activation="relu6")
    zoo.initialize(net)
    report = load_backbone(net, path)
    assert report.left_out == ["output.weight", "output.bias"]
    assert "features.81.weight" in report.unused


@pytest.mark.parametrize(
    ("name", "asked", "named"),
    [
        ("mobilenetv2_050", "mobilenet_v2_0.75", "--width 0.5"),
        ("mobilenetv2_110d", "ssd_96_mobilenet_v2", "--width 1.1"),
        ("mobilenetv1_125", "mobilenet_v2_1.25", "--network mobilenet_v1 --width 1.25"),
    ],
)
def test_another_width_is_refused_with_the_right_one(
    name: str, asked: str, named: str, tmp_path: Path
) -> None:
    _, path, _ = written(name, tmp_path)
    with pytest.raises(WeightsError, match=named):
        zoo.get_model(asked, ["a"] if asked.startswith("ssd") else 10, weights=path)


def test_other_number_of_classes_gets_no_bias(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, path, ours = written("mobilenetv2_050", tmp_path)
    net = zoo.get_model(ours, 3, weights=path)
    assert net.output[0].bias is None
    assert "output.0.weight" in warnings_of(caplog)


def test_activation_of_timm_is_chosen_unless_given(tmp_path: Path) -> None:
    _, path, _ = written("narrow V1", tmp_path)
    for options, clips in (({}, 27), ({"activation": "relu"}, 0)):
        net = zoo.get_model("mobilenet_v1_0.3", 10, weights=path, **options)
        assert net(mx.sym.var("data")).tojson().count('"op": "clip"') == clips


@pytest.mark.parametrize(
    "variant",
    [{"divisor": -8}, {"divisor": 8.0}, {"divisor": True}, {"depth": 0}, {"depth": 1e9}, {"depth": "1.2"},
     {"output_bias": 1}, {"last_conv": True}, [8]],
    ids=str,
)  # fmt: skip
def test_invalid_variants_are_refused(variant: Any) -> None:
    with pytest.raises(OptionError, match="mobilenet_v2"):
        zoo.build_backbone("mobilenet_v2", 0.25, variant=variant)


def test_pruned_and_unknown_networks_have_no_structure() -> None:
    assert recognize({"conv1.weight": np.zeros((4, 3, 7, 7))}) is None
    channels = [32, 16, 20, 24]
    arrays = {f"features.{i}.out.6.weight": np.zeros((c, 8, 1, 1)) for i, c in enumerate(channels, 3)}
    assert recognize(arrays) is None
