"""Files for CVAT and Label Studio: boxes, names and classes read back from them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.detectors import make_image, write_image

from mnssd.cli.main import run_command
from mnssd.data.open import open_dataset
from mnssd.inference.detector import Detector
from mnssd.inference.label_tools import write_cvat, write_label_studio
from mnssd.inference.output import JsonLines

pytestmark = pytest.mark.usefixtures("loaded_once")

SCORE = 0.9
IMAGES = ("a.jpg", 'z "1" & <ü>.png', "sub/b.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    for number, name in enumerate(IMAGES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, make_image(number, 160 + 10 * number, 120))
    return folder


def detect(workspace: Path, *arguments: Any) -> int:
    return run_command("detect", [str(workspace / "run"), "--score", str(SCORE), *map(str, arguments)])


def test_cvat_is_read_back(workspace: Path, detector: Detector, photos: Path) -> None:
    assert detect(workspace, photos, "--cvat", photos / "annotations.xml") == 0
    dataset = open_dataset("cvat", str(photos), "all", list(detector.classes), "eval", allow_absent=True)
    assert {sample.image_path for sample in dataset} == {str(photos / name) for name in IMAGES}
    for sample in dataset:
        found = detector(sample.image_path, score=SCORE)
        assert len(found) > 3
        order, expected = np.lexsort(sample.boxes.T), np.lexsort(np.clip(found.boxes, 0, None).T)
        limit = np.tile(np.array(sample.size) - 1, 2)
        assert np.abs(sample.boxes[order] - np.clip(found.boxes, 0, limit)[expected]).max() <= 2e-3
        assert sorted(sample.labels) == sorted(found.labels)
    root = ElementTree.parse(photos / "annotations.xml").getroot()
    assert [label.text for label in root.iterfind("meta/task/labels/label/name")] == list(detector.classes)
    assert [image.get("name") for image in root.iterfind("image")] == list(IMAGES)


def test_label_studio_has_percentages_and_its_configuration(
    workspace: Path, detector: Detector, photos: Path
) -> None:
    assert detect(workspace, photos, "--label-studio", photos / "tasks.json") == 0
    tasks = json.loads((photos / "tasks.json").read_text())
    view = ElementTree.parse(photos / "tasks.xml").getroot()
    rectangles, image = view.find("RectangleLabels"), view.find("Image")
    assert rectangles is not None
    assert image is not None
    assert [label.get("value") for label in rectangles] == list(detector.classes)
    assert image.get("value") == "$image"
    assert [unquote(task["data"]["image"].partition("?d=")[2]) for task in tasks] == list(IMAGES)
    for name, task in zip(IMAGES, tasks):
        found = detector(str(photos / name), score=SCORE)
        (prediction,) = task["predictions"]
        regions = prediction["result"]
        assert prediction["score"] == pytest.approx(found.scores.mean(), abs=1e-5)
        assert [region["value"]["rectanglelabels"] for region in regions] == [[name] for name in found.names]
        assert len({region["id"] for region in regions}) == len(regions) > 3
        for region in regions:
            assert (region["from_name"], region["to_name"]) == (rectangles.get("name"), image.get("name"))
            assert (region["original_width"], region["original_height"]) == found.size
            assert region["type"] == "rectanglelabels"
        np.testing.assert_allclose(corners(regions), found.boxes, atol=2e-3)


def corners(regions: List[Dict[str, Any]]) -> np.ndarray:
    """Inclusive pixels of regions in percent."""
    rows = []
    for region in regions:
        value, scale = region["value"], (region["original_width"] / 100, region["original_height"] / 100)
        left, top = value["x"] * scale[0], value["y"] * scale[1]
        rows.append([left, top, left + value["width"] * scale[0] - 1, top + value["height"] * scale[1] - 1])
    return np.array(rows)


def test_frames_and_missing_files_are_left_out_and_no_image_is_no_error(tmp_path: Path) -> None:
    lines = JsonLines(str(tmp_path / "lines.jsonl"), resume=False)
    lines.add({"image": "camera:0", "width": 4, "height": 3, "detections": []})
    lines.add({"image": str(tmp_path / "lines.jsonl"), "frame": 3, "width": 4, "height": 3, "detections": []})
    lines.add({"image": "broken.jpg", "error": "no image"})
    lines.close()
    write_cvat(str(tmp_path / "a.xml"), lines.path, ("x",))
    write_label_studio(str(tmp_path / "b.json"), lines.path, ("x",))
    assert ElementTree.parse(tmp_path / "a.xml").getroot().find("image") is None
    assert json.loads((tmp_path / "b.json").read_text()) == []


def test_image_without_detections_is_a_task_without_regions(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", make_image(0, 160, 120))
    lines = JsonLines(str(tmp_path / "lines.jsonl"), resume=False)
    lines.add({"image": str(tmp_path / "a.jpg"), "width": 160, "height": 120, "detections": []})
    lines.close()
    write_label_studio(str(tmp_path / "b.json"), lines.path, ("x",))
    (task,) = json.loads((tmp_path / "b.json").read_text())
    (prediction,) = task["predictions"]
    assert prediction["result"] == []
    assert "score" not in prediction


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cvat", "x.xml", "--label-studio", "x.json"],  # whose configuration is x.xml
        ["--label-studio", "x.xml"],
        ["--cvat", "x.json", "--json", "x.json"],
    ],
)
def test_two_outputs_need_two_files(arguments: List[str], workspace: Path, photos: Path) -> None:
    paths = [argument if argument.startswith("--") else str(photos / argument) for argument in arguments]
    assert detect(workspace, photos / "a.jpg", *paths) == 2
    assert not (photos / "x.json").exists()


@pytest.mark.parametrize("option", ["--cvat", "--label-studio"])
def test_output_that_is_an_image_is_refused(option: str, workspace: Path, photos: Path, capsys: Any) -> None:
    before = (photos / "a.jpg").read_bytes()
    assert detect(workspace, photos / "a.jpg", option, photos / "a.jpg") == 2
    assert os.path.basename("a.jpg") in capsys.readouterr().err
    assert (photos / "a.jpg").read_bytes() == before
