"""Networks by name, and detectors from run folders."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import mxnet as mx
import numpy as np
import pytest
import yaml
from helpers.networks import fill, images
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd import nn, zoo
from mnssd.data.formats.voc import VOC_CLASSES
from mnssd.errors import OptionError, WeightsError
from mnssd.nn.backbones import backbones
from mnssd.nn.choices import ACTIVATIONS, HEADS, SHORTCUTS
from mnssd.nn.gluoncv_models import GLUONCV_MODELS
from mnssd.nn.heads import LitePredictor
from mnssd.runtime.settings import wait_all
from mnssd.zoo import DetectorSpec, get_model, load_detector


def test_importing_the_zoo_does_not_import_mxnet() -> None:
    code = "import sys, mnssd.zoo, mnssd.weights; sys.exit('mxnet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "network", "width"),
    [
        ("mobilenet_v1", nn.MobileNetV1, 1.0),
        ("mobilenet_v2", nn.MobileNetV2, 1.0),
        ("mobilenet_v2_1.0", nn.MobileNetV2, 1.0),
        ("mobilenet_v2_0.5", nn.MobileNetV2, 0.5),
        ("mobilenet_v1_.25", nn.MobileNetV1, 0.25),
        ("mobilenet_v2_1.4", nn.MobileNetV2, 1.4),
    ],
)
def test_classifiers_by_name(name: str, network: Any, width: float) -> None:
    net = get_model(name, classes=7)
    assert type(net) is network
    assert net.features[0].weight.shape[0] == network(width).features[0].weight.shape[0]
    assert net(mx.sym.var("data")).infer_shape(data=(1, 3, 64, 64))[1] == [(1, 7)]


def test_classes_of_a_classifier_are_a_count_or_names() -> None:
    for classes, expected in ((None, 1000), (3, 3), (["cat", "dog"], 2)):
        net = get_model("mobilenet_v1_0.25", classes=classes)
        assert net(mx.sym.var("data")).infer_shape(data=(1, 3, 64, 64))[1] == [(1, expected)]


@pytest.mark.parametrize(
    ("name", "size", "lite"),
    [
        ("ssd_300_mobilenet_v2_0.25", (300, 300), False),
        ("ssdlite_320_mobilenet_v1_0.25", (320, 320), True),
        ("ssd_480x320_mobilenet_v1_0.25", (480, 320), False),
        ("ssdlite_96x300_mobilenet_v2_0.25", (96, 300), True),
    ],
)
def test_detectors_by_name(name: str, size: Any, lite: bool) -> None:
    net = get_model(name, classes=["a", "b"])
    assert isinstance(net, nn.SSD)
    assert net.size == size
    assert net.classes == ("a", "b")
    assert isinstance(net.heads.class_predictors[0], LitePredictor) is lite


def test_default_classes_of_a_detector_are_voc() -> None:
    assert get_model("ssd_96_mobilenet_v2_0.25").classes == tuple(VOC_CLASSES)


def test_every_listed_name_makes_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    specs: List[DetectorSpec] = []
    monkeypatch.setattr(zoo, "build_detector", specs.append)
    names = zoo.list_models()
    assert len(set(names)) == len(names) >= 70
    for name in names:
        net = get_model(name, classes=["a"])
        if name in GLUONCV_MODELS:
            model, spec = GLUONCV_MODELS[name], specs[-1]
            assert (spec.head, spec.size, spec.width) == (model.head, (model.size, model.size), model.width)
        elif name.startswith("ssd"):
            spec = specs[-1]
            head, size, network = name.split("_", 2)
            assert (spec.head, spec.size) == (head, (int(size), int(size)))
            assert network.startswith(spec.network)
            assert float(network.split("_")[2]) == spec.width if network.count("_") == 2 else spec.width == 1
        else:
            assert type(net) is (nn.MobileNetV2 if "v2" in name else nn.MobileNetV1)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("ssd_300_mobilenet_v3", {}, "'ssd_300_mobilenet_v3'.*ssd_300_mobilenet_v2"),
        ("ssd_mobilenet_v2", {}, "'ssd_mobilenet_v2'.*ssd_300_mobilenet_v2"),
        ("mobilenetv2", {}, "'mobilenetv2'.* mobilenet_v2"),
        ("resnet50", {}, "'resnet50'.* mobilenet_v1, "),
        ("ssd_300_mobilenet_v2_", {}, "'ssd_300_mobilenet_v2_'"),
        ("", {}, "''"),
        ("ssd_310_mobilenet_v2", {}, "310x310.*32.*310"),
        ("ssd_300x64_mobilenet_v2", {}, "300x64.* 64"),
        ("ssd_300_mobilenet_v2_0", {}, "width.*0.0"),
        ("mobilenet_v2_0.01", {}, "0.01.*32"),
        ("ssd_300_mobilenet_v2", {"classes": 20}, "classes.* 20"),
        ("ssd_300_mobilenet_v2", {"classes": "cat"}, "classes.*'cat'"),
        ("ssd_300_mobilenet_v2", {"classes": []}, r"classes.*\(\)"),
        ("ssd_300_mobilenet_v2", {"classes": ["a", "a"]}, "classes.*'a', 'a'"),
        ("ssd_300_mobilenet_v2", {"classes": [1, 2]}, "classes.*1, 2"),
        ("mobilenet_v2", {"classes": 0}, "classes.* 0"),
        ("mobilenet_v2", {"shortcuts": "identity"}, "'shortcuts'.* shortcut"),
        ("mobilenet_v2", {"shortcut": "add"}, "shortcut.*projection.*'add'"),
        ("mobilenet_v2", {"activation": "relu"}, "'activation'.* shortcut"),
        ("mobilenet_v1", {"activation": "swish"}, "activation.*relu6.*'swish'"),
        ("mobilenet_v1", {"shortcut": "projection"}, "'shortcut'.* activation"),
    ],
)
def test_invalid_names_and_options_are_named(name: str, options: Dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        get_model(name, **options)


def test_option_of_another_backbone_is_refused() -> None:
    with pytest.raises(OptionError, match="shortcut.*mobilenet_v1.*projection"):
        zoo.build_backbone("mobilenet_v1", shortcut="projection")


# ---- weights -----------------------------------------------------------------------------------------------


@pytest.fixture
def classifier_file(tmp_path: Path) -> str:
    net = nn.MobileNetV2(0.25, 10)
    net.initialize()
    net(images(1, 32, 32))
    fill(net)
    wait_all()
    net.save_parameters(str(tmp_path / "classifier.params"))
    return str(tmp_path / "classifier.params")


def test_pretrained_backbone(classifier_file: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mnssd")
    net = get_model("ssd_96_mobilenet_v2_0.25", ["a"], pretrained_backbone=classifier_file)
    classifier = get_model("mobilenet_v2_0.25", 10, pretrained_backbone=classifier_file)
    x = images(1, 96, 96)
    expected = classifier.features[:23](x).asnumpy()
    np.testing.assert_allclose(net.heads.backbone(x)[1].asnumpy(), expected, rtol=1e-4, atol=1e-5)
    assert net(x)[0].shape == (1, 200, 1)
    log = "\n".join(caplog.messages)
    assert classifier_file in log
    assert "265" in log
    assert "output.0.weight" in log
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("name", ["ssd_96_mobilenet_v2_0.5", "mobilenet_v2_0.5", "mobilenet_v1_0.25"])
def test_weights_of_another_network_are_refused(classifier_file: str, name: str) -> None:
    with pytest.raises(WeightsError, match=r"classifier\.params"):
        get_model(name, ["a"], pretrained_backbone=classifier_file)


def test_partly_loaded_backbone_is_a_warning(classifier_file: str, caplog: pytest.LogCaptureFixture) -> None:
    get_model("mobilenet_v2_0.25", 10, pretrained_backbone=classifier_file, shortcut="projection")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("15" in line and "features.3.projection" in line for line in warnings)


def test_initialization_preserves_the_signal() -> None:
    """He et al. 2015; depthwise layers have a fan-in of 9."""
    mx.random.seed(0)
    net = get_model("mobilenet_v1_0.25", 10)
    zoo.initialize(net)
    net(images(1, 32, 32))
    for layer in (net.features[3], net.features[6], net.features[9]):
        weight = layer.weight.data().asnumpy()
        assert weight.std() == pytest.approx(np.sqrt(2 / np.prod(weight.shape[1:])), rel=0.25)


def test_residual_branches_start_at_zero() -> None:
    net = nn.MobileNetV2(0.25, 5)
    zoo.initialize(net)
    net(images(1, 64, 64))
    last = {i: b.out[7].gamma.data().asnumpy() for i, b in enumerate(net.features) if hasattr(b, "out")}
    assert len(last) == 17
    for index, gamma in last.items():
        assert (gamma == (0 if net.features[index].use_shortcut else 1)).all()
    assert (net.features[5].out[1].gamma.data().asnumpy() == 1).all()


# ---- run folders -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        DetectorSpec,
        classes=st.lists(st.text("aä猫 -:#'\"[%", min_size=1), min_size=1, max_size=4).map(tuple),
        network=st.sampled_from(backbones.names()),
        width=st.sampled_from(backbones["mobilenet_v2"].widths),
        size=st.tuples(st.just(300), st.integers(3, 20).map(lambda n: 32 * n)),
        head=st.sampled_from(HEADS),
        shortcut=st.sampled_from(SHORTCUTS),
        activation=st.sampled_from(ACTIVATIONS),
    )
)
def test_spec_round_trips_through_yaml(spec: DetectorSpec) -> None:
    assert DetectorSpec.from_dict(yaml.safe_load(yaml.safe_dump(spec.as_dict(), allow_unicode=True))) == spec


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    folder.mkdir()
    spec = DetectorSpec(("kött", "dog"), "mobilenet_v1", 0.25, (128, 96), head="ssdlite", activation="relu6")
    net = zoo.build_detector(spec)
    zoo.initialize(net)
    net(images(1, 128, 96))
    fill(net.heads, 3)
    wait_all()
    net.heads.save_parameters(str(folder / "best.params"))
    (folder / "config.yaml").write_text(yaml.safe_dump({"detector": spec.as_dict()}), encoding="utf-8")
    np.save(str(folder / "scores.npy"), net(images(2, 128, 96))[1].asnumpy())
    return folder


@pytest.mark.parametrize("which", ["", "best.params"])
def test_load_detector(run_folder: Path, which: str) -> None:
    net = load_detector(str(run_folder / which))
    assert net.classes == ("kött", "dog")
    assert net.size == (128, 96)
    scores = net(images(2, 128, 96))[1].asnumpy()
    assert scores.max() > 0.02
    np.testing.assert_allclose(scores, np.load(str(run_folder / "scores.npy")), rtol=1e-5, atol=1e-6)


def copy_run(folder: Path, target: Path) -> Path:
    target.mkdir()
    for name in ("best.params", "config.yaml"):
        (target / name).write_bytes((folder / name).read_bytes())
    return target


def test_missing_file_of_a_run_is_named(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="absent"):
        load_detector(str(tmp_path / "absent"))
    folder = copy_run(run_folder, tmp_path / "run")
    (folder / "best.params").unlink()
    with pytest.raises(WeightsError, match=r"best\.params"):
        load_detector(str(folder))
    folder = copy_run(run_folder, tmp_path / "run2")
    (folder / "config.yaml").unlink()
    with pytest.raises(WeightsError, match=r"run2.config\.yaml"):
        load_detector(str(folder))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2",
        "detector: 3",
        "other: {}",
        "detector: {network: mobilenet_v2}",
        "detector: {classes: [a], size: [300, 300], color: blue}",
        "detector: {classes: [a], size: 300}",
        "detector: {classes: [a], size: [300]}",
        "detector: {classes: [a], size: [a, b]}",
        "detector: {classes: [a], size: [300, 300], width: wide}",
        "detector: {classes: abc, size: [300, 300]}",
        "detector: {classes: [a], size: [301, 300]}",
        "detector: {classes: [a], size: [300, 300], head: both}",
        "detector: {classes: [a], size: [300, 300], network: resnet}",
        "\x00",
    ],
)
def test_invalid_configuration_is_refused(run_folder: Path, tmp_path: Path, content: str) -> None:
    folder = copy_run(run_folder, tmp_path / "run")
    (folder / "config.yaml").write_text(content)
    with pytest.raises(WeightsError, match=r"config\.yaml.*detector"):
        load_detector(str(folder))


def test_weights_that_do_not_match_the_configuration_are_refused(run_folder: Path, tmp_path: Path) -> None:
    folder = copy_run(run_folder, tmp_path / "run")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["detector"]["width"] = 0.5
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(WeightsError, match=r"best\.params"):
        load_detector(str(folder))
    (folder / "best.params").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"best\.params"):
        load_detector(str(folder))
