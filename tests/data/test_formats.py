"""Dataset formats: conversion, recognition, layouts, and the same training from each of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from helpers.datasets import assert_same_samples
from helpers.detectors import make_image, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.cli.main import main
from mnssd.data.convert import convert, writable_format
from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats, writable_names
from mnssd.data.formats.coco import write_coco
from mnssd.data.open import open_dataset, recognize
from mnssd.data.sample import Sample
from mnssd.errors import DataError, OptionError
from mnssd.train.checkpoint import read_checkpoint

WRITABLE = writable_names()
TINY = [
    "--width=0.25", "--size=96", "--epochs=1", "--batch-size=8", "--weights=none", "--val-interval=0",
    "--workers=0", "--no-report",
]  # fmt: skip


@pytest.mark.parametrize("name", formats.names())
def test_format_is_complete(name: str) -> None:
    entry = formats[name]
    assert entry.name == name
    assert entry.description
    assert "\n" not in entry.description
    assert entry.writable == (name not in ("shapes", "cvat", "gluoncv"))


# ---- conversion --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITABLE)
def test_converted_dataset_has_the_same_samples(name: str, shapes: str, converted: Dict[str, Path]) -> None:
    assert recognize(converted[name])[0] is formats[name]
    for role in ("train", "val"):
        dataset = open_dataset("auto", converted[name], role=role, allow_absent=True)
        assert_same_samples(dataset, open_dataset("voc", shapes, role=role, allow_absent=True))
        assert name in dataset.notes[0]
        assert not dataset.findings


@pytest.mark.parametrize("name", [name for name in WRITABLE if name != "voc"])
def test_conversion_back_to_voc_restores_the_samples(
    name: str, converted: Dict[str, Path], shapes: str, tmp_path: Path
) -> None:
    target = tmp_path / "voc"
    assert main(["convert-data", str(converted[name]), str(target), "--format", "voc", "--link"]) == 0
    for role in ("train", "val"):
        assert_same_samples(open_dataset("voc", target, role=role), open_dataset("voc", shapes, role=role))


@given(
    st.lists(
        st.tuples(*[st.floats(0, 300, width=32) for _ in range(4)], st.integers(0, 2), st.booleans()),
        max_size=6,
    ),
    st.integers(50, 400),
    st.integers(50, 400),
)
@settings(max_examples=60, deadline=None)
def test_conversion_preserves_any_box(
    tmp_path_factory: Any, rows: List[Any], width: int, height: int
) -> None:
    boxes = []
    for x, y, w, h, label, flag in rows:
        left, top = min(x, width - 3), min(y, height - 3)
        right, bottom = min(left + 1 + w, width - 1), min(top + 1 + h, height - 1)
        if right - left > 0.01 and bottom - top > 0.01:
            boxes.append((left, top, right, bottom, label, flag))
    table = np.array(boxes, np.float32).reshape(-1, 6)
    folder = tmp_path_factory.mktemp("boxes")
    image = write_image(folder / "a.png", np.zeros((height, width, 3), np.uint8))
    labels, difficult = table[:, 4].astype(np.int32), table[:, 5] > 0
    sample = Sample("a", image, table[:, :4], labels, difficult, (width, height))
    dataset = Dataset("random", ("one", "two", "three"), [sample])
    for name in ("coco", "yolo", "csv", "recordio"):
        convert({"train": dataset}, folder / name, formats[name], False)
        (read,) = formats[name].read(folder / name, "train")
        np.testing.assert_allclose(read.boxes, sample.boxes, atol=0.01)
        np.testing.assert_array_equal(read.labels, sample.labels)
        if name != "yolo":
            np.testing.assert_array_equal(read.difficult, sample.difficult)


def test_conversion_refuses_a_folder_with_files(converted: Dict[str, Path]) -> None:
    with pytest.raises(OptionError, match=str(converted["voc"])):
        convert({}, converted["voc"], formats["coco"], False)


def test_conversion_refuses_a_format_without_writer() -> None:
    assert writable_format("coco") is formats["coco"]
    with pytest.raises(OptionError, match="shapes"):
        writable_format("shapes")


def test_conversion_keeps_images_of_one_name_apart(tmp_path: Path) -> None:
    for name in ("b", "c"):
        (tmp_path / name).mkdir()
    images = [write_image(tmp_path / name / "a.png", make_image(i)) for i, name in enumerate(("b", "c"))]
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool)
    samples = [Sample(image_id, path, *none, (10, 10)) for image_id, path in zip(("x/a", "x_a"), images)]
    convert({"train": Dataset("x", ("a",), samples)}, tmp_path / "new", formats["voc"], False)
    copies = [path.read_bytes() for path in (tmp_path / "new" / "JPEGImages").iterdir()]
    assert sorted(copies) == sorted(Path(image).read_bytes() for image in images)


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("before")
    bad = Sample("a", "a.jpg", np.array([[np.nan] * 4]), np.zeros(1, np.int32), np.zeros(1, bool), (5, 5))
    with pytest.raises(ValueError, match="JSON"):
        write_coco(Dataset("x", ("a",), [bad]), path, {"a": "a.jpg"})
    assert path.read_text() == "before"


# ---- training ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_is_identical(converted: Dict[str, Path], tmp_path: Path) -> None:
    weights: List[Dict[str, np.ndarray]] = []
    for name in ("voc", "coco", "recordio"):  # all have the same samples, see above
        run = tmp_path / name
        assert main(["train-ssd", "--data-root", str(converted[name]), "--output", str(run), *TINY]) == 0
        weights.append(read_checkpoint(run / "last.ckpt")[0])
    for arrays in weights[1:]:
        assert all(np.array_equal(value, arrays[name]) for name, value in weights[0].items())


def test_run_remembers_its_dataset(
    converted: Dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, root = str(tmp_path / "run"), str(converted["coco"])
    assert (
        main(["train-ssd", "--data-root", root, "--output", run, *TINY[:5], "--workers=0", "--no-report"])
        == 0
    )
    printed = capsys.readouterr().out
    assert root in printed
    assert "coco val: 8" in printed
    assert main(["eval", run]) == 0
    assert "coco val" in capsys.readouterr().out


# ---- layouts and recognition -------------------------------------------------------------------------------


def test_xml_beside_images_is_split_by_image_id(shapes: str, tmp_path: Path) -> None:
    for folder in ("Annotations", "JPEGImages"):
        for path in (Path(shapes) / folder).iterdir():
            shutil.copy(path, tmp_path)
    assert recognize(tmp_path)[0].name == "voc"
    train, val = (open_dataset("auto", tmp_path, role=role) for role in ("train", "val"))
    assert (len(train), len(val)) == (29, 3)
    assert not {s.image_id for s in train} & {s.image_id for s in val}
    assert "all:train" in train.notes[0]
    again = open_dataset("auto", tmp_path, role="val")
    assert [s.image_id for s in again] == [s.image_id for s in val]


def test_one_json_beside_images(converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(converted["coco"] / "annotations" / "instances_train.json", tmp_path / "labels.json")
    shutil.copytree(converted["coco"] / "images" / "train", tmp_path / "images")
    train, val = (open_dataset("auto", tmp_path, role=role) for role in ("train", "val"))
    assert (len(train), len(val)) == (22, 2)


def test_folder_for_each_list(converted: Dict[str, Path], shapes: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(converted["coco"] / "images" / split, tmp_path / "coco" / split)
        source = converted["coco"] / "annotations" / f"instances_{split}.json"
        shutil.copy(source, tmp_path / "coco" / split / "_annotations.coco.json")
        shutil.copytree(converted["yolo"] / "images" / split, tmp_path / "yolo" / split / "images")
        shutil.copytree(converted["yolo"] / "labels" / split, tmp_path / "yolo" / split / "labels")
    names = open_dataset("voc", shapes).classes
    (tmp_path / "yolo" / "data.yaml").write_text(
        f"train: ../train/images\nval: ../val/images\nnc: {len(names)}\nnames: {json.dumps(list(names))}\n"
    )
    for name in ("coco", "yolo"):
        assert recognize(tmp_path / name)[0].name == name
        assert len(open_dataset("auto", tmp_path / name)) == 24
        assert len(open_dataset("auto", tmp_path / name, splits="train+val")) == 32


def test_yolo_with_class_file_and_with_image_list(converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(converted["yolo"] / "images" / "train", tmp_path / "images")
    shutil.copytree(converted["yolo"] / "labels" / "train", tmp_path / "labels")
    names = open_dataset("yolo", converted["yolo"]).classes
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert list(formats["yolo"].lists(tmp_path)) == ["all"]
    assert len(open_dataset("auto", tmp_path)) == 22
    images = sorted(path.name for path in (tmp_path / "images").iterdir())
    (tmp_path / "train.txt").write_text("".join(f"./images/{name}\n" for name in images[:5]))
    (tmp_path / "data.yaml").write_text(f"train: train.txt\nnames: {json.dumps(dict(enumerate(names)))}\n")
    assert len(open_dataset("yolo", tmp_path, "train")) == 5


def test_unrecognized_folder_lists_the_known_layouts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)) as error:
        open_dataset("auto", tmp_path)
    for entry in formats:
        assert entry.layout in str(error.value)
    with pytest.raises(DataError, match="absent"):
        open_dataset("auto", tmp_path / "absent")


def test_json_that_only_resembles_coco_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"images": 3}')
    with pytest.raises(DataError, match="notes.json"):
        open_dataset("auto", tmp_path)


@pytest.mark.parametrize("name", [name for name in WRITABLE if name != "voc"])
def test_missing_list_or_dataset_is_named(name: str, converted: Dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'trian'.*train"):
        open_dataset(name, converted[name], "trian")
    with pytest.raises(DataError, match=str(tmp_path)):
        open_dataset(name, tmp_path)
    assert main(["check-data", str(tmp_path), "--dataset", name]) == 1
