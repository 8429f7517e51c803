"""YOLO datasets as tools and people write them: rows with keypoints or polygons, places of label files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Set

import numpy as np
import pytest
from helpers.yolo_files import BOX, CORNERS, dataset, image, text

from mnssd.data.annotations.yolo_labels import parse_row, pose_columns
from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats
from mnssd.errors import DataError

YOLO = formats["yolo"]


def edges(data: Dataset) -> List[List[float]]:
    """Edges of all boxes, the right and lower ones exclusive."""
    return [[*box[:2], box[2] + 1, box[3] + 1] for sample in data for box in sample.boxes.tolist()]


def codes(data: Dataset) -> Set[str]:
    return {finding.code for finding in data.findings} - {"class-unused"}


# ---- keypoints, polygons, scores ---------------------------------------------------------------------------

POSE = "0 0.68085 0.5952 0.2037 0.0726 "
POSE_2D = POSE + "0.6 0.57 0.65 0.58 0.7 0.6 0.75 0.61 0.77 0.62 0.62 0.6 0.66 0.59 0.71 0.58"
POSE_3D = POSE + "0.6 0.57 2 0.65 0.58 1 0.7 0.6 2 0 0 0 0.77 0.62 1"
POSE_OF_FOUR = POSE + "0.6 0.57 1 0.65 0.58 1 0.7 0.6 1 0.77 0.62 1"
POSE_OF_TWO = POSE + "0.6 0.57 0.75 0.6"


@pytest.mark.parametrize("row", [POSE_2D, POSE_3D, POSE_OF_FOUR, POSE_OF_TWO])
def test_box_of_rows_with_keypoints(row: str, tmp_path: Path) -> None:
    data = YOLO.read(dataset(tmp_path, {"a": row, "b": row}), "train")
    np.testing.assert_allclose(edges(data), [[579, 558.9, 782.7, 631.5]] * 2, atol=0.01)
    assert not codes(data)


@pytest.mark.parametrize(("row", "shape"), [(POSE_3D, "[5, 3]"), (POSE_2D, "[8, 2]")])
def test_keypoint_shape_decides(row: str, shape: str, tmp_path: Path) -> None:
    rows = {"a": row, "b": BOX, "c": "0 0.1 0.1 0.2 0.1 0.2 0.3"}
    data = YOLO.read(dataset(tmp_path, rows, f"kpt_shape: {shape}\n"), "train")
    np.testing.assert_allclose(edges(data), [[579, 558.9, 782.7, 631.5], [300, 400, 700, 600]], atol=0.01)
    assert codes(data) == {"columns-unexpected"}


@pytest.mark.parametrize(
    ("row", "box"),
    [
        ("0 0.1 0.1 0.3 0.15 0.25 0.4 0.12 0.3", [100, 100, 300, 400]),
        ("0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5", [400, 400, 600, 600]),  # a rotated box
        ("0 0.45 0.45 0.55 0.45 0.55 0.55 0.45 0.55", [450, 450, 550, 550]),
        ("0 0.25 0.25 0.75 0.25 0.5 0.75", [250, 250, 750, 750]),
        ("0 0.5 0.4 0.6 0.45 0.62 0.5 0.6 0.55 0.5 0.6 0.4 0.55 0.38 0.5 0.4 0.45", [380, 400, 620, 600]),
    ],
)
def test_box_of_polygons(row: str, box: List[float], tmp_path: Path) -> None:
    data = YOLO.read(dataset(tmp_path, {"a": row, "b": row}), "train")
    np.testing.assert_allclose(edges(data), [box] * 2, atol=0.01)


def rows_of(shape: Callable[[np.random.Generator], np.ndarray], count: int = 100) -> List[Any]:
    rng = np.random.default_rng(0)
    return [parse_row("0 " + " ".join(f"{value:.5f}" for value in shape(rng).ravel())) for _ in range(count)]


def outline(rng: np.random.Generator, points: int) -> np.ndarray:
    """A polygon around a center: small or large, anywhere in the image."""
    radius = rng.uniform(0.02, 0.4)
    center = rng.uniform(radius, 1 - radius, 2)
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False) + rng.uniform(0, 7)
    distances = radius * rng.uniform(0.7, 1, points)
    return center + np.stack([np.cos(angles), np.sin(angles)], 1) * distances[:, None]


def rotated_box(rng: np.random.Generator) -> np.ndarray:
    angle, (width, height) = rng.uniform(0, 7), rng.uniform(0.02, 0.3, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return 0.5 + rng.uniform(-0.2, 0.2, 2) + corners @ turn


def pose(rng: np.random.Generator, points: int, flags: bool = False) -> np.ndarray:
    size = rng.uniform(0.05, 0.9, 2)
    center = rng.uniform(size / 2, 1 - size / 2)
    places = center + size * rng.uniform(-0.5, 0.5, (points, 2))
    if flags:
        places = np.column_stack([places, rng.integers(1, 3, points)])
    return np.concatenate([center, size, places.ravel()])


def test_sets_of_rows_are_told_apart() -> None:
    for points in (4, 5, 6, 12, 30):
        assert pose_columns(rows_of(lambda rng, n=points: outline(rng, n)), None, "") == 0
    mixed = rows_of(lambda rng: outline(rng, int(rng.integers(3, 40))))
    assert pose_columns(mixed, None, "") == 0
    assert pose_columns(rows_of(rotated_box), None, "") == 0
    for points in (1, 2, 4, 5, 17):
        for flags in (False, True) if points > 1 else (True,):
            rows = rows_of(lambda rng, n=points, f=flags: pose(rng, n, f))
            assert pose_columns(rows, None, "") == 5 + points * (2 + flags)


def test_rows_that_may_be_both_are_refused_and_kpt_shape_helps(tmp_path: Path) -> None:
    row = "0 0.4 0.4 0.5 0.41 0.5 0.49 0.42 0.52"  # a quadrilateral, or a box with two points
    dataset(tmp_path, {"a": row})
    with pytest.raises(DataError, match="kpt_shape") as error:
        YOLO.read(tmp_path, "train")
    assert str(tmp_path) in str(error.value)
    for shape, box in (("[0, 0]", [400, 400, 500, 520]), ("[2, 2]", [150, 195, 650, 605])):
        data = YOLO.read(dataset(tmp_path, {"a": row}, f"kpt_shape: {shape}\n"), "train")
        np.testing.assert_allclose(edges(data), [box], atol=0.01)


@pytest.mark.parametrize(
    "row",
    [
        "0 0.1 0.2 0.5 0.9",  # corners
        "0 0.5 0.5 0.2 0.2 45",  # an angle
        "0 0.93 0.8 0.5 0.3 0.4",  # the score first
    ],
)
def test_other_orders_of_numbers_are_refused(row: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        YOLO.read(dataset(tmp_path, {"a": row, "b": row}), "train")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("0 500 500 400 200", "boxes-in-pixels"),
        ("0 500 500 400 1", "boxes-in-pixels"),
        ("0 10 10 90 10 90 90", "boxes-in-pixels"),
        ("cat 0.5 0.5 0.4 0.2", "box-not-numeric"),
        ("0 0,5 0,5 0,4 0,2", "box-not-numeric"),
        ("0 a b c d", "box-not-numeric"),
    ],
)
def test_boxes_in_pixels_or_as_text_are_counted(row: str, code: str, tmp_path: Path) -> None:
    data = YOLO.read(dataset(tmp_path, {"a": row, "b": BOX}, names="[cat]"), "train")
    assert [(f.code, f.level, f.where) for f in data.findings] == [(code, "error", "line 1")]
    assert edges(data) == [[300, 400, 700, 600]]


@pytest.mark.parametrize(
    "row", ["0,0.5,0.5,0.4,0.2", "0; 0.5; 0.5; 0.4; 0.2", "0\t0.5\t0.5\t0.4\t0.2", "0.0 .5 .5 4e-1 .2 .99"]
)
def test_other_separators(row: str, tmp_path: Path) -> None:
    assert edges(YOLO.read(dataset(tmp_path, {"a": row}), "train")) == [[300, 400, 700, 600]]


# ---- label files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_name", "labels"),
    [
        ("images/train/a.png", "annotations/a.txt"),
        ("images/train/a.png", "yolo/train/deep/A.txt"),
        ("images/train/a.png", "images/train/labels/a.txt"),
        ("images/train/a.png", "txt/a.png.txt"),
        ("images/train/a.png", "Labels/train/a.TXT"),
    ],
)
def test_labels_in_other_folders(image_name: str, labels: str, tmp_path: Path) -> None:
    image(tmp_path / image_name)
    text(tmp_path / labels, BOX)
    text(tmp_path / "data.yaml", "train: images/train\nnames: [cat]")
    assert [sample.boxes.tolist() for sample in YOLO.read(tmp_path, "train")] == [[CORNERS]]


def test_labels_of_another_list_or_image_are_not_taken(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "val/a"):
        image(tmp_path / f"photos/{name}.png")
    text(tmp_path / "texts/val/a.txt", BOX)
    text(tmp_path / "texts/train/b.txt", BOX)
    text(tmp_path / "data.yaml", "train: photos/train\nval: photos/val\nnames: [cat]")
    assert [len(sample.labels) for sample in YOLO.read(tmp_path, "train")] == [0, 1]
    assert [len(sample.labels) for sample in YOLO.read(tmp_path, "val")] == [1]
    for name in ("x/c", "y/c"):
        image(tmp_path / f"photos/all/{name}.png")
    text(tmp_path / "texts/y/c.txt", BOX)
    text(tmp_path / "data.yaml", "all: photos/all\nnames: [cat]")
    assert [len(sample.labels) for sample in YOLO.read(tmp_path, "all")] == [0, 1]


def test_two_label_files_for_an_image_are_an_error(tmp_path: Path) -> None:
    for name in "abc":
        image(tmp_path / f"photos/{name}.png")
        text(tmp_path / f"one/{name}.txt", BOX)
    text(tmp_path / "two/a.txt", "0 0.5 0.5 0.1 0.1")
    text(tmp_path / "captions/b.txt", "a cat on a mat")
    text(tmp_path / "data.yaml", "train: photos\nnames: [cat]")
    data = YOLO.read(tmp_path, "train")
    assert [sample.image_id for sample in data] == ["b", "c"]
    assert codes(data) == {"annotation-unreadable"}


@pytest.mark.parametrize("other", ["", "annotations/a.json", "labels/a.xml"])
def test_list_without_label_files_is_refused(other: str, tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    text(tmp_path / "data.yaml", "train: images\nnames: [cat]")
    if other:
        text(tmp_path / other, "{}")
    with pytest.raises(DataError, match=str(tmp_path)):
        YOLO.read(tmp_path, "train")


def test_other_lists_tell_what_a_small_list_has(tmp_path: Path) -> None:
    unclear = "0 0.4 0.4 0.5 0.41 0.5 0.49 0.42 0.52"
    dataset(
        tmp_path, {"a": "0 0.8 0.8 0.9 0.82 0.87 0.9 0.81 0.91", "b": "0 0.1 0.8 0.2 0.8 0.3 0.9 0.12 0.95"}
    )
    image(tmp_path / "images/val/c.png", 1000)
    text(tmp_path / "labels/val/c.txt", unclear)
    text(tmp_path / "data.yaml", "train: images/train\nval: images/val\nnames: [cat]")
    np.testing.assert_allclose(edges(YOLO.read(tmp_path, "val")), [[400, 400, 500, 520]], atol=0.01)
