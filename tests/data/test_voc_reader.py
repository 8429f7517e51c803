"""Reading and writing the VOC layout: samples, boxes, classes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, List, Sequence

import numpy as np
import pytest
from helpers.voc import CAT, SIX, SIZE, annotation_xml, box_xml, make_folder, read_one
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.annotations.voc_xml import read_annotation, write_annotation
from mnssd.data.dataset import Dataset
from mnssd.data.formats.voc import VOC_CLASSES, read_voc, read_voc_folder
from mnssd.data.image import read_image
from mnssd.data.sample import Sample
from mnssd.errors import DataError


def test_annotation_becomes_a_sample(tmp_path: Path) -> None:
    flag = "<difficult>1</difficult>"
    sample, notes = read_one(tmp_path, CAT, box_xml("dog", 1, 1, 40, 30, extra=flag))
    np.testing.assert_array_equal(sample.boxes, [[1, 2, 19, 24], [0, 0, 39, 29]])
    np.testing.assert_array_equal(sample.labels, [0, 1])
    np.testing.assert_array_equal(sample.difficult, [False, True])
    assert (sample.boxes.dtype, sample.labels.dtype, sample.difficult.dtype) == (np.float32, np.int32, bool)
    assert (sample.image_id, sample.size) == ("a", SIZE)
    assert sample.image_path == str(tmp_path / "set" / "JPEGImages" / "a.jpg")
    assert notes == []


def test_image_without_objects(tmp_path: Path) -> None:
    sample, notes = read_one(tmp_path)
    assert sample.boxes.shape == (0, 4)
    assert sample.labels.shape == sample.difficult.shape == (0,)
    assert notes == []


def test_parts_are_ignored_and_fractions_kept(tmp_path: Path) -> None:
    part = box_xml("head", 5, 5, 9, 9).replace("object>", "part>")
    corners = "<ymax> 25.75 </ymax><xmax>20</xmax><ymin>\n3\n</ymin><xmin>2.5</xmin>"
    text = f"<object>{part}<bndbox>{corners}</bndbox>{part}<name> cat </name></object>"
    sample, notes = read_one(tmp_path, f"<source>{CAT}</source>", text)
    np.testing.assert_array_equal(sample.boxes, [[1.5, 2, 19, 24.75]])
    assert notes == []


@pytest.mark.parametrize(
    ("text", "flag"), [("0", False), ("1", True), (" 1 ", True), ("", False), ("true", True)]
)
def test_difficult_flag(text: str, flag: bool, tmp_path: Path) -> None:
    sample, _ = read_one(tmp_path, box_xml("cat", 1, 1, 9, 9, extra=f"<difficult>{text}</difficult>"))
    assert sample.difficult.tolist() == [flag]


@pytest.mark.parametrize(
    "size",
    [
        "",
        "<size/>",
        "<size><width>0</width><height>0</height></size>",
        "<size><width>wide</width><height>30</height></size>",
        "<size><width>inf</width><height>30</height></size>",
    ],
)
def test_missing_size_is_read_from_the_image(size: str, tmp_path: Path) -> None:
    sample, _ = read_one(tmp_path, CAT, size=size)
    assert sample.size == SIZE


def test_preferred_image_ending(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a": annotation_xml(CAT)}, ending=".png")
    assert read_voc_folder(folder, "train")[0].image_path.endswith("a.png")
    (folder / "JPEGImages" / "a.JPG").touch()
    assert read_voc_folder(folder, "train")[0].image_path.endswith("a.JPG")


@pytest.mark.parametrize(
    "text", ["a\nb\n", "a  1\nb  0\n", "\n a \n\n\tb\t0", "a\r\nb\r\n", "\ufeffa\nb", "a\nb\na\n"]
)
def test_image_list_layouts(text: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a": annotation_xml(CAT), "b": annotation_xml()})
    (folder / "ImageSets" / "Main" / "train.txt").write_text(text, encoding="utf-8")
    dataset = read_voc_folder(folder, "train")
    assert [sample.image_id for sample in dataset] == ["a", "b"]
    assert dataset.notes == (["Images listed twice, used once: 1 (a)"] if text.count("a") > 1 else [])


def test_image_ids_with_spaces_and_dots(tmp_path: Path) -> None:
    ids = ["IMG 1", "IMG", "a..b", "x.jpg"]
    folder = make_folder(tmp_path, {image_id: annotation_xml(CAT) for image_id in ids})
    assert [sample.image_id for sample in read_voc_folder(folder, "train")] == ids


# Boxes that are clipped or dropped


@pytest.mark.parametrize(
    ("corners", "kept"),
    [
        ((0, 0, 20, 20), [0, 0, 19, 19]),  # counted from 0: GluonCV drops it
        ((-7, 3, 20, 99), [0, 2, 19, 29]),
        ((2, 3, 41, 31), [1, 2, 39, 29]),
        ((2, 3, 1e308, 25), [1, 2, 39, 24]),
    ],
)
def test_boxes_over_the_edge_are_clipped(corners: Any, kept: List[float], tmp_path: Path) -> None:
    sample, notes = read_one(tmp_path, CAT, box_xml("dog", *corners))
    np.testing.assert_array_equal(sample.boxes[1], kept)
    assert len(notes) == 1
    assert "clipped: 1" in notes[0]
    assert "a.xml" in notes[0]


@pytest.mark.parametrize(
    "corners",
    [
        (5, 5, 5, 9),
        (5, 5, 9, 5),
        (9, 5, 5, 9),
        (5, 9, 9, 5),
        (50, 5, 60, 9),
        (-9, 5, 0, 9),
        (40, 5, 44, 9),
        (5, 5, 5.00000001, 9),  # no width in float32
        ("nan", 5, 9, 9),
        (5, 5, "inf", 9),
        (5, 5, 9, "1e999"),
        (5, 5, "wide", 9),
        (5, 5, "", 9),
        (5, 5, 9),
    ],
)
def test_invalid_boxes_are_dropped_and_reported(corners: Any, tmp_path: Path) -> None:
    sample, notes = read_one(tmp_path, box_xml("dog", *corners), CAT)
    np.testing.assert_array_equal(sample.boxes, [[1, 2, 19, 24]])
    assert sample.labels.tolist() == [0]
    assert sample.difficult.tolist() == [False]
    assert len(notes) == 1
    assert re.search(r"dropped: 1 \(a\.xml(, line \d+)?: dog", notes[0])


@pytest.mark.parametrize(
    "text",
    ["<object><name>dog</name></object>", "<object/>", box_xml(None, 1, 1, 9, 9), box_xml(" ", 1, 1, 9, 9)],
)
def test_objects_without_box_or_name_are_dropped(text: str, tmp_path: Path) -> None:
    sample, notes = read_one(tmp_path, text, CAT)
    assert len(sample.boxes) == 1
    assert "dropped: 1 (a.xml" in notes[0]


def test_wrong_size_in_the_annotation_does_not_clip_boxes(tmp_path: Path) -> None:
    turned = "<size><width>30</width><height>40</height></size>"
    sample, notes = read_one(tmp_path, box_xml("cat", 2, 3, 38, 25), size=turned)
    np.testing.assert_array_equal(sample.boxes, [[1, 2, 37, 24]])
    assert sample.size == SIZE
    assert "a.xml: 30x40" in notes[0]


corner = st.one_of(
    st.integers(-10, 60), st.floats(width=32), st.sampled_from(["", "x", "1e308", "-0", " 7 "])
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=4))
def test_read_boxes_are_inside_the_image(tmp_path_factory: Any, boxes: List[Any]) -> None:
    folder = tmp_path_factory.mktemp("set")
    sample, notes = read_one(folder, *[box_xml("cat", *corners) for corners in boxes])
    assert sample.boxes.shape == (len(sample.labels), 4)
    assert np.isfinite(sample.boxes).all()
    assert (sample.boxes >= 0).all()
    assert (sample.boxes <= np.array([39, 29, 39, 29])).all()
    assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
    assert len(sample.boxes) == len(boxes) or any("dropped" in note for note in notes)


# Classes


def test_classes_are_those_of_the_list_or_of_classes_txt(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a": annotation_xml(box_xml("dog", 1, 1, 9, 9), CAT)})
    assert read_voc_folder(folder, "train").classes == ("cat", "dog")
    (folder / "classes.txt").write_text("dog\n\nzebra\ncat\n")
    dataset = read_voc_folder(folder, "train")
    assert dataset.classes == ("dog", "zebra", "cat")
    assert dataset[0].labels.tolist() == [0, 2]
    assert dataset.notes == [f"Classes without objects in {folder.name} train: zebra"]
    assert read_voc_folder(folder, "train", ["cat", "dog"])[0].labels.tolist() == [1, 0]


def test_other_classes_are_ignored_and_counted(tmp_path: Path) -> None:
    other = [box_xml(name, 1, 1, 9, 9) for name in ("Cat", "dog", "dog", "pottedplants")]
    folder = make_folder(tmp_path, {"a": annotation_xml(*other, CAT), "b": annotation_xml(*other)})
    dataset = read_voc_folder(folder, "train", ["cat", "pottedplant"], allow_absent=True)
    assert dataset[0].labels.tolist() == [0]
    assert dataset[1].boxes.shape == (0, 4)
    (note,) = [note for note in dataset.notes if note.startswith("Objects of other")]
    assert note.startswith("Objects of other classes, ignored: 8 (dog 4, Cat 2")
    assert "pottedplants 2" in note


def test_unknown_class_is_an_error_unless_allowed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a": annotation_xml(CAT)})
    make_folder(folder, {"b": annotation_xml(box_xml("zebra", 1, 1, 9, 9)), "c": "no XML"}, "val")
    with pytest.raises(DataError, match=f"{folder}.*'cta'.*cat"):
        read_voc_folder(folder, "train", ["cat", "cta"])
    # Rare, and only in another list: no error, for class lists are shared between lists.
    dataset = read_voc_folder(folder, "train", ["cat", "zebra"])
    assert dataset.notes == [f"Classes without objects in {folder.name} train: zebra"]
    assert read_voc_folder(folder, "train", ["cat", "cta"], allow_absent=True).classes == ("cat", "cta")


def test_voc_classes_are_known_even_where_absent(tmp_path: Path) -> None:
    make_folder(tmp_path / "VOC2007", {"000001": annotation_xml(CAT)})
    dataset = read_voc(tmp_path, "2007_train")
    assert dataset.classes == VOC_CLASSES
    assert dataset[0].labels.tolist() == [7]
    assert "aeroplane, bicycle" in dataset.notes[0]
    with pytest.raises(DataError, match=f"{tmp_path}.*'Cat'.*cat"):
        read_voc(tmp_path, "2007_train", ["Cat"])


@pytest.mark.parametrize("classes", [["cat", "cat"], ["cat", ""], []])
def test_invalid_class_lists_are_refused(classes: Sequence[str], tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a": annotation_xml(CAT)})
    with pytest.raises(DataError, match="class"):
        read_voc_folder(folder, "train", classes)


def test_list_without_objects_needs_class_names(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a": annotation_xml()})
    with pytest.raises(DataError, match=str(folder)):
        read_voc_folder(folder, "train")
    assert len(read_voc_folder(folder, "train", ["cat"], allow_absent=True)) == 1


# Writing

side = st.floats(0, 5000, width=32)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(side, side, side, side, st.booleans(), st.text("ab<&>\"' é写", min_size=1)), max_size=4
    )
)
def test_written_annotation_is_read_back(tmp_path_factory: Any, objects: List[Any]) -> None:
    objects = [
        o for o in objects if o[2] - o[0] > 1e-3 and o[3] - o[1] > 1e-3 and " ".join(o[5].split()) == o[5]
    ]
    boxes = np.array([o[:4] for o in objects], np.float32).reshape(-1, 4)
    path = tmp_path_factory.mktemp("x") / "a.xml"
    write_annotation(path, "a & b.jpg", (5001, 5001), [o[5] for o in objects], boxes, [o[4] for o in objects])
    annotation = read_annotation(path)
    assert annotation.size == (5001, 5001)
    assert [item.name for item in annotation.objects] == [o[5] for o in objects]
    assert [item.difficult for item in annotation.objects] == [o[4] for o in objects]
    assert annotation.invalid == []
    read = np.array([item.box for item in annotation.objects], np.float64).reshape(-1, 4)
    np.testing.assert_allclose(read, boxes, rtol=0, atol=1e-6)


def test_written_annotation_has_the_devkit_layout(tmp_path: Path) -> None:
    (tmp_path / "VOC2012" / "Annotations").mkdir(parents=True)
    path = tmp_path / "VOC2012" / "Annotations" / "a.xml"
    write_annotation(path, "a.jpg", SIZE, ["cat"], np.array([[0, 2, 39, 24.5]], np.float32))
    root = ET.parse(path).getroot()
    assert [root.findtext(tag) for tag in ("folder", "filename", "size/width", "size/height")] == [
        "VOC2012", "a.jpg", "40", "30",
    ]  # fmt: skip
    found = root.find("object")
    assert found is not None
    texts = [found.findtext(f"bndbox/{tag}") for tag in ("xmin", "ymin", "xmax", "ymax")]
    assert texts == ["1", "3", "40", "25.5"]
    assert found.findtext("difficult") == "0"
    with pytest.raises(ValueError, match="2 .*1 "):
        write_annotation(path, "a.jpg", SIZE, ["cat", "dog"], [[0, 0, 1, 1]])


# Datasets


def sample(image_id: str, boxes: int, difficult: bool = False) -> Sample:
    corners = np.tile(np.array([1, 1, 5, 5], np.float32), (boxes, 1))
    flags = np.full(boxes, difficult)
    return Sample(image_id, f"{image_id}.jpg", corners, np.zeros(boxes, np.int32), flags, SIZE)


def test_dataset_is_a_sequence_and_ids_are_unique() -> None:
    samples = [sample("a", 0), sample("b", 1, True), sample("c", 1), sample("d", 2)]
    dataset = Dataset("set", ("cat",), samples, ["a note"])
    assert len(dataset) == 4
    assert dataset[-1] is samples[3]
    assert dataset[1:3] == samples[1:3]
    assert [s.image_id for s in dataset] == list("abcd")
    first = dataset.first(1)
    assert [s.image_id for s in first] == ["c"]
    assert (first.classes, first.notes, first.name) == (("cat",), ["a note"], "set, first 1")
    assert [s.image_id for s in dataset.first(9)] == ["c", "d"]
    with pytest.raises(DataError, match="set.*cat"):
        Dataset("set", ("cat",), samples[:2]).first(3)
    with pytest.raises(DataError, match=r"a\.jpg.*a\.jpg"):
        Dataset("set", ("cat",), [*samples, sample("a", 1)])


# Real datasets


def test_real_voc(shared: Path) -> None:
    root = shared / "voc" / "VOCdevkit"
    if not root.is_dir():
        pytest.skip(f"no images at {root}")
    dataset = read_voc(root, "2012_train", SIX)
    assert len(dataset) == 1697
    assert dataset.notes[0].startswith("Objects of other classes, ignored: 440 (chair 107")
    assert len(dataset.notes) == 1
    assert len(read_voc(root, "2007_trainval+2007_test+2012_val")) == 172 + 97 + 600
    for chosen in dataset[:: len(dataset) // 30]:
        height, width, _ = read_image(chosen.image_path).shape
        assert chosen.size == (width, height)
        # The same boxes by another reading of the file.
        root_element = ET.parse(Path(chosen.image_path).parents[1] / "Annotations" / f"{chosen.image_id}.xml")
        texts = [
            [float(o.findtext(f"bndbox/{tag}") or "nan") for tag in ("xmin", "ymin", "xmax", "ymax")]
            for o in root_element.iterfind("object")
            if o.findtext("name") in SIX
        ]
        np.testing.assert_array_equal(chosen.boxes + 1, np.array(texts, np.float32).reshape(-1, 4))


def test_real_bccd_reports_its_two_invalid_boxes(shared: Path) -> None:
    folder = shared / "bccd" / "BCCD"
    if not folder.is_dir():
        pytest.skip(f"no dataset at {folder}")
    sizes = {"train": 205, "val": 87, "test": 72}
    datasets = {split: read_voc_folder(folder, split) for split in sizes}
    assert {split: len(dataset) for split, dataset in datasets.items()} == sizes
    assert all(dataset.classes == ("Platelets", "RBC", "WBC") for dataset in datasets.values())
    assert sum(len(s.boxes) for dataset in datasets.values() for s in dataset) == 4888 - 2
    notes = " ".join(note for dataset in datasets.values() for note in dataset.notes)
    assert "BloodImage_00338.xml, line 158: RBC" in notes
    assert "BloodImage_00343.xml, line 50: RBC" in notes
