"""COCO JSON as many tools write it: boxes and images, with the values that are read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, List, Sequence

import numpy as np
import pytest
from helpers.coco import (
    COCO,
    HEIGHT,
    WIDTH,
    Content,
    annotation,
    boxes,
    content_of,
    image,
    read,
    read_box,
    write_images,
)
from helpers.datasets import codes

from mnssd.data.annotations.coco_masks import mask_box

# ---- boxes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bbox",
    [["10", "20", "30", "40"], "[10, 20, 30, 40]", "10,20,30,40", "10 20 30 40", [10.0, " 20.0", 3e1, 40]],
)
def test_box_as_text_is_read(bbox: Any, tmp_path: Path) -> None:
    dataset = read_box(tmp_path, bbox=bbox)
    assert boxes(dataset) == [[10, 20, 39, 59]]
    assert not codes(dataset) - {"class-unused"}


@pytest.mark.parametrize(
    "segmentation",
    [
        [[10, 20, 40, 20, 40, 60, 10, 60]],
        [[10, 20, 25, 60, 20, 30], [40, 30, 30, 30, 35, 50]],
        [10, 20, 40, 20, 40, 60],
        [[10, 20], [40, 60], [30, 30]],
        [[[10, 20], [40, 60], [30, 30]]],
        [["10", "20", "40", "20", "40", "60.0"]],
    ],
)
@pytest.mark.parametrize("bbox", [None, [], "", [0, 0, 0, 0]])
def test_polygons_without_box_give_the_box(bbox: Any, segmentation: Any, tmp_path: Path) -> None:
    dataset = read_box(tmp_path, bbox=bbox, segmentation=segmentation)
    assert boxes(dataset) == [[10, 20, 39, 59]]
    assert not codes(dataset) - {"class-unused"}


def test_box_wins_over_segmentation(tmp_path: Path) -> None:
    assert boxes(read_box(tmp_path, segmentation=[[0, 0, 50, 0, 50, 50]])) == [[10, 20, 39, 59]]


def runs_of(mask: np.ndarray) -> List[int]:
    """Uncompressed counts, by columns, from background."""
    flat = np.concatenate([[0], mask.T.ravel(), [1 - mask.T.ravel()[-1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], ends])).astype(int).tolist()


def test_uncompressed_masks_give_their_boxes(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:60, 10:40] = 1
    mask[30:40, 15:20] = 0
    dataset = read_box(tmp_path, bbox=None, segmentation={"size": [HEIGHT, WIDTH], "counts": runs_of(mask)})
    assert boxes(dataset) == [[10, 20, 39, 59]]


def test_masks_agree_with_pycocotools() -> None:
    encoder = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = map(int, rng.integers(1, 30, 2))
        mask = (rng.random((height, width)) < rng.choice([0.02, 0.3, 0.9])).astype(np.uint8)
        mask[rng.integers(height), rng.integers(width)] = 1
        encoded = encoder.encode(np.asfortranarray(mask))
        expected = tuple(encoder.toBbox(encoded))
        for counts in (encoded["counts"].decode(), runs_of(mask)):
            assert mask_box({"size": [height, width], "counts": counts}, "", (width, height)) == expected


@pytest.mark.parametrize(
    ("segmentation", "code"),
    [
        (None, "box-missing"),
        ([], "box-missing"),
        ([[1, 2, 3]], "polygon-invalid"),
        ([[10, 20, 30, 40]], "polygon-invalid"),  # perhaps a box
        ([["a", "b", "c", "d", "e", "f"]], "polygon-invalid"),
        ([[1, 2, 3, 4, float("nan"), 6]], "polygon-invalid"),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 5]}, "polygon-invalid"),
        ({"size": [WIDTH, HEIGHT], "counts": [5, WIDTH * HEIGHT - 5]}, "polygon-invalid"),  # width first
        ({"size": [HEIGHT, WIDTH], "counts": "no mask"}, "polygon-invalid"),
        ({"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT]}, "box-without-area"),
        ({}, "box-missing"),
        ([[0.1, 0.1, 0.5, 0.5, 0.1, 0.5]], "boxes-normalized"),
    ],
)
def test_annotation_without_usable_box_is_an_error(segmentation: Any, code: str, tmp_path: Path) -> None:
    dataset = read_box(tmp_path, bbox=None, segmentation=segmentation)
    assert boxes(dataset) == []
    assert [f.level for f in dataset.findings if f.code == code] == ["error"]


@pytest.mark.parametrize(
    "bbox", ["ten, 20, 30, 40", "10,20,30", ["1_0", 20, 30, 40], [None] * 4, 7, {"x": 10}]
)
def test_box_that_is_no_box_is_an_error(bbox: Any, tmp_path: Path) -> None:
    dataset = read_box(tmp_path, bbox=bbox, segmentation=[[0, 0, 9, 0, 9, 9]] if bbox == [None] * 4 else None)
    assert boxes(dataset) == []
    assert codes(dataset) - {"class-unused"} <= {"box-not-numeric", "box-missing"}
    assert sum(finding.level == "error" for finding in dataset.findings) == 1


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        ("0", False),
        ("1", True),
        ("false", False),
        ("True", True),
        ("", False),
        (0, False),
        (1, True),
        (True, True),
    ],
)
def test_crowd_as_text(value: Any, flag: bool, tmp_path: Path) -> None:
    (sample,) = read_box(tmp_path, iscrowd=value)
    assert sample.difficult.tolist() == [flag]


def corners(rows: Sequence[Sequence[float]]) -> Content:
    return content_of([image(1)], [annotation(i, bbox=list(row)) for i, row in enumerate(rows)])


@pytest.mark.parametrize(
    ("rows", "suspected"),
    [
        ([[10, 20, 90, 70], [50, 40, 99, 79], [1, 1, 5, 5]], True),
        ([[60, 10, 100, 80], [10, 60, 40, 80], [2, 3, 30, 30], [5, 5, 20, 20]], True),
        ([[10, 20, 90, 60]] * 2 + [[60, 50, 100, 80]], True),
        ([[10, 20, 30, 40], [50, 40, 49, 39], [60, 10, 20, 20]], False),  # x, y, width, height
        ([[1, 1, 50, 50], [2, 2, 60, 60]], False),  # fit both ways
        ([[10, 20, 30, 40]] * 9 + [[20, 20, 90, 60]], False),  # one over the edge
    ],
)
def test_boxes_given_as_corners_are_an_error(
    rows: List[List[float]], suspected: bool, tmp_path: Path
) -> None:
    write_images(tmp_path)
    dataset = read(tmp_path, corners(rows))
    assert [f.level for f in dataset.findings if f.code == "boxes-as-corners"] == ["error"] * suspected
    findings = [*dataset.findings, *COCO.check(dataset)]
    assert [f.code for f in findings].count("boxes-as-corners") == suspected


# ---- images ------------------------------------------------------------------------------------------------


def test_several_entries_for_one_image_are_joined(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png")
    places = [[5 * i, 3 * i, 20, 10] for i in range(8)]
    images = [image(i, "a.png" if i % 2 else "b.png") for i in range(8)]
    dataset = read(tmp_path, content_of(images, [annotation(i, i, bbox=row) for i, row in enumerate(places)]))
    assert [sample.image_id for sample in dataset] == ["b", "a"]
    for sample, first in zip(dataset, (0, 1)):
        assert sample.boxes.tolist() == [[x, y, x + 19, y + 9] for x, y, _, _ in places[first::2]]
    assert Counter(f.code for f in dataset.findings)["image-entries-joined"] == 2
    assert not [f for f in dataset.findings if f.level != "note" and f.code != "class-unused"]


@pytest.mark.parametrize("other", ["./a.png", "images/../a.png", "A.PNG", "/elsewhere/data/a.png"])
def test_two_names_of_one_file_are_joined(other: str, tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "images/x.png")
    annotations = [annotation(1, 1), annotation(2, 2, bbox=[1, 2, 9, 9])]
    (sample,) = read(tmp_path, content_of([image(1, "a.png"), image(2, other)], annotations))
    assert sample.boxes.tolist() == [[10, 20, 39, 59], [1, 2, 9, 10]]


def test_same_image_entry_twice_and_same_annotation_twice(tmp_path: Path) -> None:
    write_images(tmp_path)
    annotations = [
        annotation(1),
        annotation(1),
        annotation(1, bbox=[1, 2, 9, 9]),
        annotation(2),
        annotation(1),
    ]
    dataset = read(tmp_path, content_of([image(1), image(1)], annotations))
    assert boxes(dataset) == [[10, 20, 39, 59], [1, 2, 9, 10], [10, 20, 39, 59]]
    counts = Counter(f.code for f in dataset.findings)
    assert (counts["annotation-listed-twice"], counts["image-listed-twice"]) == (2, 1)


def test_annotations_without_or_with_the_same_id_are_kept(tmp_path: Path) -> None:
    write_images(tmp_path)
    rows = [[i, 2 * i, 20, 10] for i in range(30)]
    for number in (0, None):
        dataset = read(tmp_path, content_of([image(1)], [annotation(number, bbox=row) for row in rows]))
        assert len(boxes(dataset)) == 30


def test_id_of_two_images_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, *[f"{i}.png" for i in range(1, 7)])
    images = [*(image(i) for i in range(1, 6)), image(1, "6.png")]
    dataset = read(tmp_path, content_of(images, [annotation(i, i) for i in range(1, 6)]))
    assert [s.image_id for s in dataset] == ["2", "3", "4", "5"]
    skipped = [f for f in dataset.findings if f.level == "error"]
    assert [(f.file, f.where) for f in skipped] == [
        (str(tmp_path / "all.json"), n) for n in ("1.png", "6.png")
    ]


@pytest.mark.parametrize(
    ("in_image", "in_annotation"), [("7", 7), (7, "7"), (7, 7.0), ("img-7", "img-7"), ("7.0", 7), (0, "0")]
)
def test_ids_as_numbers_and_text(in_image: Any, in_annotation: Any, tmp_path: Path) -> None:
    write_images(tmp_path)
    categories = [{"id": str(in_annotation), "name": "cat"}]
    entry = annotation("x", in_annotation, in_annotation)
    assert boxes(read(tmp_path, content_of([image(in_image, "1.png")], [entry], categories))) == [
        [10, 20, 39, 59]
    ]


def test_ids_that_only_resemble_numbers_are_different(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png")
    images = [image("007", "a.png"), image("7", "b.png")]
    dataset = read(tmp_path, content_of(images, [annotation(1, "007"), annotation(2, 7, bbox=[1, 1, 9, 9])]))
    assert [s.boxes.tolist() for s in dataset] == [[[10, 20, 39, 59]], [[1, 1, 9, 9]]]


@pytest.mark.parametrize(
    "name",
    [
        "photos/a b.png",
        "C:\\data\\photos\\a b.png",
        "/mnt/x/a b.png",
        "photos/a%20b.png",
        "a b.png",
        "http://host/photos/a%20b.png?x=1",
        "a b",
    ],
)
def test_image_is_found_by_its_name(name: str, tmp_path: Path) -> None:
    write_images(tmp_path, "photos/a b.png", "other/c.png")
    dataset = read(tmp_path, content_of([image(1, name)], [annotation(1)]))
    assert [sample.image_path for sample in dataset] == [str(tmp_path / "photos" / "a b.png")]


def test_image_with_an_address_only(tmp_path: Path) -> None:
    write_images(tmp_path, "train2017/0001.png")
    entry = {"id": 1, "coco_url": "http://images.cocodataset.org/train2017/0001.png", "height": "80"}
    (sample,) = read(tmp_path, content_of([{**entry, "width": "100"}], [annotation(1)]))
    assert (Path(sample.image_path).name, sample.size) == ("0001.png", (WIDTH, HEIGHT))
