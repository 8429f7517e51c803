"""Faults in annotations of COCO and YOLO, and damaged files of every format."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Tuple, Union

import numpy as np
import pytest
from helpers.datasets import codes
from helpers.detectors import make_image, write_image
from test_fuzz_files import damage

from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats
from mnssd.data.open import open_dataset
from mnssd.errors import DataError, OptionError

COCO, YOLO = formats["coco"], formats["yolo"]

Change = Callable[[Dict[str, Any]], object]


def change_first(**changes: Any) -> Change:
    return lambda content: content["annotations"][0].update(changes)


COCO_FAULTS: Dict[str, Tuple[Change, str]] = {
    "unknown category": (change_first(category_id=77), "class-unknown"),
    "unknown image": (change_first(image_id=777), "object-without-image"),
    "nan": (change_first(bbox=[float("nan"), 1, 5, 5]), "box-not-finite"),
    "huge": (change_first(bbox=[1e308, 1, 5, 5]), "box-not-finite"),
    "three numbers": (change_first(bbox=[1, 1, 5]), "box-not-numeric"),
    "words": (change_first(bbox=["1", "1", "5", "five"]), "box-not-numeric"),
    "inverted": (change_first(bbox=[30, 30, -5, 5]), "box-inverted"),
    "no box": (lambda c: c["annotations"][0].pop("bbox"), "box-missing"),
    "annotation is a number": (lambda c: c["annotations"].__setitem__(0, 5), "object-without-image"),
    "far outside": (change_first(bbox=[5000, 5000, 9, 9]), "box-outside"),
    "image outside": (lambda c: c["images"][0].update(file_name="../../../outside.jpg"), "image-outside"),
    "image absolute": (lambda c: c["images"][0].update(file_name="OUTSIDE"), "image-outside"),
    "image missing": (lambda c: c["images"][0].update(file_name="gone.jpg"), "image-missing"),
    "image twice": (lambda c: c["images"].append(c["images"][0]), "image-listed-twice"),
    "image without name": (lambda c: c["images"].append({"id": 99}), "image-without-name"),
}


@pytest.fixture
def coco(converted: Dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the dataset in COCO's format, with images outside of it."""
    shutil.copytree(converted["coco"], tmp_path / "inner" / "coco")
    for folder in (tmp_path, tmp_path / "inner"):
        write_image(folder / "outside.jpg", make_image(0))
    return tmp_path / "inner" / "coco"


@pytest.mark.parametrize("fault", list(COCO_FAULTS))
def test_fault_in_coco_is_reported_and_the_rest_is_read(fault: str, coco: Path) -> None:
    change, code = COCO_FAULTS[fault]
    path = coco / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    whole = COCO.read(coco, "train")
    change(content)
    path.write_text(json.dumps(content).replace("OUTSIDE", str(coco.parent / "outside.jpg")))
    dataset = COCO.read(coco, "train")
    assert codes(dataset) == {code}
    assert all(finding.file == str(path) for finding in dataset.findings)
    is_skipped = fault in ("image outside", "image absolute", "image missing")
    assert len(dataset) == len(whole) - is_skipped
    if not code.startswith("image"):
        assert sum(len(s.boxes) for s in dataset) == sum(len(s.boxes) for s in whole) - 1


def test_each_clipped_box_is_reported_with_its_excess(coco: Path) -> None:
    path = coco / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for number, right in enumerate((150, 180)):
        box = {**content["annotations"][0], "id": 1000 + number, "bbox": [50, 50, right - 50, 20]}
        content["annotations"].append(box)
    path.write_text(json.dumps(content))
    dataset = COCO.read(coco, "train")
    clipped = [finding.text for finding in dataset.findings if finding.code == "box-clipped"]
    assert [text.split(" by ")[1] for text in clipped] == ["54 px", "84 px"]
    assert len(dataset.notes) == 1


