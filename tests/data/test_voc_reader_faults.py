"""Roots, lists and annotations of VOC that cannot be read as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from helpers.voc import CAT, annotation_xml, box_xml, make_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.annotations.voc_xml import AnnotationError, read_annotation
from mnssd.data.formats.voc import read_voc, read_voc_folder
from mnssd.errors import DataError, OptionError

# Roots, splits and lists


def test_lists_of_years_are_joined_in_order(tmp_path: Path) -> None:
    make_folder(tmp_path / "VOC2007", {"000002": annotation_xml(CAT), "000001": annotation_xml()}, "trainval")
    make_folder(tmp_path / "VOC2012", {"2008_000001": annotation_xml(CAT)}, "trainval")
    make_folder(tmp_path / "VOC2012", {"2008_000001": annotation_xml(CAT)}, "train")
    dataset = read_voc(tmp_path, "2007_trainval+2012_trainval + 2012_train", ["cat"])
    assert [sample.image_id for sample in dataset] == ["000002", "000001", "2008_000001"]
    assert dataset.name == "VOC 2007_trainval+2012_trainval + 2012_train"
    assert dataset.notes == ["Images listed twice, used once: 1 (2008_000001)"]
    make_folder(tmp_path / "VOC2007", {"2008_000001": annotation_xml(CAT)}, "val")
    with pytest.raises(DataError, match=r"2008_000001\.jpg"):
        read_voc(tmp_path, "2007_val+2012_train", ["cat"])


def test_error_of_a_wrong_root_names_the_right_one(tmp_path: Path) -> None:
    right = tmp_path / "data" / "VOCdevkit"
    make_folder(right / "VOC2012", {"2008_000001": annotation_xml(CAT)})
    for wrong in (right / "VOC2012", right.parent, right.parent / "VOCdevkid"):
        with pytest.raises(DataError) as error:
            read_voc(wrong, "2012_train")
        assert re.search(rf"{right}\b(?!/)", str(error.value))
    for wrong, years in ((tmp_path / "nowhere", "2012_train"), (right, "2007_train")):
        with pytest.raises(DataError, match="--download") as error:
            read_voc(wrong, years)
        assert str(wrong) in str(error.value)


def test_error_of_an_incomplete_root_names_the_archive(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "VOC2007", {"000001": annotation_xml(CAT)}, "trainval")
    with pytest.raises(DataError, match=r"test\.txt.*trainval.*VOCtest_06-Nov-2007.tar"):
        read_voc(tmp_path, "2007_test")
    (folder / "JPEGImages" / "000001.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 1 .*000001\.jpg.*VOCtrainval"):
        read_voc(tmp_path, "2007_trainval")
    (folder / "JPEGImages").rmdir()
    with pytest.raises(DataError, match=r"VOC2007.*JPEGImages.*--download"):
        read_voc(tmp_path, "2007_trainval")


def test_lists_of_single_classes_are_not_offered(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a": annotation_xml(CAT)})
    make_folder(tmp_path, {"a": annotation_xml(CAT)}, "cat_train")
    make_folder(tmp_path, {"a": annotation_xml(CAT)}, "my_val")
    with pytest.raises(DataError, match=r"my_val, train$"):
        read_voc_folder(folder, "test")


@pytest.mark.parametrize(
    "splits", ["", "2007", "train", "2007-train", "2007_train+", "2007_../x", "07_train"]
)
def test_invalid_splits_are_refused(splits: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="2007_trainval"):
        read_voc(tmp_path, splits)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        read_voc_folder(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match="Annotations.*JPEGImages.*ImageSets"):
        read_voc_folder(tmp_path, "train")


@pytest.mark.parametrize("line", ["../../secret", "/etc/passwd", "..", "a\\b", "sub/b", "../secret.jpg"])
def test_lines_without_an_image_are_skipped_and_named(line: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", {"a": annotation_xml(CAT)})
    make_folder(tmp_path, {"secret": annotation_xml(CAT)})
    (folder / "ImageSets" / "Main" / "train.txt").write_text(f"a\n{line}\n")
    dataset = read_voc_folder(folder, "train")
    assert [sample.image_id for sample in dataset] == ["a"]
    (finding,) = dataset.findings
    assert (finding.code, finding.where) == ("image-missing", "line 2")
    assert finding.file.endswith("train.txt")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00"])
def test_unusable_image_list_is_named(content: bytes, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a": annotation_xml(CAT)})
    (folder / "ImageSets" / "Main" / "train.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.txt"):
        read_voc_folder(folder, "train")


# Single invalid samples

BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation><object>&b;</object></annotation>'
OUTSIDE = (
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><object>&a;</object></annotation>'
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no such file"),
        ("", "XML"),
        ("JFIF \x01", "XML"),
        (annotation_xml(CAT)[:-5], "XML"),
        ("<html><body/></html>", "<html>"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "XML"),
        (BOMB, "XML"),
        (OUTSIDE, "XML"),
    ],
)
def test_invalid_annotation_is_skipped_and_named(text: Optional[str], reason: str, tmp_path: Path) -> None:
    good = annotation_xml(CAT)
    folder = make_folder(tmp_path, {"a": good, "bad": text, "c": good})
    dataset = read_voc_folder(folder, "train")
    assert [sample.image_id for sample in dataset] == ["a", "c"]
    assert len(dataset.notes) == 1
    assert dataset.notes[0].startswith(f"Images skipped: 1 ({folder / 'Annotations' / 'bad.xml'}: ")
    assert reason in dataset.notes[0]


def test_missing_image_is_skipped_and_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {name: annotation_xml(CAT) for name in "abc"})
    (folder / "JPEGImages" / "b.jpg").unlink()
    dataset = read_voc_folder(folder, "train")
    assert len(dataset) == 2
    assert "b.jpg" in dataset.notes[0]


def test_mostly_invalid_annotations_are_an_error(tmp_path: Path) -> None:
    texts = {"a": annotation_xml(CAT), "b": "x", "c": "y", "d": annotation_xml(CAT)}
    assert len(read_voc_folder(make_folder(tmp_path, texts), "train")) == 2
    with pytest.raises(DataError, match=r"3 of 5.*b\.xml"):
        read_voc_folder(make_folder(tmp_path, {**texts, "e": None}), "train")


def test_huge_annotation_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.xml").open("wb") as file:
        file.truncate(1 << 34)  # sparse
    with pytest.raises(AnnotationError, match="16 MiB"):
        read_annotation(tmp_path / "a.xml")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_annotations_are_read_or_refused(tmp_path_factory: Any, data: st.DataObject) -> None:
    content = bytearray(annotation_xml(CAT, box_xml("dog", 5, 6, 17.5, 28)).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=6))
    path = tmp_path_factory.mktemp("x") / "a.xml"
    path.write_bytes(bytes(content))
    try:
        annotation = read_annotation(path)
    except AnnotationError:
        return
    for item in annotation.objects:
        assert np.isfinite(item.box).all()
        assert item.box[2] > item.box[0]
        assert item.box[3] > item.box[1]
