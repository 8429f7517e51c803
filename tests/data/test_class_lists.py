"""VOC's lists of single classes, such as ``cat_train.txt``: 1 for images with the class, else -1."""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
from helpers.voc import annotation_xml, box_xml
from helpers.voc_files import write

from mnssd.data.open import open_dataset
from mnssd.errors import DataError


def make(root: Path, lists: str = "ImageSets/Main") -> Path:
    """Images a (cat), b (dog), c (both) and "d -1" (cat), with lists of both classes."""
    names = {"a": ["cat"], "b": ["dog"], "c": ["cat", "dog"], "d -1": ["cat"]}
    for name, classes in names.items():
        boxes = "".join(box_xml(c, 2 + i, 3, 20, 25) for i, c in enumerate(classes))
        write(root, f"JPEGImages/{name}.png", f"Annotations/{name}.xml", text=annotation_xml(boxes))
    for name, text in {
        "cat_train": "a  1\nb -1\nc  1\nd -1\n", "signs_train": "a\t+1\r\nb\t-1\r\nc\t+1\r\n",
        "dog_train": "a -1\nb  0\nc  1\n",
        "none_train": "a -1\nb -1\n", "breeds": "a 1 2 -1\nb 2 1 1\n", "train": "a\nb\nc\nd -1\n",
    }.items():  # fmt: skip
        path = root / lists / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def ids(root: Path, splits: str) -> List[str]:
    return [sample.image_id for sample in open_dataset("voc", root, splits)]


def test_images_marked_with_one_or_zero_are_used(tmp_path: Path) -> None:
    root = make(tmp_path)
    assert ids(root, "cat_train") == ["a", "c", "d -1"]  # the last is the name of an image
    assert ids(root, "dog_train") == ["b", "c"]
    assert ids(root, "train") == ["a", "b", "c", "d -1"]
    assert ids(root, "signs_train") == ["a", "c"]
    assert ids(root, "breeds") == ["a", "b"]
    dataset = open_dataset("voc", root, "dog_train")
    assert [(f.code, f.where) for f in dataset.findings] == [("image-negative", "line 1")]
    assert any("dog_train" in note for note in dataset.notes)


def test_lists_of_classes_are_joined(tmp_path: Path) -> None:
    root = make(tmp_path)
    dataset = open_dataset("voc", root, "cat_train+dog_train")
    assert [sample.image_id for sample in dataset] == ["a", "c", "d -1", "b"]
    assert [len(sample.labels) for sample in dataset] == [1, 2, 1, 1]
    assert [Path(f.file).stem for f in dataset.findings if f.code == "image-listed-twice"] == ["c"]


def test_lists_of_classes_in_a_devkit(tmp_path: Path) -> None:
    make(tmp_path / "VOC2012")
    assert ids(tmp_path, "2012_cat_train+2012_dog_train") == ["a", "c", "d -1", "b"]


def test_list_without_the_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none_train"):
        open_dataset("voc", make(tmp_path), "none_train")