def test_symbolic_link_out_of_the_dataset_is_not_followed(coco: Path) -> None:
    target = next((coco / "images" / "train").iterdir())
    target.unlink()
    os.symlink(coco.parent / "outside.jpg", target)
    assert codes(COCO.read(coco, "train")) == {"image-outside"}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("9 0.5 0.5 0.2 0.2", "class-unknown"),
        ("-1 0.5 0.5 0.2 0.2", "class-unknown"),
        ("0.5 0.5 0.5 0.2 0.2", "class-unknown"),
        ("0 0.5 0.5 0.2", "box-missing"),
        ("0 nan 0.5 0.2 0.2", "box-not-finite"),
        ("0 1e308 0.5 0.2 0.2", "box-not-finite"),
        ("cat 0.5 0.5 0.2 0.2", "box-not-numeric"),
        ("0 0.5 0.5 0 0.2", "box-without-area"),
        ("0 7 7 0.2 0.2", "box-outside"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.5", "polygon-invalid"),
    ],
)
def test_fault_in_yolo_is_reported(line: str, code: str, converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(converted["yolo"], tmp_path / "yolo")
    path = sorted((tmp_path / "yolo" / "labels" / "train").iterdir())[3]
    boxes = len(YOLO.read(tmp_path / "yolo", "train")[3].boxes)
    path.write_text(f"{path.read_text()}\n{line}\n")
    dataset = YOLO.read(tmp_path / "yolo", "train")
    (finding,) = dataset.findings
    assert (finding.code, finding.file) == (code, str(path))
    assert len(dataset[3].boxes) == boxes


def test_yolo_polygons_and_scores_are_read_as_boxes(converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(converted["yolo"], tmp_path / "yolo")
    path = sorted((tmp_path / "yolo" / "labels" / "train").iterdir())[0]
    path.write_text("1 0.25 0.25 0.75 0.25 0.5 0.75\n2 0.5 0.5 0.5 0.5 0.93\n")
    sample = YOLO.read(tmp_path / "yolo", "train")[0]
    np.testing.assert_allclose(sample.boxes, [[24, 24, 71, 71], [24, 24, 71, 71]], atol=0.01)


def test_yolo_image_without_label_file_has_no_objects(converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(converted["yolo"], tmp_path / "yolo")
    sorted((tmp_path / "yolo" / "labels" / "train").iterdir())[0].unlink()
    dataset = YOLO.read(tmp_path / "yolo", "train")
    assert len(dataset[0].boxes) == 0
    assert codes(dataset) == {"labels-missing"}


# ---- damaged files -----------------------------------------------------------------------------------------

LIST_FILES = {
    "coco": "annotations/instances_train.json", "yolo": "data.yaml", "voc": "ImageSets/Main/train.txt",
    "csv": "train.csv", "recordio": "train.rec",
}  # fmt: skip
ANNOTATION_FOLDERS = {"yolo": "labels/train", "voc": "Annotations"}


def read_or_refuse(name: str, root: Path) -> Union[Dataset, str]:
    """The training list, or the text of the error."""
    try:
        return open_dataset(name, root, "train")
    except (DataError, OptionError) as error:
        return str(error)


def fuzz(converted: Dict[str, Path], folder: Path, count: int) -> None:
    """Damaged files give a dataset in its folder or an error that names the folder; no file is written."""
    rng = random.Random(0)
    refused = read = 0
    for number in range(count):
        name = rng.choice(list(converted))
        root = folder / name
        if not root.exists():
            shutil.copytree(converted[name], root)
        paths = [root / LIST_FILES[name]]
        if name in ANNOTATION_FOLDERS and rng.random() < 0.7:
            paths = rng.sample(sorted((root / ANNOTATION_FOLDERS[name]).iterdir()), 3)
        contents = {path: path.read_bytes() for path in paths}
        for path, content in contents.items():
            path.write_bytes(damage(content, path.suffix != ".rec", rng))
        before = sorted(str(path) for path in folder.rglob("*"))
        result = read_or_refuse(name, root)
        if isinstance(result, str):
            assert name in result, (number, result)
            refused += 1
        else:
            for sample in result:
                assert np.isfinite(sample.boxes).all()
                assert os.path.realpath(sample.image_path).startswith(os.path.realpath(root))
            read += 1
        assert sorted(str(path) for path in folder.rglob("*")) == before
        for path, content in contents.items():
            path.write_bytes(content)
    assert refused > count / 20
    assert read > count / 20


def test_150_damaged_files(converted: Dict[str, Path], tmp_path: Path) -> None:
    fuzz(converted, tmp_path, 150)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_10000_damaged_files(converted: Dict[str, Path], tmp_path: Path) -> None:
    fuzz(converted, tmp_path, 10_000)
