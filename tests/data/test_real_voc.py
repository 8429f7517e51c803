"""VOC XML as people have it: other devkits, folders, lists, encodings and boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
import pytest
from helpers.voc import CAT, annotation_xml, box_xml, make_folder
from helpers.voc_files import CAT_BOX, HAT, VOC, boxes_of, images, write

from mnssd.data.formats.voc import VOC_CLASSES
from mnssd.data.open import default_splits, lists_to_read, open_dataset, recognize
from mnssd.errors import DataError

# ---- classes and lists of devkits --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("year", "image_id", "names", "classes"),
    [
        ("2019", "000001", ("hat", "person"), ("hat", "person")),
        ("2007", "000001", ("hat", "person"), ("hat", "person")),
        ("2007", "img_1", ("cat", "person"), ("cat", "person")),
        ("2012", "000005", ("cat",), ("cat",)),
        ("2028", "2008_000001", ("cat",), ("cat",)),
        ("2007", "000005", ("cat", "person"), VOC_CLASSES),
        ("2012", "2008_000001", ("dog",), VOC_CLASSES),
    ],
)
def test_classes_of_a_devkit(
    year: str, image_id: str, names: Sequence[str], classes: Sequence[str], tmp_path: Path
) -> None:
    text = annotation_xml(*[box_xml(name, 2, 3, 20, 25) for name in names])
    make_folder(tmp_path / f"VOC{year}", {image_id: text})
    dataset = open_dataset("auto", tmp_path, f"{year}_train")
    assert dataset.classes == tuple(classes)
    assert [dataset.classes[label] for label in dataset[0].labels] == list(names)
    assert not [f for f in dataset.findings if f.code == "class-ignored"]


def test_classes_of_a_devkit_are_those_of_its_file(tmp_path: Path) -> None:
    make_folder(tmp_path / "VOC2019", {"a": annotation_xml(HAT)})
    (tmp_path / "VOC2019" / "classes.txt").write_text("person\nhat\n")
    assert open_dataset("auto", tmp_path, "2019_train").classes == ("person", "hat")


@pytest.mark.parametrize(
    ("lists", "train", "val"),
    [
        (["2019_train", "2019_val"], "2019_train", "2019_val"),
        (["2012_train", "2012_trainval", "2012_val"], "2012_train", "2012_val"),
        (["2018_train", "2018_test", "2019_train"], "2018_train+2019_train", "2018_test"),
        (["2020_trainval"], "2020_trainval:train", "2020_trainval:val"),
        (["2007_trainval", "2012_trainval", "2007_test"], "2007_trainval+2012_trainval", "2007_test"),
        (["2007_trainval", "2007_test"], "2007_trainval", "2007_test"),
    ],
)
def test_default_lists_of_a_devkit(lists: List[str], train: str, val: str, tmp_path: Path) -> None:
    for number, name in enumerate(lists):
        year, _, split = name.partition("_")
        ids = {f"{number}{i}": annotation_xml(CAT) for i in range(9)}
        make_folder(tmp_path / f"VOC{year}", ids, split)
    assert default_splits("auto", "train", tmp_path) == train
    assert default_splits("auto", "val", tmp_path) == val
    learned, held = open_dataset("auto", tmp_path), open_dataset("auto", tmp_path, role="val")
    assert not {s.image_id for s in learned} & {s.image_id for s in held}
    assert len(learned) + len(held) >= 9


def test_devkit_without_lists(tmp_path: Path) -> None:
    write(tmp_path, "VOC2019/Annotations/a.xml", "VOC2019/JPEGImages/a.png")
    assert list(VOC.lists(tmp_path)) == ["2019_all"]
    assert boxes_of(open_dataset("auto", tmp_path, "2019_all")) == {"a": [CAT_BOX]}


# ---- folders -----------------------------------------------------------------------------------------------

LAYOUTS: Dict[str, List[str]] = {
    "beside": ["{}.xml", "{}.png"],
    "annots": ["annots/{}.xml", "images/{}.png"],
    "oxford": ["annotations/xmls/{}.xml", "images/{}.png"],
    "imgs": ["Annotations/{}.xml", "imgs/{}.png"],
    "image": ["xml/{}.xml", "image/{}.png"],
    "case": ["Annotations/{}.XML", "JPEGimages/{}.PNG"],
    "labels": ["labels/{}.xml", "images/{}.png"],
    "own names": ["my xml/{}.xml", "my photos/{}.png"],
    "sub-folders": ["Annotations/cam1/{}.xml", "JPEGImages/cam1/{}.png"],
    "deep": ["set/a/{}.xml", "set/a/{}.png"],
    "long names": ["Annotations/{}.png.xml", "images/{}.png"],
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_folders_without_lists(layout: str, tmp_path: Path) -> None:
    for stem in ("one", "two"):
        write(tmp_path, *[name.format(stem) for name in LAYOUTS[layout]])
    assert recognize(tmp_path)[0].name == "voc"
    assert list(VOC.lists(tmp_path)) == ["all"]
    dataset = VOC.read(tmp_path, "all")
    assert images(dataset, tmp_path) == sorted(LAYOUTS[layout][1].format(stem) for stem in ("one", "two"))
    assert list(boxes_of(dataset).values()) == [[CAT_BOX], [CAT_BOX]]
    assert not dataset.findings
    assert not list(VOC.unreferenced(tmp_path, {"all": dataset}))


SPLIT_LAYOUTS: Dict[str, List[str]] = {
    "beside": ["{split}/{}.xml", "{split}/{}.png"],
    "folders in each": ["{split}/annotations/{}.xml", "{split}/images/{}.png"],
    "lists in each": ["Annotations/{split}/{}.xml", "JPEGImages/{split}/{}.png"],
    "only images": ["Annotations/{}.xml", "images/{split}/{}.png"],
    "only XML": ["Annotations/{split}/{}.xml", "images/{}.png"],
    "case and year": ["{split}2017/{}.xml", "{split}2017/{}.png"],
}


@pytest.mark.parametrize("layout", list(SPLIT_LAYOUTS))
@pytest.mark.parametrize("names", [("train", "test"), ("Train", "valid"), ("training", "Validation", "test")])
def test_folders_of_lists(layout: str, names: Sequence[str], tmp_path: Path) -> None:
    for split in names:
        files = SPLIT_LAYOUTS[layout]
        write(tmp_path, *[file.format(f"{split}_1", split=split) for file in files])
    lists = list(VOC.lists(tmp_path))
    suffix = "2017" if "year" in layout else ""
    assert sorted(lists) == sorted(f"{name}{suffix}" for name in names)
    assert default_splits("voc", "train", tmp_path) == f"{names[0]}{suffix}"
    assert default_splits("voc", "val", tmp_path) == f"{names[1]}{suffix}"
    for split in lists:
        (sample,) = VOC.read(tmp_path, split)
        assert Path(sample.image_path).stem == f"{split[: len(split) - len(suffix)]}_1"
        np.testing.assert_array_equal(sample.boxes, [CAT_BOX])


def test_one_name_in_two_lists_is_two_images(tmp_path: Path) -> None:
    for split, text in (("train", annotation_xml(CAT)), ("test", annotation_xml(HAT))):
        write(tmp_path, f"{split}/a.xml", f"{split}/a.png", text=text)
    train, test = (VOC.read(tmp_path, split) for split in ("train", "test"))
    assert images(train, tmp_path) == ["train/a.png"]
    assert images(test, tmp_path) == ["test/a.png"]
    assert (train.classes, test.classes) == (("cat",), ("hat",))


def test_image_of_another_list_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, "train/a.xml", "train/b.xml", "train/c.xml", "train/b.png", "train/c.png", "test/a.png")
    dataset = VOC.read(tmp_path, "train")
    assert images(dataset, tmp_path) == ["train/b.png", "train/c.png"]
    assert [finding.code for finding in dataset.findings] == ["image-missing"]


def test_image_of_another_annotation_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, "cam1/a.xml", text=annotation_xml(HAT))
    write(tmp_path, "cam2/a.xml", "cam2/a.png", "cam2/b.xml", "cam2/b.png")
    dataset = VOC.read(tmp_path, "all", ["cat"])
    assert images(dataset, tmp_path) == ["cam2/a.png", "cam2/b.png"]
    assert [f.code for f in dataset.findings] == ["image-missing"]
    assert all(sample.boxes.tolist() == [CAT_BOX] for sample in dataset)


def test_dataset_one_folder_down_keeps_its_lists(tmp_path: Path) -> None:
    make_folder(tmp_path / "mine", {"a": annotation_xml(CAT)})
    make_folder(tmp_path / "mine", {"b": annotation_xml(CAT)}, "test")
    assert VOC.lists(tmp_path) == {}
    with pytest.raises(DataError, match="mine"):
        open_dataset("auto", tmp_path)
    assert default_splits("voc", "val", tmp_path) == "2007_test"  # a devkit, perhaps not downloaded yet


def test_masks_are_no_images(tmp_path: Path) -> None:
    names = [f"Annotations/{n}.xml" for n in "abc"] + [f"JPEGImages/{n}.png" for n in "ab"]
    write(tmp_path, *names, *[f"SegmentationClass/{n}.png" for n in "abc"], "annotations/trimaps/c.png")
    dataset = VOC.read(tmp_path, "all")
    assert images(dataset, tmp_path) == ["JPEGImages/a.png", "JPEGImages/b.png"]
    assert [f.code for f in dataset.findings] == ["image-missing"]
    assert not [f for f in VOC.unreferenced(tmp_path, {"all": dataset}) if "unannotated" in f.code]
    write(tmp_path / "own", "mask/a.xml", "mask/a.png", "no_mask/b.xml", "no_mask/b.png")
    assert len(VOC.read(tmp_path / "own", "all")) == 2


def test_xml_labels_beside_classes_of_yolo(tmp_path: Path) -> None:
    write(tmp_path, "labels/a.xml", "images/a.png")
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    dataset = open_dataset("auto", tmp_path, "all")
    assert dataset.classes == ("dog", "cat")
    assert boxes_of(dataset) == {"a": [CAT_BOX]}


@pytest.mark.parametrize("text", ["<doc><outputs/></doc>", "<project/>"])
def test_other_xml_is_named(text: str, tmp_path: Path) -> None:
    write(tmp_path, "images/a.png")
    write(tmp_path, "xml/a.xml", text=text)
    with pytest.raises(DataError, match=r"a\.xml"):
        open_dataset("auto", tmp_path)


def test_companions_are_no_annotations(tmp_path: Path) -> None:
    write(tmp_path, "a.xml", "a.png", "__MACOSX/._b.xml", ".hidden/c.xml")
    write(tmp_path, "._a.xml", text=b"\0\5\x16\7 companion")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    dataset = VOC.read(tmp_path, "all")
    assert images(dataset, tmp_path) == ["a.png"]
    assert not dataset.findings


def test_two_annotations_that_differ_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "Annotations/a.xml", "JPEGImages/a.png", "xml/a.xml")
    assert boxes_of(VOC.read(tmp_path, "all")) == {"a": [CAT_BOX]}
    write(tmp_path, "xml/a.xml", text=annotation_xml(HAT))
    with pytest.raises(DataError, match=r"a\.xml"):
        VOC.read(tmp_path, "all")


def test_two_annotations_of_one_image_are_not_both_used(tmp_path: Path) -> None:
    write(tmp_path, *[f"Annotations/{n}.xml" for n in "abc"], *[f"JPEGImages/{n}.png" for n in "abc"])
    write(tmp_path, "old xml/a.xml", text=annotation_xml(HAT))
    dataset = VOC.read(tmp_path, "all")
    assert images(dataset, tmp_path) == [f"JPEGImages/{n}.png" for n in "abc"]
    (finding,) = dataset.findings
    assert (finding.level, Path(finding.file).name) == ("error", "a.xml")


# ---- list files --------------------------------------------------------------------------------------------


def make_lists(
    root: Path, files: Dict[str, str], folders: Sequence[str] = ("Annotations", "JPEGImages")
) -> None:
    for name in ("a", "b", "c"):
        write(root, f"{folders[0]}/{name}.xml", f"{folders[1]}/{name}.png")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    "line",
    [
        "a", "a.png", "a.jpg", "JPEGImages/a.png", "./JPEGImages/a.png", "JPEGImages\\a.png", "a.xml",
        "/elsewhere/VOC2007/JPEGImages/a.png", "C:\\data\\a.png", "../../JPEGImages/a.png", "a 1", "a 1 1 1",
        "./JPEGImages/a.png ./Annotations/a.xml", "JPEGImages/a.png\tAnnotations/a.xml", "A.PNG",
    ],
)  # fmt: skip
def test_lines_of_lists(line: str, tmp_path: Path) -> None:
    make_lists(tmp_path, {"ImageSets/Main/train.txt": f"{line}\nb\n"})
    dataset = open_dataset("auto", tmp_path, "train")
    assert boxes_of(dataset) == {"a": [CAT_BOX], "b": [CAT_BOX]}
    assert not dataset.findings


@pytest.mark.parametrize(
    "files",
    [
        {"ImageSets/train.txt": "a\nb\n", "ImageSets/val.txt": "c\n"},
        {
            "ImageSets/Main/train.txt": "a\nb\n",
            "ImageSets/Main/val.txt": "c\n",
            "ImageSets/Main/test.txt": "",
        },
        {"imagesets/main/train.txt": "a\nb\n", "imagesets/main/val.txt": "c\n"},
        {"train.txt": "JPEGImages/a.png Annotations/a.xml\nb\n", "val.txt": "c\n", "label_list.txt": "cat\n"},
        {"Annotations/train.txt": "a 1 2 3\nb 1 2 3\n", "Annotations/val.txt": "c 1 2 3\n"},
        {
            "train.txt": "a\nb\n",
            "val.txt": "c\n",
            "test.txt": "not annotated\n",
            "train_notes.txt": "hello\n",
        },
    ],
)
def test_places_of_lists(files: Dict[str, str], tmp_path: Path) -> None:
    make_lists(tmp_path, files)
    assert sorted(VOC.lists(tmp_path)) == ["train", "val"]
    assert sorted(lists_to_read(VOC, tmp_path)) == ["train", "val"]
    assert list(boxes_of(open_dataset("auto", tmp_path))) == ["a", "b"]
    assert list(boxes_of(open_dataset("auto", tmp_path, role="val"))) == ["c"]


def test_pets_layout(tmp_path: Path) -> None:
    for name in ("Abyssinian_1", "pug_2", "pug_3"):
        write(tmp_path, f"images/{name}.png")
    write(tmp_path, "annotations/xmls/Abyssinian_1.xml", "annotations/xmls/pug_2.xml")
    (tmp_path / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\npug_2 2 2 1\n")
    (tmp_path / "annotations" / "test.txt").write_text("pug_3 2 2 1\n")
    (tmp_path / "annotations" / "list.txt").write_text("#Image CLASS-ID\nAbyssinian_1 1 1 1\n")
    assert list(VOC.lists(tmp_path)) == ["trainval"]
    assert list(boxes_of(VOC.read(tmp_path, "trainval"))) == ["Abyssinian_1", "pug_2"]


@pytest.mark.parametrize("folder", ["ImageSets/Main", "ImageSets"])
def test_empty_lists(folder: str, tmp_path: Path) -> None:
    make_lists(tmp_path, {f"{folder}/train.txt": "", f"{folder}/val.txt": "\n"})
    assert list(VOC.lists(tmp_path)) == ["all"]
    assert len(open_dataset("auto", tmp_path, "all")) == 3
    with pytest.raises(DataError, match=r"train\.txt"):
        VOC.read(tmp_path, "train")


def test_lists_folder_without_lists(tmp_path: Path) -> None:
    make_lists(tmp_path, {})
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    assert lists_to_read(VOC, tmp_path) == ["all"]
    assert len(open_dataset("auto", tmp_path, "all")) == 3


@pytest.mark.parametrize("line", ["missing", "missing.png", "/nowhere/missing.jpg", "../missing"])
def test_one_missing_image_in_a_list_is_skipped(line: str, tmp_path: Path) -> None:
    make_lists(tmp_path, {"ImageSets/Main/train.txt": f"a\n{line}\nb\n"})
    dataset = VOC.read(tmp_path, "train")
    assert list(boxes_of(dataset)) == ["a", "b"]
    (finding,) = dataset.findings
    assert (finding.code, finding.where, Path(finding.file).name) == ("image-missing", "line 2", "train.txt")


def test_list_of_sub_folders(tmp_path: Path) -> None:
    for name in ("x/a", "y/a", "y/b"):
        write(tmp_path, f"Annotations/{name}.xml", f"JPEGImages/{name}.png")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("x/a\ny/a\na\n")
    dataset = VOC.read(tmp_path, "train")
    assert images(dataset, tmp_path) == ["JPEGImages/x/a.png", "JPEGImages/y/a.png"]
    assert [(finding.code, finding.where) for finding in dataset.findings] == [("image-missing", "line 3")]
