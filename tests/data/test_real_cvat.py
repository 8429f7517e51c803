"""CVAT for images: boxes and other shapes, lists, faults."""

from __future__ import annotations

import random
from pathlib import Path
from typing import List

import numpy as np
import pytest
from helpers.voc_files import boxes_of, images, read_or_refuse, write
from test_fuzz_files import damage

from mnssd.data.formats import formats
from mnssd.data.open import default_splits, open_dataset, recognize
from mnssd.errors import DataError

CVAT = formats["cvat"]
BOX = '<box label="car" source="manual" occluded="0" xtl="2.50" ytl="3.00" xbr="20.00" ybr="25.00"></box>'
LABELS = "<labels><label><name>person</name></label><label><name>car</name></label></labels>"


def cvat_xml(
    *image_elements: str, meta: str = f"<task><name>my task</name><subset></subset>{LABELS}</task>"
) -> str:
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    return f"{head}<meta>{meta}</meta>{''.join(image_elements)}</annotations>"


def image_xml(name: str, *shapes: str, extra: str = "") -> str:
    return f'<image id="0" name="{name}" {extra} width="40" height="30">{"".join(shapes)}</image>'


def test_boxes_and_declared_classes(tmp_path: Path) -> None:
    write(tmp_path, "annotations.xml", text=cvat_xml(image_xml("a.png", BOX), image_xml("sub/b.png")))
    write(tmp_path, "images/a.png", "images/sub/b.png")
    assert recognize(tmp_path)[0].name == "cvat"
    dataset = open_dataset("auto", tmp_path, "all", allow_absent=True)
    assert dataset.classes == ("person", "car")
    assert images(dataset, tmp_path) == ["images/a.png", "images/sub/b.png"]
    assert boxes_of(dataset) == {"a": [[2.5, 3, 19, 24]], "b": []}
    assert dataset[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ('<polygon label="car" points="2.5,3;20,5;9,25"/>', [2.5, 3, 19, 24]),
        ('<mask label="car" rle="5, 5" left="2" top="3" width="18" height="22"/>', [2, 3, 19, 24]),
        ('<ellipse label="car" cx="11" cy="14" rx="9" ry="11"/>', [2, 3, 19, 24]),
        ('<ellipse label="car" cx="11" cy="14" rx="11" ry="9" rotation="90"/>', [2, 3, 19, 24]),
        ('<box label="car" xtl="0" ytl="5" xbr="22" ybr="23" rotation="90"/>', [2, 3, 19, 24]),
        (
            '<cuboid label="car" xtl1="2" ytl1="3" xbl1="2" ybl1="20" xtr1="9" ytr1="3" xbr1="9" ybr1="20"'
            ' xtl2="11" ytl2="5" xbl2="11" ybl2="25" xtr2="20" ytr2="5" xbr2="20" ybr2="25"/>',
            [2, 3, 19, 24],
        ),
        ('<box label="new" xtl=" 2 " ytl="3" xbr="20" ybr="25"><attribute/></box>', [2, 3, 19, 24]),
    ],
)  # fmt: skip
def test_shapes(shape: str, box: List[float], tmp_path: Path) -> None:
    write(tmp_path, "annotations.xml", text=cvat_xml(image_xml("a.png", shape)))
    write(tmp_path, "a.png")
    (sample,) = CVAT.read(tmp_path, "all", allow_absent=True)
    np.testing.assert_allclose(sample.boxes, [box], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ('<polyline label="car" points="2,3;20,25"/>', "box-missing"),
        ('<points label="car" points="2,3"/>', "box-missing"),
        ('<skeleton label="car"><points label="1" points="2,3"/></skeleton>', "box-missing"),
        ('<box label="car" xtl="2" ytl="3" xbr="20"/>', "box-not-numeric"),
        ('<box label="car" xtl="20" ytl="3" xbr="2" ybr="25"/>', "box-inverted"),
        ('<box label="car" xtl="2" ytl="3" xbr="3" ybr="25"/>', "box-without-area"),
        ('<box label="car" xtl="nan" ytl="3" xbr="9" ybr="25"/>', "box-not-finite"),
        ('<box label="car" xtl="0.1" ytl="0.1" xbr="0.5" ybr="0.5"/>', "boxes-normalized"),
        ('<box xtl="2" ytl="3" xbr="20" ybr="25"/>', "object-without-class"),
        ('<polygon label="car" points="1,2,3;4"/>', "box-not-numeric"),
        ('<polygon label="car" points=""/>', "polygon-invalid"),
        ('<mask label="car" rle="1"/>', "box-not-numeric"),
        ('<box label="car" xtl="200" ytl="3" xbr="220" ybr="25"/>', "box-outside"),
    ],
)
def test_invalid_shapes_are_counted(shape: str, code: str, tmp_path: Path) -> None:
    write(tmp_path, "annotations.xml", text=cvat_xml(image_xml("a.png", BOX, shape)))
    write(tmp_path, "a.png")
    dataset = CVAT.read(tmp_path, "all", ["car"])
    assert boxes_of(dataset) == {"a": [[2.5, 3, 19, 24]]}
    assert [finding.code for finding in dataset.findings] == [code]


