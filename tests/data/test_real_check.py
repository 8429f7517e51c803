"""check-data, --fix and convert-data: nothing is lost or changed without an error or a count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnssd.cli.main import main
from mnssd.data.annotations.voc_xml import write_annotation
from mnssd.data.convert import convert
from mnssd.data.dataset import Dataset
from mnssd.data.findings import ERROR, Finding, listed
from mnssd.data.formats import formats, writable_names
from mnssd.data.open import open_dataset, read_lists, recognize, require_objects
from mnssd.data.sample import Sample
from mnssd.data.unfixed import UNFIXED_FILE, read_unfixed
from mnssd.errors import DataError
from mnssd.validation.check import CheckResult, check_dataset
from mnssd.validation.fix import fix_dataset

ANCHORS = np.array([[50, 50, 30, 30]], np.float32)
WIDTH, HEIGHT = 120, 80

Box = Tuple[float, float, float, float]


def make_image(path: Path, size: Tuple[int, int] = (WIDTH, HEIGHT), exif: int = 1, seed: int = 0) -> Path:
    """Write an image of random colors with the stored `size` and an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    tags = Image.Exif()
    tags[0x0112] = exif
    Image.fromarray(pixels).save(path, exif=tags)
    return path


def make_voc(root: Path, *images: Tuple[Tuple[int, int], List[Box], int]) -> Path:
    """VOC folder; each image has an annotated size, boxes counted from 0, and an EXIF orientation."""
    ids = []
    for number, (size, boxes, exif) in enumerate(images):
        ids.append(f"{number:02}")
        make_image(root / "JPEGImages" / f"{ids[-1]}.jpg", exif=exif, seed=number)
        (root / "Annotations").mkdir(exist_ok=True)
        path = root / "Annotations" / f"{ids[-1]}.xml"
        write_annotation(path, f"{ids[-1]}.jpg", size, ["dog"] * len(boxes), boxes)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(ids))
    return root


def make_coco(root: Path, images: Sequence[List[List[float]]], name: str = "train", **more: Any) -> Path:
    """COCO file of a list whose images have the given ``bbox`` values."""
    entries, annotations = [], []
    for number, boxes in enumerate(images):
        make_image(root / "images" / name / f"{name}{number}.jpg", seed=number + sum(map(ord, name)))
        entries.append({"id": number, "file_name": f"{name}{number}.jpg", "width": WIDTH, "height": HEIGHT})
        for box in boxes:
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 1, "bbox": box})
    content = {
        "images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "dog"}], **more
    }  # fmt: skip
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return root


def check(root: Path) -> Tuple[Dict[str, Dataset], CheckResult]:
    dataset_format = recognize(root)[0]
    parts = read_lists(dataset_format, root)
    return parts, check_dataset(dataset_format, root, parts, next(iter(parts)), (96, 96), ANCHORS, workers=1)


def errors(result: CheckResult) -> Set[str]:
    return {finding.code for finding in result.findings if finding.level == ERROR}


def fix(root: Path) -> Tuple[Path, Dict[str, Dataset], CheckResult]:
    """The fixed copy, its lists and what is still wrong with it."""
    dataset_format = recognize(root)[0]
    parts, result = check(root)
    fixed, _ = fix_dataset(dataset_format, parts, result, next(iter(parts)))
    copy = root.with_name(f"{root.name}-fixed")
    convert(fixed, copy, dataset_format, False)
    return (copy, *check(copy))


def boxes_of(parts: Dict[str, Dataset], split: str = "train") -> List[List[List[float]]]:
    return [np.round(sample.boxes, 2).tolist() for sample in parts[split]]


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
    with pytest.raises(DataError, match="check-data"):
        require_objects(open_dataset("auto", root, "train"))


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
