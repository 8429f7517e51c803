"""Networks with options are trained, exported and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from helpers.detectors import make_image, random_network
from helpers.networks import images
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from mnssd import Classifier, Detector, zoo
from mnssd.cli.main import main
from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.nn import LinearBottleneck
from mnssd.nn.backbones import Backbone, Tap, backbones
from mnssd.tasks.run import train_classifier, train_detector

IMAGES = [make_image(i) for i in range(4)]
CLASSES = ("cat", "dog", "cow")
SIZE = (96, 96)


class GatedNet(HybridBlock):
    """A classifier whose bottlenecks have residuals of their own."""

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        with self.name_scope():
            self.features = nn.HybridSequential()
            channels = 3
            for index, after in enumerate((8, 16, 24, 24, 32, 32)):
                residual: Any = lambda x, out: out * 0.5 + x  # noqa: E731
                stride = 1 if after == channels else 2
                if stride == 2:
                    residual = Projection(after, stride) if index else False
                self.features.add(LinearBottleneck(channels, after, 2, stride, residual=residual))
                channels = after
            self.features.add(LinearBottleneck(channels, 40, 2, 2), nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


class Projection(HybridBlock):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        with self.name_scope():
            self.project = nn.HybridSequential()
            self.project.add(nn.Conv2D(channels, 1, stride, use_bias=False), nn.BatchNorm())

    def hybrid_forward(self, F: Any, input_tensor: Any, output_tensor: Any) -> Any:
        return F.relu(output_tensor + self.project(input_tensor))


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a registered backbone with custom residuals, also around the layer of its first tap."""
    list(backbones)  # imports the built-in entries, which stay after the test
    monkeypatch.setattr(backbones, "_entries", dict(backbones._entries))
    taps = (Tap("features.4.out.5", 16), Tap("features.6", 32))
    return backbones.register("gated", Backbone("gated", GatedNet, taps)).name


@pytest.mark.parametrize(
    "names", [("symbol", "onnx"), pytest.param(("int8", "onnx-int8", "shared"), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "spec",
    [
        zoo.DetectorSpec(CLASSES, "mobilenet_v2", 0.25, SIZE, head="ssdfactorized", expansion=4),
        zoo.DetectorSpec(CLASSES, "mobilenet_v2", 0.25, SIZE, head="ssdlite", shortcut="projection-all"),
        zoo.DetectorSpec(CLASSES, "gated", 1.0, SIZE),
        zoo.ClassifierSpec((*CLASSES, "hen"), "mobilenet_v1", 0.25, SIZE, classifier="conv"),
        zoo.ClassifierSpec((*CLASSES, "hen"), "gated", 1.0, SIZE),
    ],
    ids=["factorized, t 4", "projection-all", "detector with residuals", "conv", "residuals"],
)
def test_exports_agree_with_the_network(spec: Any, names: Any, gated: str, tmp_path: Path) -> None:
    net = random_network(spec)
    export_network(net, spec, tmp_path / "e", IMAGES, "net", ExportOptions(format=names), IMAGES)
    sidecar = json.loads((tmp_path / "e" / "net.json").read_text())
    detects = isinstance(spec, zoo.DetectorSpec)
    stored = sidecar["detector" if detects else "classifier"]
    assert type(spec).from_dict(stored) == spec
    if detects:
        assert len(Detector.load(str(tmp_path / "e"))(IMAGES, score=0.0)) == len(IMAGES)
    else:
        predictions = Classifier.load(str(tmp_path / "e"))(IMAGES)
        assert {best.name for best, *_ in predictions} <= set(spec.classes)


TINY: Dict[str, Any] = {
    "dataset": "shapes", "width": 0.25, "epochs": 1, "batch_size": 8, "workers": 0, "lr": 0.02,
    "val_interval": 1,
}  # fmt: skip


def test_detector_with_options_is_trained_and_evaluated(shapes: str, tmp_path: Path, capsys: Any) -> None:
    run = train_detector({
        **TINY, "data_root": shapes, "size": SIZE, "head": "ssdfactorized", "expansion": 4,
        "shortcut": "projection-all", "output": str(tmp_path / "run"),
    })  # fmt: skip
    net = zoo.load_detector(str(run))
    assert net.heads.backbone.features[4].out[0].weight.shape[:2] == (16, 4)
    assert net.heads.box_predictors[0].project.weight.shape == (20, 48, 1, 3)
    assert main(["eval", str(run), "--data-root", shapes]) == 0
    capsys.readouterr()
    assert main(["summary", str(run), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["parameters"] == sum(
        p.data().size for p in net.heads.collect_params().values() if p.grad_req != "null"
    )
    for arguments in (["--resume", str(run)], ["--weights", str(run / "best.params"), "--width", "0.25"]):
        command = ["train-ssd", "--dataset", "shapes", "--data-root", shapes, *arguments, "--expansion", "6"]
        assert main(command) not in (0, 70)
        assert "--expansion" in capsys.readouterr().err


@pytest.mark.slow
def test_v1_with_the_conv_classifier_is_trained_and_fine_tuned(shapes: str, tmp_path: Path) -> None:
    options = {**TINY, "data_root": shapes, "size": (32, 32), "network": "mobilenet_v1", "classifier": "conv"}
    run = train_classifier({**options, "output": str(tmp_path / "run")})
    net, spec = zoo.load_classifier(str(run))
    assert spec.classifier == "conv"
    assert net.output[0][0].weight.shape == (6, 256, 1, 1)
    x = images(2, 32, 32)
    maps, weight = net.features(x).asnumpy(), net.output[3].weight.data().asnumpy()
    for classifier in ("conv", "dense"):
        tuned = train_classifier({
            **options, "classifier": classifier, "weights": str(run / "best.params"), "lr": 0.0,
            "freeze": "features", "linear_probe": False, "output": str(tmp_path / classifier),
        })  # fmt: skip
        net, spec = zoo.load_classifier(str(tuned))
        assert spec.classifier == classifier
        np.testing.assert_allclose(net.features[:81](x).asnumpy(), maps, rtol=1e-4, atol=1e-5)
        if classifier == "conv":
            np.testing.assert_array_equal(net.output[3].weight.data().asnumpy(), weight)


def test_no_linear_probe_before_a_conv_classifier(shapes: str, tmp_path: Path) -> None:
    weights = random_network(zoo.ClassifierSpec(("a", "b"), "mobilenet_v1", 0.25, (32, 32)))
    weights.save_parameters(str(tmp_path / "v1.params"))
    run = train_classifier({
        **TINY, "data_root": shapes, "size": (32, 32), "network": "mobilenet_v1", "classifier": "conv",
        "weights": str(tmp_path / "v1.params"), "output": str(tmp_path / "run"),
    })  # fmt: skip
    assert zoo.load_classifier(str(run))[0].output[3].weight.shape == (6, 6)
