"""check-data, --fix and convert-data: nothing is lost or changed without an error or a count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from helpers.small_datasets import (
    HEIGHT,
    WIDTH,
    Box,
    boxes_of,
    check,
    errors,
    fix,
    make_coco,
    make_image,
    make_voc,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.cli.main import main
from mnssd.data.convert import convert
from mnssd.data.dataset import Dataset
from mnssd.data.findings import ERROR, Finding
from mnssd.data.formats import formats, writable_names
from mnssd.data.open import open_dataset, read_lists, usable_for_training
from mnssd.data.unfixed import UNFIXED_FILE, read_unfixed
from mnssd.errors import DataError
from mnssd.validation.fix import fix_dataset

# ---- lists without objects ---------------------------------------------------------------------------------


def test_coco_without_objects_is_an_error(tmp_path: Path) -> None:
    root = make_coco(tmp_path, [[], []])
    result = check(root)[1]
    (finding,) = [finding for finding in result.findings if finding.code == "objects-missing"]
    assert finding.file == "train"
    assert "2 .jpg" in finding.text
    assert main(["check-data", str(root), "--no-estimate"]) == 1


def test_list_without_objects_beside_one_with_objects(tmp_path: Path) -> None:
    root = make_coco(tmp_path, [[[10, 10, 30, 30]]])
    make_coco(root, [[], []], "val")
    assert errors(check(root)[1]) == {"objects-missing"}


def test_voc_list_without_objects_is_checked_with_the_classes_of_the_others(tmp_path: Path) -> None:
    size = (WIDTH, HEIGHT)
    root = make_voc(tmp_path / "a", (size, [(10, 10, 40, 40)], 1), (size, [], 1))
    (root / "ImageSets" / "Main" / "train.txt").write_text("00\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("01\n")
    parts, result = check(root)
    assert parts["val"].classes == ("dog",)
    assert errors(result) == {"objects-missing"}


def test_csv_without_objects_names_what_was_found(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / "train.csv").write_text("filename,class,xmin,ymin,xmax,ymax\na.jpg,,,,,\n")
    with pytest.raises(DataError, match=r"(?s)train.*--classes"):
        check(tmp_path)


# ---- boxes of another frame --------------------------------------------------------------------------------

# The image is stored with 120x80 pixels; EXIF orientation 6 turns it to 80x120.
TURNED = {6: (9, 100, 39, 110), 8: (40, 9, 70, 19), 5: (40, 100, 70, 110), 7: (9, 9, 39, 19)}
UNTURNED: Box = (100, 40, 110, 70)


@pytest.mark.parametrize("orientation", sorted(TURNED))
def test_boxes_before_the_rotation_are_turned(tmp_path: Path, orientation: int) -> None:
    root = make_voc(tmp_path / "a", ((WIDTH, HEIGHT), [UNTURNED, (5, 5, 25, 25)], orientation))
    parts, result = check(root)
    assert "size-swapped" in errors(result)
    assert parts["train"][0].size == (HEIGHT, WIDTH)
    _, fixed, after = fix(root)
    assert errors(after) == set()
    assert fixed["train"][0].boxes[0].tolist() == list(TURNED[orientation])
    assert len(fixed["train"][0].boxes) == 2


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (0, 0)])
def test_boxes_before_the_rotation_with_right_or_missing_size(tmp_path: Path, size: Tuple[int, int]) -> None:
    root = make_voc(tmp_path / "a", (size, [UNTURNED], 6))
    assert "boxes-unrotated" in errors(check(root)[1])
    _, fixed, after = fix(root)
    assert errors(after) == set()
    assert boxes_of(fixed) == [[list(TURNED[6])]]


def test_upside_down_images_ignore_the_rotation_as_the_others(tmp_path: Path) -> None:
    size = (WIDTH, HEIGHT)
    root = make_voc(tmp_path / "a", (size, [UNTURNED], 6), (size, [(0, 0, 20, 10)], 3))
    parts, result = check(root)
    files = {f.file for f in result.findings if f.code == "boxes-unrotated"}
    assert files == {parts["train"][1].image_path}
    assert boxes_of(fix(root)[1])[1] == [[WIDTH - 21, HEIGHT - 11, WIDTH - 1, HEIGHT - 1]]


@pytest.mark.parametrize(
    "images",
    [
        [((WIDTH, HEIGHT), [(5.0, 5.0, 25.0, 25.0)], 6)],  # fits both
        [((WIDTH, HEIGHT), [UNTURNED], 6), ((WIDTH, HEIGHT), [(5, 90, 25, 110)], 6)],  # one of each
        [((60, 40), [(5, 5, 130, 60)], 1)],  # a wrong size, and a box that does not fit the image
        [((60, 40), [(5, 5, 30, 30)], 1), ((240, 160), [(150, 5, 200, 60)], 1)],
    ],
)
def test_boxes_in_doubt_stay_errors_in_the_copy(tmp_path: Path, images: Any) -> None:
    root = make_voc(tmp_path / "a", *images)
    before = errors(check(root)[1])
    assert before & {"size-swapped", "size-differs"}
    copy, fixed, after = fix(root)
    assert "not-fixed" in errors(after)
    raw = [sample.original.boxes if sample.original else sample.boxes for sample in fixed["train"]]
    for boxes, (_, expected, _) in zip(raw, images):
        np.testing.assert_allclose(boxes, expected, atol=0.01)
    assert main(["check-data", str(copy), "--no-estimate"]) == 1


def test_training_leaves_out_images_whose_boxes_are_in_doubt(tmp_path: Path) -> None:
    right, wrong = ((WIDTH, HEIGHT), [(5, 5, 30, 30)], 1), ((60, 40), [(5, 5, 130, 60)], 1)
    few = open_dataset("auto", make_voc(tmp_path / "few", right, wrong, right), "train")
    kept = usable_for_training(few)
    assert [sample.image_id for sample in kept] == [few[0].image_id, few[2].image_id]
    assert len(kept.notes) == len(few.notes) + 1
    many = open_dataset("auto", make_voc(tmp_path / "many", wrong, right, wrong), "train")
    with pytest.raises(DataError, match="many"):
        usable_for_training(many)


def test_wrong_size_is_an_error_and_conversion_uses_that_of_the_image(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "a", ((2 * WIDTH, 2 * HEIGHT), [(10, 20, 49, 59)], 1))
    parts, result = check(root)
    assert errors(result) == {"size-differs"}
    for name in ("yolo", "recordio", "coco", "csv"):
        convert(parts, tmp_path / name, formats[name], False)
        read = read_lists(formats[name], tmp_path / name)
        assert boxes_of(read) == [[[10, 20, 49, 59]]]
        assert read["train"][0].size == (WIDTH, HEIGHT)
    assert (tmp_path / "yolo/labels/train/00.txt").read_text().split()[1:4:2] == ["0.25", f"{1 / 3:.9g}"]
    _, fixed, after = fix(root)
    assert errors(after) == set()
    assert (boxes_of(fixed), fixed["train"][0].size) == ([[[10, 20, 49, 59]]], (WIDTH, HEIGHT))


def test_wrong_size_without_objects_is_no_error(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "a", ((WIDTH, HEIGHT), [(10, 20, 49, 59)], 1), ((10, 10), [], 1))
    assert errors(check(root)[1]) == set()


def test_corners_of_a_whole_file_are_converted(tmp_path: Path) -> None:
    corners = [[[10, 10, 110, 70], [60, 30, 100, 60]], [[80, 40, 119, 79]]]
    root = make_coco(tmp_path / "a", corners)
    assert "boxes-as-corners" in errors(check(root)[1])
    with pytest.raises(DataError, match="check-data"):
        usable_for_training(open_dataset("coco", root, "train"))
    _, fixed, after = fix(root)
    assert errors(after) == set()
    assert boxes_of(fixed) == [[[a, b, c - 1, d - 1] for a, b, c, d in boxes] for boxes in corners]


def test_corners_beside_other_boxes_stay_errors(tmp_path: Path) -> None:
    values = [[[10, 10, 110, 70], [60, 30, 100, 60]], [[80, 40, 119, 79], [70, 50, 20, 20]]]
    root = make_coco(tmp_path / "a", values)
    before = errors(check(root)[1])
    assert before
    copy, _, after = fix(root)
    assert before <= errors(after)
    content = json.loads((copy / "annotations/instances_train.json").read_text())
    assert [a["bbox"] for a in content["annotations"]] == [box for boxes in values for box in boxes]


def test_many_boxes_beyond_the_images_are_an_error(tmp_path: Path) -> None:
    boxes = [(60.0, 40.0, 160.0, 100.0 + n) for n in range(5)]
    root = make_voc(tmp_path / "a", ((0, 0), boxes, 1))
    assert errors(check(root)[1]) == {"boxes-exceed"}
    _, fixed, after = fix(root)
    assert {"boxes-exceed", "not-fixed"} <= errors(after)
    original = fixed["train"][0].original
    assert original is not None
    np.testing.assert_allclose(original.boxes, boxes)


# ---- what a copy cannot contain ----------------------------------------------------------------------------


@pytest.mark.parametrize("box", [[50, 50, -20, 20], ["a", 1, 2, 3], [150, 150, 20, 20]])
def test_lost_boxes_stay_errors_in_copies(tmp_path: Path, box: List[Any]) -> None:
    root = make_coco(tmp_path / "a", [[[10, 10, 30, 30], box], [[5, 5, 20, 20]]])
    before = errors(check(root)[1])
    assert before
    assert errors(fix(root)[2])
    parts = read_lists(formats["coco"], root)
    convert(parts, tmp_path / "yolo", formats["yolo"], False)
    assert errors(check(tmp_path / "yolo")[1])


def test_errors_of_the_original_are_reported_by_copies_of_copies(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "a", [[[10, 10, 30, 30], [50, 50, -20, 20]], [[5, 5, 20, 20]]])
    copy = fix(root)[0]
    second, _, result = fix(copy)
    (first,) = read_unfixed(copy)
    (last,) = [finding for finding in result.findings if finding.code == "not-fixed"]
    assert (last.file, last.text) == (str(second / UNFIXED_FILE), first.text)
    assert str(root) in last.text
    assert any(str(root) in note for note in open_dataset("auto", second, "train").notes)
    (second / UNFIXED_FILE).write_text("{")
    with pytest.raises(DataError, match=UNFIXED_FILE):
        read_unfixed(second)


def test_identical_images_with_different_boxes_are_both_kept(tmp_path: Path) -> None:
    size = (WIDTH, HEIGHT)
    root = make_voc(tmp_path / "a", *[(size, [(10, 10, 40, 40 + n)], 1) for n in (0, 0, 5)])
    for name in ("01", "02"):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes((root / "JPEGImages" / "00.jpg").read_bytes())
    assert boxes_of(fix(root)[1]) == [[[10, 10, 40, 40]], [[10, 10, 40, 45]]]


# ---- property ----------------------------------------------------------------------------------------------

coordinates = st.floats(-30, 150, width=32)
any_box = st.tuples(coordinates, coordinates, coordinates, coordinates)


def counted(findings: Sequence[Finding]) -> bool:
    return any(finding.code.startswith(("box-", "boxes-", "size-", "not-fixed")) for finding in findings)


def assert_nothing_lost(before: Dataset, after: Dataset, findings: Sequence[Finding]) -> None:
    """Every box of each image is there, within .01 pixel, or there is a finding about boxes."""
    if counted(findings):
        return
    for old, new in zip(before, after):
        assert [before.classes[n] for n in old.labels] == [after.classes[n] for n in new.labels]
        np.testing.assert_allclose(new.boxes, old.boxes, atol=0.01)


@given(
    st.lists(st.lists(any_box, max_size=3), min_size=1, max_size=3),
    st.sampled_from([None, (WIDTH, HEIGHT), (HEIGHT, WIDTH), (60, 40)]),
    st.sampled_from([1, 3, 6]),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_nothing_is_lost_or_changed_without_a_count(
    tmp_path_factory: Any, images: List[List[Box]], size: Optional[Tuple[int, int]], orientation: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    root = make_voc(tmp_path / "voc", *[(size or (0, 0), boxes, orientation) for boxes in images])
    try:
        source, result = check(root)
    except DataError:
        return  # no usable box at all
    found = [finding for finding in result.findings if finding.level == ERROR]
    annotated = sum(map(len, images))
    lost = annotated - sum(len(sample.labels) for sample in source["train"])
    assert lost <= sum(finding.code.startswith(("box-", "boxes-")) for finding in found)
    for name in writable_names():
        convert(source, tmp_path / name / "there", formats[name], True)
        there = read_lists(formats[name], tmp_path / name / "there")
        assert_nothing_lost(source["train"], there["train"], there["train"].findings)
        convert(there, tmp_path / name / "back", formats["voc"], True)
        back = read_lists(formats["voc"], tmp_path / name / "back")
        assert_nothing_lost(source["train"], back["train"], back["train"].findings)
        codes = errors(result) - {"objects-missing", "image-in-two-lists", "boxes-exceed"}
        if codes:
            assert any(finding.level == ERROR for finding in back["train"].findings), codes
    dataset_format = formats["voc"]
    fixed, changes = fix_dataset(dataset_format, source, result, "train")
    convert(fixed, tmp_path / "fixed", dataset_format, True)
    after = check(tmp_path / "fixed")[1]
    if lost and not any("rotated" in change for change in changes):
        assert errors(after)
