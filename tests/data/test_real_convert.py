"""convert-data keeps the classes and images of all lists; messages name what was found and the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Tuple

import cv2
import numpy as np
import pytest
from helpers.small_datasets import (
    HEIGHT,
    WIDTH,
    boxes_of,
    check,
    make_coco,
    make_image,
)

from mnssd.cli.main import main
from mnssd.data.convert import convert
from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats, writable_names
from mnssd.data.open import open_dataset, read_lists, recognize
from mnssd.data.sample import Sample
from mnssd.errors import DataError
from mnssd.options import listed

# ---- conversion --------------------------------------------------------------------------------------------


def make_csv(root: Path, name: str, *rows: Tuple[str, str, str]) -> None:
    lines = [f"{image},{cls},{box}" for image, cls, box in rows]
    (root / f"{name}.csv").write_text("filename,class,xmin,ymin,xmax,ymax\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("name", writable_names())
def test_classes_of_all_lists_are_converted(tmp_path: Path, name: str) -> None:
    for number, image in enumerate(("a", "b", "c")):
        make_image(tmp_path / "in" / f"{image}.png", seed=number)
    make_csv(tmp_path / "in", "test", ("a.png", "cat", "2,3,40,50"))
    make_csv(tmp_path / "in", "train", ("b.png", "dog", "5,6,30,40"), ("b.png", "cat", "9,9,60,60"))
    make_csv(tmp_path / "in", "val", ("c.png", "bird", "2,3,40,50"))
    target = tmp_path / "out"
    assert main(["convert-data", str(tmp_path / "in"), str(target), "--format", name]) == 0
    parts = read_lists(formats[name], target)
    named = {split: [d.classes[label] for label in d[0].labels] for split, d in parts.items()}
    assert named == {"test": ["cat"], "train": ["dog", "cat"], "val": ["bird"]}


def test_classes_of_joined_lists(tmp_path: Path) -> None:
    for number, image in enumerate(("a", "b")):
        make_image(tmp_path / f"{image}.png", seed=number)
    make_csv(tmp_path, "train", ("a.png", "cat", "2,3,40,50"))
    make_csv(tmp_path, "val", ("b.png", "dog", "2,3,40,50"))
    dataset = open_dataset("csv", tmp_path, "train+val")
    assert [dataset.classes[sample.labels[0]] for sample in dataset] == ["cat", "dog"]


def test_classes_that_are_not_declared_are_read(tmp_path: Path) -> None:
    make_image(tmp_path / "a.png")
    make_csv(tmp_path, "train", ("a.png", "hat", "2,3,40,50"), ("a.png", "dog", "5,6,70,70"))
    (tmp_path / "classes.txt").write_text("dog\n")
    dataset = open_dataset("csv", tmp_path, "train")
    assert dataset.classes == ("dog", "hat")
    assert dataset[0].labels.tolist() == [1, 0]


@pytest.mark.parametrize("name", writable_names())
def test_one_file_name_in_two_lists(tmp_path: Path, name: str) -> None:
    rows = {"train": ("dog", "2,3,40,50"), "val": ("cat", "5,6,70,70")}
    parts = {}
    for number, (split, (_, box)) in enumerate(rows.items()):
        image = make_image(tmp_path / split / "img.png", seed=number)
        corners = np.array([box.split(",")], np.float32)
        sample = Sample(
            "img", str(image), corners, np.array([number], np.int32), np.zeros(1, bool), (WIDTH, HEIGHT)
        )
        parts[split] = Dataset(split, ("dog", "cat"), [sample])
    convert(parts, tmp_path / "out", formats[name], False)
    read = read_lists(formats[name], tmp_path / "out")
    for split, (cls, box) in rows.items():
        (sample,) = read[split]
        assert read[split].classes[sample.labels[0]] == cls
        np.testing.assert_allclose(sample.boxes[0], [float(value) for value in box.split(",")], atol=0.01)
    if name != "recordio":
        pixels = [cv2.imread(parts[split][0].image_path) for split in rows]
        assert all(np.array_equal(cv2.imread(read[s][0].image_path), p) for s, p in zip(rows, pixels))


def test_image_in_two_lists_with_other_boxes_keeps_both(tmp_path: Path) -> None:
    make_image(tmp_path / "a.png")
    make_csv(tmp_path, "train", ("a.png", "dog", "2,3,40,50"))
    make_csv(tmp_path, "val", ("a.png", "dog", "5,6,70,70"))
    convert(read_lists(formats["csv"], tmp_path), tmp_path / "out", formats["voc"], False)
    read = read_lists(formats["voc"], tmp_path / "out")
    assert [boxes_of(read, split) for split in ("train", "val")] == [[[[1, 2, 39, 49]]], [[[4, 5, 69, 69]]]]


# ---- messages ----------------------------------------------------------------------------------------------


def message(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        recognize(root)
    return str(caught.value)


def test_message_names_what_was_found(tmp_path: Path) -> None:
    for number in range(3):
        make_image(tmp_path / "photos" / f"{number}.jpg")
    (tmp_path / "labels.zip").write_bytes(b"PK")
    text = message(tmp_path)
    assert all(word in text for word in ("photos", "3 .jpg", "labels.zip", "--dataset"))


def test_message_names_the_dataset_one_or_two_folders_down(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "a" / "b" / "set", [[[1, 1, 20, 20]]])
    assert str(root) in message(tmp_path / "a" / "b")
    assert str(root) in message(tmp_path / "a")


def test_message_about_a_file_or_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "x.json") in message(tmp_path / "x.json")
    assert "empty" in message(tmp_path / "empty")


def test_long_lists_of_classes_are_shortened(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_image(tmp_path / "a.png")
    make_csv(tmp_path, "train", ("a.png", "class0", "2,3,40,50"))
    (tmp_path / "classes.txt").write_text("".join(f"class{n}\n" for n in range(30)))
    (note,) = [n for n in open_dataset("csv", tmp_path, "train").notes if "class29" in n or "19 more" in n]
    assert "class10" in note
    assert "class11" not in note
    main(["check-data", str(tmp_path), "--no-estimate"])
    assert "class29" not in capsys.readouterr().out.split("\n")[1]
    assert listed("abc", 3) == "a, b, c"


def test_lists_of_unclear_role_are_checked(tmp_path: Path) -> None:
    for name in ("north", "south"):
        make_coco(tmp_path, [[[1, 1, 20, 20]]], name)
    with pytest.raises(DataError):
        open_dataset("auto", tmp_path)
    output = tmp_path / "result" / "out.json"
    output.parent.mkdir()
    assert main(["check-data", str(tmp_path), "--no-estimate", "--json", str(output)]) == 0
    assert set(json.loads(output.read_text())["lists"]) == {"north", "south"}


def test_counts_of_classes_come_after_the_faults(tmp_path: Path) -> None:
    root = make_coco(tmp_path, [[[10, 10, 30, 30], [10, 10, 30, 30], [100, 10, 30, 30]]])
    warnings = [finding.code for finding in check(root)[1].findings if finding.level == "warning"]
    assert {"box-duplicate", "box-clipped"} < set(warnings)
    assert warnings[-1] == "class-rare"


def test_message_about_a_damaged_file_names_the_dataset_below(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [")
    root = make_coco(tmp_path / "set", [[[1, 1, 20, 20]]])
    text = message(tmp_path)
    assert "data.yaml" in text
    assert str(root) in text
