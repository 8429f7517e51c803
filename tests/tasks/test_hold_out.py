"""Images to validate on are held out without being asked for if a dataset has one list only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
from helpers.small_datasets import make_coco, make_voc

from mnssd.tasks.detection import _open_datasets
from mnssd.train.options import DetectionOptions

IMAGES = 20


def make(kind: str, root: Path) -> str:
    if kind == "voc":
        make_voc(root, *[((120, 80), [(10.0, 10.0, 40.0, 40.0)], 1)] * IMAGES)
    else:
        root.mkdir()
        make_coco(root, [[[10, 10, 30, 30]]] * IMAGES)
    return str(root)


@pytest.mark.parametrize("kind", ["coco", "voc"])
@pytest.mark.parametrize("given", [{}, {"train_splits": "train"}, {"train_splits": "train", "hold_out": 0.1}])
def test_validation_images_are_not_trained_on(kind: str, given: Dict[str, Any], tmp_path: Path) -> None:
    options = DetectionOptions(dataset="auto", data_root=make(kind, tmp_path / "data"), **given)
    train, val = _open_datasets(options, validate=True)
    assert val is not None
    ids = [{sample.image_id for sample in part} for part in (train, val)]
    assert (len(train), len(val)) == (18, 2)
    assert not ids[0] & ids[1]
    assert str(len(val)) in val.name


@pytest.mark.parametrize(
    ("given", "validate", "images"),
    [
        ({"train_splits": "train"}, False, 20),
        ({"train_splits": "train", "val_splits": "train"}, True, 20),  # as the user says
        ({"train_splits": "train:train", "val_splits": "train:val"}, True, 18),
    ],
)
def test_named_lists_are_used_as_they_are(
    given: Dict[str, Any], validate: bool, images: int, tmp_path: Path
) -> None:
    options = DetectionOptions(dataset="coco", data_root=make("coco", tmp_path / "data"), **given)
    assert len(_open_datasets(options, validate)[0]) == images


def test_list_with_others_to_validate_on_is_whole(shapes: str) -> None:
    options = DetectionOptions(dataset="shapes", data_root=shapes, train_splits="train")
    train, val = _open_datasets(options, validate=True)
    assert val is not None
    assert (len(train), len(val)) == (24, 8)
