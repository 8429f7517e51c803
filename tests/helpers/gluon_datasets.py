"""Datasets of Gluon and GluonCV, with the samples of a dataset of ours."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import gluoncv.data as gcv
import numpy as np

from mnssd.data.convert import convert
from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats
from mnssd.data.image import read_image
from mnssd.data.open import open_dataset

SPLIT = "val"


class Items:
    """A user's own dataset: any pairs of an image and a label, and exceptions, which are raised."""

    def __init__(self, items: Sequence[Any], classes: Optional[Sequence[str]] = ("cat", "dog")) -> None:
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


def make_copies(root: str, folder: Path) -> Path:
    """The validation list of a VOC dataset in several formats, every second object difficult.

    Names of classes are in lower case, as GluonCV demands.
    """
    dataset = open_dataset("voc", root, SPLIT)
    samples = [replace(s, difficult=np.arange(len(s.labels)) % 2 == 1) for s in dataset]
    dataset = replace(dataset, samples=samples, classes=tuple(name.lower() for name in dataset.classes))
    for name in ("voc", "coco", "recordio"):
        convert({SPLIT: dataset}, folder / name, formats[name], False)
    (folder / "lst").mkdir()
    shutil.copytree(folder / "voc" / "JPEGImages", folder / "lst" / "images")
    for name in (f"{SPLIT}.lst", "classes.txt"):
        shutil.copy(folder / "recordio" / name, folder / "lst")
    return folder


def subclass(kind: Any, classes: Sequence[str], **methods: Any) -> Any:
    """A subclass of a dataset of GluonCV, as its tutorials write it for other classes."""
    return type("Shapes", (kind,), {"CLASSES": list(classes), **methods})


def voc(folder: Path, classes: Sequence[str], **methods: Any) -> Any:
    return subclass(gcv.VOCDetection, classes, **methods)(root=str(folder), splits=(("voc", SPLIT),))


def _custom_voc(folder: Path, classes: Sequence[str]) -> Any:
    return gcv.CustomVOCDetection(generate_classes=True, root=str(folder / "voc"), splits=(("", SPLIT),))


def _coco(folder: Path, classes: Sequence[str]) -> Any:
    def path(dataset: Any, entry: Dict[str, Any]) -> str:
        return os.path.join(dataset._root, "images", SPLIT, entry["file_name"])

    kind = subclass(gcv.COCODetection, classes, _parse_image_path=path)
    return kind(root=str(folder / "coco"), splits=f"instances_{SPLIT}")


def _lst(folder: Path, classes: Sequence[str]) -> Any:
    return gcv.LstDetection(str(folder / "lst" / f"{SPLIT}.lst"), root=str(folder / "lst" / "images"))


def _record(folder: Path, classes: Sequence[str]) -> Any:
    return gcv.RecordFileDetection(str(folder / "recordio" / f"{SPLIT}.rec"))


def _own(folder: Path, classes: Sequence[str]) -> Any:
    items: List[Tuple[Any, np.ndarray]] = []
    for s in open_dataset("voc", folder / "voc", SPLIT):
        items.append((read_image(s.image_path), np.column_stack([s.boxes, s.labels, s.difficult])))
    return Items(items, classes)


KINDS: Dict[str, Tuple[Callable[[Path, Sequence[str]], Any], str]] = {
    "VOCDetection": (voc, "voc"),
    "CustomVOCDetection": (_custom_voc, "voc"),
    "COCODetection": (_coco, "coco"),
    "LstDetection": (_lst, "lst"),
    "RecordFileDetection": (_record, "recordio"),
    "a user's own": (_own, "voc"),
}
"""By name: a function that makes the dataset, and the folder of our reader's copy."""


def assert_same_objects(dataset: Dataset, expected: Dataset, pixels: bool = True) -> None:
    """Pixels, or the paths of the images, sizes, boxes, labels and flags are equal to the bit."""
    assert dataset.classes == expected.classes
    assert len(dataset) == len(expected) > 0
    for sample, other in zip(dataset, expected):
        if pixels:
            np.testing.assert_array_equal(read_image(sample.image_path), read_image(other.image_path))
        else:
            assert sample.image_path == other.image_path
        assert sample.size == other.size
        for name in ("boxes", "labels", "difficult"):
            value, expected_value = getattr(sample, name), getattr(other, name)
            np.testing.assert_array_equal(value, expected_value)
            assert value.dtype == expected_value.dtype