def test_subsets_are_lists(tmp_path: Path) -> None:
    elements = [
        image_xml(f"{s}.png", BOX, extra=f'subset="{s}" task_id="1"') for s in ("Train", "Validation", "Test")
    ]
    write(tmp_path, "annotations.xml", text=cvat_xml(*elements))
    write(tmp_path, *[f"images/{s}/{s}.png" for s in ("Train", "Validation", "Test")])
    assert list(CVAT.lists(tmp_path)) == ["Train", "Validation", "Test"]
    assert [default_splits("auto", role, tmp_path) for role in ("train", "val")] == ["Train", "Validation"]
    for split in CVAT.lists(tmp_path):
        assert images(CVAT.read(tmp_path, split), tmp_path) == [f"images/{split}/{split}.png"]


def test_tasks_are_lists(tmp_path: Path) -> None:
    tasks = "".join(
        f"<task><id>{i}</id><name>{n}</name></task>" for i, n in enumerate(("my train", "my test"))
    )
    meta = f"<project><name>p</name><tasks>{tasks}</tasks>{LABELS}</project>"
    elements = [image_xml(f"{i}.png", BOX, extra=f'task_id="{i}"') for i in range(2)]
    write(tmp_path, "annotations.xml", text=cvat_xml(*elements, meta=meta))
    write(tmp_path, "images/0.png", "images/1.png")
    assert list(CVAT.lists(tmp_path)) == ["my train", "my test"]
    assert default_splits("auto", "train", tmp_path) == "my train"
    assert CVAT.read(tmp_path, "my train").classes == ("person", "car")


@pytest.mark.parametrize(
    "places", [("train.xml", "test.xml"), ("train/annotations.xml", "test/annotations.xml")]
)
def test_files_are_lists(places: List[str], tmp_path: Path) -> None:
    for number, place in enumerate(places):
        write(tmp_path, place, text=cvat_xml(image_xml(f"{number}.png", BOX)))
        write(tmp_path, f"{'images' if '/' not in place else place.split('/')[0] + '/images'}/{number}.png")
    assert sorted(CVAT.lists(tmp_path)) == ["test", "train"]
    assert list(boxes_of(open_dataset("auto", tmp_path))) == ["0"]
    assert list(boxes_of(open_dataset("auto", tmp_path, role="val"))) == ["1"]


def test_one_image_in_two_elements_keeps_all_boxes(tmp_path: Path) -> None:
    other = BOX.replace('xtl="2.50"', 'xtl="5"')
    write(tmp_path, "annotations.xml", text=cvat_xml(image_xml("a.png", BOX), image_xml("a.png", other)))
    write(tmp_path, "a.png")
    assert boxes_of(CVAT.read(tmp_path, "all")) == {"a": [[2.5, 3, 19, 24], [5, 3, 19, 24]]}


@pytest.mark.parametrize(
    "text",
    [
        '<annotations><meta/><track id="0" label="car"><box frame="0" xtl="2"/></track></annotations>',
        cvat_xml(image_xml("a.png", BOX))[:-9],
        cvat_xml(image_xml("a.png", BOX.replace("car", "车"))).encode("gbk"),
    ],
)  # fmt: skip
def test_videos_and_damaged_files_are_named(text: object, tmp_path: Path) -> None:
    write(tmp_path, "annotations.xml", text=text)
    write(tmp_path, "a.png")
    with pytest.raises(DataError, match=r"annotations\.xml"):
        open_dataset("auto", tmp_path)


def test_damaged_cvat_files_are_read_or_refused(tmp_path: Path) -> None:
    rng, outcomes = random.Random(0), set()
    write(tmp_path, "a.png", "b.png")
    whole = cvat_xml(
        image_xml("a.png", BOX, '<polygon label="car" points="2,3;20,5;9,25"/>', extra='subset="Train"'),
        image_xml("b.png", BOX, '<ellipse label="car" cx="11" cy="14" rx="9" ry="11" rotation="3"/>'),
    )
    for _ in range(300):
        write(tmp_path, "annotations.xml", text=damage(whole.encode(), True, rng))
        outcomes.add(read_or_refuse(CVAT, tmp_path))
    assert outcomes == {"read", "refused"}
