"""Commands on files and folders with names of any bytes, and a terminal that cannot show them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import onnx
import pytest
from helpers.file_names import NAMES, image_names, make_voc
from helpers.runs import read_log, train

from mnssd.cli.detect import BUILTIN_DETECTOR
from mnssd.cli.main import main
from mnssd.data.classification.datasets import open_classification_dataset
from mnssd.data.open import open_dataset
from mnssd.export.engines import OnnxEngine
from mnssd.train.run_folder import RunFolder

STEMS = [os.fsdecode(name) for name in NAMES]
LISTED = [stem for stem in STEMS if not set(stem) & set("\r\n")][:24]
DAMAGED = "d\udce9faut"


def run_strictly(encoding: str, *arguments: Any) -> Tuple[int, List[bytes]]:
    """Run a command with output that cannot hold all names; returns its status and the lines of stdout."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, "strict") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = main([str(argument) for argument in arguments])
    streams[0].flush()
    return status, streams[0].buffer.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def voc(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC folder with images, and one that is damaged, of any names."""
    folder = tmp_path_factory.mktemp("names") / "donn\udce9es"
    return make_voc(folder, shapes, {"train": [*LISTED[:16], DAMAGED], "val": LISTED[16:]}, DAMAGED)


@pytest.fixture(scope="module")
def run(voc: Path) -> Path:
    """Run folder of a detector trained on `voc` through the Python API, with strict output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8", "strict"))
        options = {
            "dataset": "voc",
            "epochs": 1,
            "weights": "none",
            "cache_images": str(voc.parent / "cach\udce9"),
        }
        return train(str(voc), voc.parent / "run\udce9", **options)


def test_training(run: Path, voc: Path) -> None:
    assert len(read_log(run)) == 1
    assert RunFolder(run).read_config().options.data.data_root == str(voc)
    assert (run / "best.params").exists()


def test_evaluation_and_its_detection_files(run: Path, voc: Path, tmp_path: Path) -> None:
    files, results = tmp_path / "d\udce9t", [tmp_path / "\udce91.json", tmp_path / "\udce92.json"]
    assert run_strictly("utf-8", "eval", run, "--save-detections", files, "--json", results[0])[0] == 0
    arguments = ["--detections", files, "--data-root", voc, "--splits", "val", "--json", results[1]]
    assert run_strictly("ascii", "eval", *arguments)[0] == 0
    first, second = (json.loads(path.read_bytes()) for path in results)
    for key in ("mAP", "ap_per_class", "detections"):
        assert first[key] == second[key]


def test_report(run: Path, tmp_path: Path) -> None:
    assert main(["report", str(run), "--output", str(tmp_path / "r\udce9")]) == 0
    page = (tmp_path / "r\udce9" / "index.html").read_text(encoding="utf-8")
    assert "donn\\udce9es val" in page


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_check_data_and_fixed_copy(encoding: str, voc: Path, tmp_path: Path) -> None:
    found, copy = tmp_path / "f\udce9.json", tmp_path / "copi\udce9"
    status, lines = run_strictly(
        encoding, "check-data", voc, "--no-estimate", "--show=0", "--json", found, "--fix", copy
    )
    assert status == 1
    findings = json.loads(found.read_bytes())["findings"]
    unreadable = [finding["file"] for finding in findings if finding["code"] == "image-unreadable"]
    assert unreadable == [str(voc / "JPEGImages" / f"{DAMAGED}.jpg")]
    assert len(open_dataset("voc", copy, "train")) == 16
    assert "caf\udce9.jpg" in image_names(open_dataset("voc", copy, "train"))
    assert any(b"d\\udce9faut.jpg" in line for line in lines)


@pytest.mark.parametrize("name", ["coco", "csv", "recordio"])
def test_conversion_there_and_back(name: str, voc: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "l\udce9", tmp_path / "retourn\udce9"
    assert main(["convert-data", str(voc), str(there), "--format", name, "--splits", "val"]) == 0
    assert main(["convert-data", str(there), str(back), "--format", "voc"]) == 0
    original, copy = open_dataset("voc", voc, "val"), open_dataset("voc", back, "val")
    for sample, same in zip(original, copy):
        assert Path(sample.image_path).read_bytes() == Path(same.image_path).read_bytes()
        assert sample.boxes == pytest.approx(same.boxes, abs=0.01)


@pytest.fixture
def image_folder(voc: Path, tmp_path: Path) -> Path:
    """A folder of images with all of the names."""
    image = voc / "JPEGImages" / f"{LISTED[0]}.jpg"
    folder = tmp_path / "photos d'\udce9t\udce9"
    folder.mkdir()
    for stem in STEMS:
        shutil.copyfile(image, folder / f"{stem}.jpg")
    return folder


def test_detection_in_every_format(image_folder: Path, tmp_path: Path) -> None:
    export = shutil.copytree(BUILTIN_DETECTOR, tmp_path / "export\udce9")
    drawn, found, coco = tmp_path / "dessin\udce9", tmp_path / "\udce9.json", image_folder / "labels.json"
    outputs = ["--output", drawn, "--json", found, "--coco", coco, "--voc", image_folder]
    status, lines = run_strictly("ascii", "detect", export, image_folder, *outputs)
    assert (status, len(lines)) == (0, len(STEMS) + 1)
    names = {f"{stem}.jpg" for stem in STEMS}
    images = [entry["image"] for entry in json.loads(found.read_bytes())["images"]]
    assert {os.path.basename(image) for image in images} == names
    assert all(map(os.path.isfile, images))
    assert {path.name for path in drawn.iterdir()} == names
    assert image_names(open_dataset("coco", image_folder, "labels")) == names
    coco.unlink()
    annotations = open_dataset("voc", image_folder, "all")
    assert image_names(annotations) == names
    assert not [f for f in annotations.findings if f.code.startswith("filename")]


def test_options_end_before_names_with_a_dash(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, names = tmp_path / "found.json", ["-dash.jpg", "[a].jpg", "*.jpg"]
    monkeypatch.chdir(image_folder)
    assert main(["detect", "--json", str(found), str(BUILTIN_DETECTOR), "--", *names]) == 0
    assert [entry["image"] for entry in json.loads(found.read_bytes())["images"]] == names


def test_onnx_models_are_loaded_from_any_path(tmp_path: Path) -> None:
    path, floats = tmp_path / "mod\udce9le.onnx", onnx.TensorProto.FLOAT
    ends = [onnx.helper.make_tensor_value_info(name, floats, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opset = onnx.helper.make_opsetid("", 13)
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())
    (result,) = OnnxEngine(path, False).run(np.ones(1, np.float32))
    assert result.tolist() == [-1]


def test_classes_named_by_folders_are_text(image_folder: Path, tmp_path: Path) -> None:
    for name in ("caf\udce9", "thé", "a\nb"):
        shutil.copytree(image_folder, tmp_path / "classes" / name)
    train_part, val_part = (
        open_classification_dataset("folder", str(tmp_path / "classes"), role) for role in ("train", "val")
    )
    assert train_part.classes == val_part.classes == ("a\\nb", "caf\\udce9", "thé")
    assert len(train_part.samples) + len(val_part.samples) == 3 * len(STEMS)
