"""Training with anchors for the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from helpers.runs import TINY

from mnssd import Detector, zoo
from mnssd.cli.main import main
from mnssd.data.open import open_dataset
from mnssd.errors import OptionError
from mnssd.nn.head_layouts import LAYOUTS
from mnssd.tasks.chosen_anchors import box_sizes, with_anchors
from mnssd.tasks.run import train_detector

SPEC = zoo.DetectorSpec(("a",), "mobilenet_v2", 0.25, (96, 96))


def spec_of(run: Any) -> zoo.DetectorSpec:
    return zoo.read_spec(str(run / "config.yaml"), zoo.DetectorSpec)


@pytest.fixture(scope="module")
def run(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = str(tmp_path_factory.mktemp("anchors") / "run")
    options: Dict[str, Any] = {**TINY, "data_root": shapes, "output": output, "epochs": 1}
    return Path(train_detector({**options, "anchors": "auto"}))


def test_clustered_anchors_are_stored(run: Path, shapes: str) -> None:
    spec = spec_of(run)
    sizes = box_sizes(open_dataset("shapes", shapes), spec.size)
    assert spec.layout is not None
    assert spec.layout.anchors.generator == "explicit"
    side = np.sqrt(spec.size[0] * spec.size[1])
    found = side * np.array([shape for part in spec.layout.anchors.shapes for shape in part])
    default = zoo.build_detector(SPEC).anchors[:, 2:]
    assert not np.isin(found[:5].round(3), default.round(3)).all()
    assert sizes.min() <= found[:5].min()
    assert {**vars(spec.layout), "anchors": 0} == {**vars(LAYOUTS["ssd"]), "anchors": 0}


def test_clustered_anchors_are_used_everywhere(run: Path, shapes: str, tmp_path: Path) -> None:
    assert main(["eval", str(run), "--data-root", shapes]) == 0
    assert main(["export", str(run), "--output", str(tmp_path / "e")]) == 0
    image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    ours, exported = (Detector.load(path)(image, score=0.05) for path in (run, tmp_path / "e"))
    assert len(ours) == len(exported)
    np.testing.assert_allclose(ours.boxes, exported.boxes, atol=0.1)
    options: Dict[str, Any] = {**TINY, "data_root": shapes, "epochs": 1, "weights": str(run)}
    del options["width"], options["size"]
    tuned = Path(train_detector({**options, "output": str(tmp_path / "tuned")}))
    assert spec_of(tuned).layout == spec_of(run).layout
    with pytest.raises(OptionError, match="auto"):
        train_detector({**options, "output": str(tmp_path / "again"), "anchors": "auto"})


def test_file(shapes: str, tmp_path: Path) -> None:
    path = tmp_path / "shapes.yaml"
    path.write_text("- [[20, 30]]\n" + "- [[80, 80], [40, 90]]\n" * 5)
    dataset = open_dataset("shapes", shapes)
    spec, note = with_anchors(SPEC, str(path), dataset)
    assert "shapes.yaml" in note
    anchors = zoo.build_detector(spec).anchors
    maps = zoo.build_detector(spec).map_sizes()
    counts = [columns * rows for columns, rows in maps]
    assert len(anchors) == counts[0] + 2 * sum(counts[1:])
    np.testing.assert_allclose(anchors[: counts[0], 2:], [[20, 30]] * counts[0], rtol=1e-6)
    assert with_anchors(SPEC, "default", dataset) == (SPEC, "")


@pytest.mark.parametrize("content", ["- [[20, 30]]\n", "[[[0, 1]]]"])
def test_wrong_files_end_training(content: str, shapes: str, tmp_path: Path) -> None:
    path = tmp_path / "shapes.yaml"
    path.write_text(content)
    folder = tmp_path / "run"
    arguments = ["train-ssd", "--data-root", shapes, "--dataset", "shapes", "--anchors", str(path)]
    assert main([*arguments, "--output", str(folder), "--weights", "none", "--size", "96"]) == 2
