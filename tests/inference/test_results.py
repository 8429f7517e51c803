"""`DetectionResult`, the selection arguments of `Detector`, and files of JSON lines."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers.detectors import CLASSES

from mnssd.boxes import iou
from mnssd.errors import OptionError
from mnssd.inference.detector import Detector
from mnssd.inference.output import JsonLines, write_coco
from mnssd.inference.results import DetectionResult, select


def test_arguments_select_detections(detector: Detector, workspace: Path) -> None:
    photo = str(workspace / "photos" / "image0.jpg")
    everything = detector(photo, 0.1)
    assert set(everything.names) == set(CLASSES)
    some = detector(photo, 0.1, classes=["dog", "cat"])
    assert some.names == [name for name in everything.names if name != "cow"]
    assert [d.box for d in some] == [d.box for d in everything if d.name != "cow"]
    assert detector(photo, 0.1, max_detections=3).names == everything.names[:3]
    assert not detector(photo, 0.1, max_detections=0)
    few = detector(photo, 0.1, iou=0.1)
    assert 0 < len(few) < len(everything)
    for label in range(len(CLASSES)):
        boxes = few.boxes[few.labels == label]
        for i in range(1, len(boxes)):
            assert iou(boxes[i], boxes[:i]).max() <= 0.1
    assert len(detector(photo, 0.1, iou=0.9)) == len(everything)
    both = detector([photo, photo], 0.1, classes=["cat"], max_detections=1)
    assert [result.names for result in both] == [["cat"], ["cat"]]
    with pytest.raises(OptionError, match="cats.*cat"):
        detector(photo, classes=["cats"])


def test_suppression_across_classes(detector: Detector, workspace: Path) -> None:
    boxes = np.array([[10, 10, 50, 50], [12, 10, 50, 50], [30, 10, 70, 50], [12, 12, 50, 50]], np.float32)
    labels, scores = np.array([0, 1, 1, 1]), np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    result = DetectionResult(boxes, labels, scores, ("cat", "dog"), (80, 60))
    assert select(result, None, None, -1).names == ["cat", "dog", "dog", "dog"]
    assert select(result, None, None, -1, across_classes=True).scores.tolist() == scores[[0, 2]].tolist()
    assert select(result, None, 0.2, -1, across_classes=True).names == ["cat"]
    assert select(result, ["dog"], None, -1, across_classes=True).scores.tolist() == scores[[1, 2]].tolist()
    photo = str(workspace / "photos" / "image0.jpg")
    plain, single = detector(photo, 0.1), detector(photo, 0.1, across_classes=True)
    assert 0 < len(single) < len(plain)
    for i in range(1, len(single)):
        assert iou(single.boxes[i], single.boxes[:i]).max() <= 0.45
    assert detector(photo, 0.1, across_classes=True, max_detections=1).boxes.tolist() == [
        plain.boxes[0].tolist()
    ]


def test_a_result_converts_to_other_formats() -> None:
    boxes = np.array([[3, 2, 7, 9], [0, 0, 1, 1]], np.float32)
    result = DetectionResult(
        boxes, np.array([1, 0]), np.array([0.75, 0.5], np.float32), ("cat", "dog"), (20, 10)
    )
    assert repr(result) == "2 detections: dog 0.75, cat 0.50"
    assert result.to_coco(7)[0] == {"image_id": 7, "category_id": 2, "bbox": [3, 2, 5, 8], "score": 0.75}
    assert result.to_coco(7, {"dog": 18, "cat": 17})[1]["category_id"] == 17
    assert result.to_dict()["detections"][0] == {"class": "dog", "score": 0.75, "box": [3, 2, 7, 9]}
    assert "<name>dog</name>" in result.to_voc("x.jpg")
    assert "<xmin>4</xmin><ymin>3</ymin><xmax>8</xmax><ymax>10</ymax>" in result.to_voc("x.jpg")
    thin = np.array([[3.2, 2, 3.4, 9], [18.9, 8.8, 19, 9], [0, 0, 0.2, 0.1]], np.float32)
    written = DetectionResult(thin, np.zeros(3, int), np.ones(3), ("cat",), (20, 10)).to_voc("x.jpg")
    for corners in ((4, 3, 5, 10), (19, 9, 20, 10), (1, 1, 2, 2)):
        xmin, ymin, xmax, ymax = corners
        assert f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>" in written
    image = np.zeros((10, 20, 3), np.uint8)
    assert result.draw(image).any()
    assert not image.any()
    empty = DetectionResult(boxes[:0], np.array([], int), np.array([]), ("cat",), (20, 10))
    assert (list(empty), bool(empty), repr(empty)) == ([], False, "0 detections")


@pytest.mark.slow
def test_writing_many_lines_needs_little_memory(tmp_path: Path) -> None:
    path = str(tmp_path / "lines")
    lines = JsonLines(path, False)
    detection = {"class": "cat", "score": 0.5, "box": [1.0, 2.0, 3.0, 4.0]}
    for i in range(10_000):
        lines.add({"image": f"{i}.jpg", "width": 10, "height": 10, "detections": [detection] * 3})
    lines.close()
    tracemalloc.start()
    write_coco(str(tmp_path / "coco.json"), path, CLASSES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert len(json.loads((tmp_path / "coco.json").read_text())["annotations"]) == 30_000
    again = JsonLines(path, True)
    assert (again.count, again.last["image"] if again.last else "") == (10_000, "9999.jpg")
    again.close()
