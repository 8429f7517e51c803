"""Names of lists that tools and people give to their annotation files, and which lists are used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest

from mnssd.data.annotations.paths import find_lists
from mnssd.data.formats.coco import CocoFormat
from mnssd.errors import DataError

COCO = CocoFormat()


def make(root: Path, names: Sequence[str], contents: Sequence[Any] = ()) -> None:
    """Files in COCO's format with different contents."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = contents[number] if contents else number
        text = {
            "images": [{"id": content, "file_name": f"{content}.png"}],
            "annotations": [],
            "categories": [],
        }
        path.write_text(json.dumps(text))


@pytest.mark.parametrize(
    ("names", "train", "val"),
    [
        (["instances_Train", "instances_Test", "instances_Validation"], "Train", "Validation"),
        (["annotations/instances_Train", "annotations/instances_Validation"], "Train", "Validation"),
        (["annotations_train", "annotations_val"], "train", "val"),
        (["train_coco", "test_coco"], "train", "test"),
        (["train_annotations", "valid_annotations", "test_annotations"], "train", "valid"),
        (["Annotations/instances_train2017", "Annotations/instances_val2017"], "train", "val"),
        (["coco_annotations_trn", "coco_annotations_dev"], "trn", "dev"),
        (["instances_TRAINING", "instances_VALIDATION", "instances_TESTING"], "TRAINING", "VALIDATION"),
        (["labels.train", "labels.val"], "train", "val"),
        (["train/labels", "val/labels", "test/labels"], "train", "val"),
        (["train/annotations/instances_default", "test/annotations/instances_default"], "train", "test"),
        (["annotations/train/a", "annotations/valid/a"], "train", "valid"),
        (["Train/_annotations.coco", "Valid/_annotations.coco"], "Train", "Valid"),
        (["labels"], "labels:train", "labels:val"),
        (["annotations/instances_default"], "default:train", "default:val"),
        (["train"], "train:train", "train:val"),
    ],
)
def test_roles_of_lists(names: List[str], train: str, val: str, tmp_path: Path) -> None:
    make(tmp_path, [f"{name}.json" for name in names])
    assert len(COCO.lists(tmp_path)) == len(names)
    assert (COCO.default_splits(tmp_path, "train"), COCO.default_splits(tmp_path, "val")) == (train, val)


@pytest.mark.parametrize(
    "names",
    [["instances_Test"], ["test_coco", "validation_coco"], ["first", "second"], ["train_a", "train_b"]],
)
def test_unclear_roles_are_refused(names: List[str], tmp_path: Path) -> None:
    make(tmp_path, [f"{name}.json" for name in names])
    with pytest.raises(DataError, match="--train-splits"):
        COCO.default_splits(tmp_path, "train")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train2014.json", "train2017.json"], {"train2014", "train2017"}),
        (["train_coco.json", "annotations_train.json"], {"train_coco", "annotations_train"}),
        (["train.json", "annotations/train.json"], {"train", "annotations_train"}),
        (["train/a.json", "train/b.json"], {"a", "b"}),
    ],
)
def test_files_of_the_same_name_are_all_lists(names: List[str], expected: Any, tmp_path: Path) -> None:
    make(tmp_path, names)
    lists = COCO.lists(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in lists.values()} == set(names)
    assert set(lists) == expected


def test_copy_of_a_file_is_one_list(tmp_path: Path) -> None:
    make(tmp_path, ["train.json", "annotations/instances_train.json", "val.json"], [0, 0, 1])
    assert list(COCO.lists(tmp_path)) == ["train", "val"]


def test_companion_files_are_no_lists(tmp_path: Path) -> None:
    make(tmp_path, ["train.json", "._train.json", ".val.json", "VAL.JSON"])
    assert set(COCO.lists(tmp_path)) == {"train", "VAL"}


@pytest.mark.parametrize(
    ("names", "lists"),
    [
        (["annotations_train.csv", "annotations_test.csv"], ["test", "train"]),
        (["train_labels.csv", "Test_Labels.CSV"], ["Test", "train"]),
        (["csv/train.csv", "csv/val.csv"], ["train", "val"]),
        (["train/_annotations.csv", "valid/_annotations.csv"], ["train", "valid"]),
    ],
)
def test_names_for_any_format(names: List[str], lists: List[str], tmp_path: Path) -> None:
    make(tmp_path, names)
    found: Dict[str, Path] = find_lists(tmp_path, "*.csv", "$^", "_annotations.csv", lambda path: True)
    assert sorted(found) == lists
