"""The built-in detector: `mnssd detect IMAGE` without a detector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnssd.cli.detect import BUILTIN_DETECTOR
from mnssd.cli.main import main
from mnssd.data.open import open_dataset
from mnssd.data.shapes.dataset import make_shapes
from mnssd.data.shapes.outlines import SHAPE_CLASSES
from mnssd.inference.detector import Detector
from mnssd.metrics.voc import VOCMetric


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset rendered with another seed than the training set."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=1, val=60, seed=4711)
    return folder


def test_its_files_are_small() -> None:
    assert sum(path.stat().st_size for path in BUILTIN_DETECTOR.iterdir()) < 8 << 20


def test_its_map_is_as_documented(unseen: Path) -> None:
    """The README says .897 for the run that it was made from, on 200 images of its own set."""
    detector = Detector.load(str(BUILTIN_DETECTOR))
    assert detector.classes == SHAPE_CLASSES
    dataset = open_dataset("shapes", unseen, role="val")
    metric = VOCMetric(detector.classes, "voc07")
    for sample in dataset:
        metric.add(detector(sample.image_path, score=0.01), sample)
    assert metric.result().mean_ap > 0.85


def test_an_image_alone_uses_it(unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image = next((unseen / "JPEGImages").iterdir())
    target = tmp_path / "detections.json"
    assert main(["detect", str(image), "--json", str(target)]) == 0
    assert "note:" in capsys.readouterr().err
    assert json.loads(target.read_text())["classes"] == list(SHAPE_CLASSES)
    assert main(["detect", str(unseen / "JPEGImages"), "--score", "0.9"]) == 0
    assert "61 images" in capsys.readouterr().out


def test_missing_images_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["detect"]) == 2
    assert "IMAGE" in capsys.readouterr().err
    assert main(["detect", str(BUILTIN_DETECTOR)]) == 2
    assert "IMAGE" in capsys.readouterr().err
    assert main(["detect", str(tmp_path / "gone.jpg")]) == 2
    assert "gone.jpg" in capsys.readouterr().err
    assert main(["detect", str(tmp_path / "exprots"), "photo.jpg"]) == 1
    assert "exprots" in capsys.readouterr().err
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    assert main(["detect", str(broken)]) == 1
    assert "broken.jpg" in capsys.readouterr().err
