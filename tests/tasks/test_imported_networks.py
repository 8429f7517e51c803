"""Runs of networks that weights files of other libraries need: other channel counts, a bias of the output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import yaml
from helpers.detectors import write_images
from helpers.timm_networks import TimmNetwork
from safetensors.numpy import save_file

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.shapes.outlines import SHAPE_CLASSES
from mnssd.errors import WeightsError
from mnssd.tasks.classification import ClassificationTask
from mnssd.tasks.detection import DetectionTask
from mnssd.tasks.run import train_classifier
from mnssd.train.options import ClassificationTraining, DetectionTraining
from mnssd.weights import read_params
from mnssd.weights.structure import variant_for

VARIANT = {"divisor": 8, "output_bias": True}


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MobileNetV2 at width 0.25 with as many classes as `shapes`."""
    path = str(tmp_path_factory.mktemp("weights") / "timm.safetensors")
    save_file(TimmNetwork(2, 0.25, classes=len(SHAPE_CLASSES)).arrays, path)
    return path


def options(shapes: str, weights: str, **changes: Any) -> Dict[str, Any]:
    return {
        "dataset": "shapes", "data_root": shapes, "width": 0.25, "size": (32, 32), "epochs": 1,
        "batch_size": 16, "workers": 0, "weights": weights, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(shapes: str, timm_file: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier trained from it for one epoch."""
    output = tmp_path_factory.mktemp("runs") / "run"
    return train_classifier(options(shapes, timm_file, output=str(output), pretrained_lr=1.0))


def layers_of(path: Path, capsys: pytest.CaptureFixture) -> List[Dict[str, Any]]:
    capsys.readouterr()
    assert main(["summary", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["layers"]


def test_variant_is_stored_and_loaded(run: Path, timm_file: str, capsys: pytest.CaptureFixture) -> None:
    assert yaml.safe_load((run / "config.yaml").read_text())["classifier"]["variant"] == VARIANT
    net, spec = zoo.load_classifier(str(run))
    assert spec.variant == VARIANT
    assert net.features[5].out[6].weight.shape[0] == 8  # 24 * 0.25 = 6
    bias = net.output[0].bias.data().asnumpy()
    np.testing.assert_array_equal(bias, read_params(str(run / "best.params"))["output.0.bias"])
    last = next(layer for layer in reversed(layers_of(run, capsys)) if layer["multiply_adds"])
    assert last["parameters"] == (1280 + 1) * len(SHAPE_CLASSES)
    assert main(["summary", str(run)]) == 0
    assert "divisor 8" in capsys.readouterr().out


def test_training_continues_with_the_variant(run: Path, shapes: str, timm_file: str) -> None:
    weights = str(run / "best.params")
    assert variant_for(weights, "mobilenet_v2", 0.25, len(SHAPE_CLASSES)) == VARIANT
    assert variant_for(weights, "mobilenet_v2", 0.25, 3) == {"divisor": 8}
    task = ClassificationTask(ClassificationTraining.resolve(options(shapes, weights)))
    assert task.spec.variant == VARIANT
    assert task.is_pretrained
    assert any(parameter.name.endswith("pred_bias") for parameter in task.pretrained)
    detection = options(shapes, timm_file, size=(96, 96), val_interval=0)
    detector = DetectionTask(DetectionTraining.resolve(detection))
    assert detector.spec.variant == {"divisor": 8}
    expected = len(detector.block.backbone._collect_params_with_prefix())
    assert len(detector.pretrained) == expected


def test_run_of_another_width_is_refused(shapes: str, timm_file: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with pytest.raises(WeightsError, match="--width 0.25"):
        train_classifier(options(shapes, timm_file, width=0.5, output=str(output)))
    assert not output.exists()


@pytest.mark.parametrize("format", ["symbol", pytest.param("all", marks=pytest.mark.slow)])
def test_export_keeps_the_variant(
    format: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """All formats pass their parity check."""
    (tmp_path / "images").mkdir()
    images = write_images(tmp_path / "images", 4)
    exported = tmp_path / "export"
    assert main(["export", str(run), "--output", str(exported), "--format", format, "--images", *images]) == 0
    (sidecar,) = (
        json.loads(path.read_text()) for path in exported.glob("*.json") if "symbol" not in path.name
    )
    assert sidecar["classifier"]["variant"] == VARIANT
    last = next(layer for layer in reversed(layers_of(exported, capsys)) if layer["multiply_adds"])
    assert last["parameters"] == (1280 + 1) * len(SHAPE_CLASSES)


def test_pruning_keeps_the_variant(run: Path, tmp_path: Path) -> None:
    pruned = tmp_path / "pruned"
    command = ["prune", str(run), "--keep", "0.8", "--importance", "magnitude", "--epochs", "0"]
    assert main([*command, "--output", str(pruned)]) == 0
    net, spec = zoo.load_classifier(f"{pruned}-start")
    assert spec.variant == VARIANT
    assert spec.channels
    assert net.output[0].bias is not None
    again = ClassificationTraining.resolve(
        options(str(tmp_path), f"{pruned}-start/best.params", structure=f"{pruned}-start")
    ).data
    kind = zoo.ClassifierSpec
    found = zoo.find_variant(
        again.network, again.width, len(SHAPE_CLASSES), kind, again.structure, again.weights
    )
    assert found == VARIANT
