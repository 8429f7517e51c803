"""COCO JSON as many tools write it: categories, encodings, and files beside it."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from pathlib import Path
from typing import Any, Callable, List, Tuple

import pytest
from helpers.coco import (
    BOX,
    CATEGORIES,
    COCO,
    Content,
    annotation,
    boxes,
    content_of,
    image,
    read,
    write_images,
)

from mnssd.data.formats import formats
from mnssd.data.formats.coco import CocoFormat
from mnssd.errors import DataError

# ---- categories --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("categories", "names"),
    [
        (
            [{"id": 1, "name": "traffic\nlight"}, {"id": 2, "name": " a \t dog\r\n"}],
            ("traffic light", "a dog"),
        ),
        ([{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}], ("cat", "dog")),
        ([*CATEGORIES, *CATEGORIES], ("cat", "dog")),
        ([*CATEGORIES, {"id": "1", "name": "cat "}], ("cat", "dog")),
        ([*CATEGORIES, {"id": 9, "name": "cat"}], ("cat", "dog")),
        ([{"id": 1, "name": 5}, {"id": 2, "name": "no"}], ("5", "no")),
    ],
)
def test_categories(categories: List[Content], names: Tuple[str, ...], tmp_path: Path) -> None:
    write_images(tmp_path)
    annotations = [annotation(i, category=entry["id"]) for i, entry in enumerate(categories)]
    dataset = read(tmp_path, content_of([image(1)], annotations, categories))
    assert dataset.classes == names
    assert len(boxes(dataset)) == len(categories)


@pytest.mark.parametrize(
    "more",
    [
        {"id": 1, "name": "dog"},
        {"id": "1", "name": "bird"},
        {"id": 9, "name": "cat", "supercategory": "vehicle"},
        {"id": 9},
        {"id": 9, "name": "\n"},
        {"name": "bird"},
        {"id": 1.5, "name": "bird"},
    ],
)
def test_contradicting_categories_are_refused(more: Content, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all.json"):
        read(tmp_path, content_of([image(1)], [annotation(1)], [*CATEGORIES, more]))


ROBOFLOW = [
    {"id": 0, "name": "pets", "supercategory": "none"},
    {"id": 1, "name": "cat", "supercategory": "pets"},
    {"id": 2, "name": "dog", "supercategory": "pets"},
]


@pytest.mark.parametrize(
    ("categories", "used", "names"),
    [
        (ROBOFLOW, 1, ("cat", "dog")),
        (ROBOFLOW[:2], 1, ("cat",)),
        (ROBOFLOW, 0, ("pets", "cat", "dog")),  # objects have it
        ([*ROBOFLOW, {"id": 3, "name": "car", "supercategory": "none"}], 1, ("pets", "cat", "dog", "car")),
        ([{"id": 0, "name": "pets"}, *CATEGORIES], 1, ("pets", "cat", "dog")),
        ([{**entry, "supercategory": "cat"} for entry in CATEGORIES], 2, ("cat", "dog")),
    ],
)
def test_superfluous_category_of_roboflow(
    categories: List[Content], used: int, names: Tuple[str, ...], tmp_path: Path
) -> None:
    write_images(tmp_path, "train/1.png")
    content = content_of([image(1)], [annotation(1, category=used)], categories)
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    dataset = COCO.read(tmp_path, "train")
    assert dataset.classes == names
    assert len(boxes(dataset)) == 1
    requested = (str(categories[0]["name"]),)  # also if it is left out
    assert COCO.read(tmp_path, "train", requested).classes == requested


# ---- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: b"\r\n\t " + text.encode(),
        lambda text: text.replace("{", '{"info": "' + "x" * 200000 + '", ', 1).encode(),
        lambda text: (text[:-1] + ', "log": "' + "x" * 200000 + '"}').encode(),
    ],
)
def test_file_is_recognized_and_read(change: Callable[[str], bytes], tmp_path: Path) -> None:
    write_images(tmp_path)
    filler = [annotation(i + 2, 999, bbox=[1, 1, 9, 9]) for i in range(1500)]  # more than 64 KiB on each side
    text = json.dumps(content_of([image(1)], [annotation(1), *filler]))
    (tmp_path / "all.json").write_bytes(change(text))
    assert COCO.evidence(tmp_path)
    dataset = COCO.read(tmp_path, "all", allow_absent=True)
    assert boxes(dataset) == [[10, 20, 39, 59]]
    assert Counter(f.code for f in dataset.findings)["object-without-image"] == 1500


CAPTIONS = {"images": [image(1)], "annotations": [{"id": 1, "image_id": 1, "caption": "A cat."}]}
PANOPTIC = content_of([image(1)], [{"image_id": 1, "file_name": "1.png", "segments_info": []}])
INFO = {"images": [image(1)], "categories": CATEGORIES}


def official(root: Path, **files: Content) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    for name, content in files.items():
        (root / "annotations" / f"{name}.json").write_text(json.dumps(content))


def test_official_folder_uses_instances_only(tmp_path: Path) -> None:
    write_images(tmp_path, "train2017/1.png", "val2017/1.png")
    good, person = (
        content_of([image(1)], [annotation(1)]),
        content_of([image(1)], [annotation(1)], CATEGORIES[:1]),
    )
    for split in ("train2017", "val2017"):
        kinds = {"instances": good, "captions": CAPTIONS, "person_keypoints": person, "panoptic": PANOPTIC}
        official(tmp_path, **{f"{kind}_{split}": kinds[kind] for kind in kinds}, **{f"stuff_{split}": good})
    official(tmp_path, **{"image_info_test2017": INFO, "image_info_test-dev2017": INFO})
    lists = COCO.lists(tmp_path)
    assert {name: path.name for name, path in lists.items()} == {
        "train": "instances_train2017.json", "val": "instances_val2017.json",
    }  # fmt: skip
    for split in ("train", "val"):
        (sample,) = COCO.read(tmp_path, split, allow_absent=True)
        assert sample.image_path == str(tmp_path / f"{split}2017" / "1.png")


@pytest.mark.parametrize("kind", ["person_keypoints", "stuff", "Person_Keypoints"])
def test_other_kinds_alone_are_used(kind: str, tmp_path: Path) -> None:
    write_images(tmp_path)
    official(
        tmp_path,
        **{f"{kind}_train2017": content_of([image(1)], [annotation(1)]), "captions_train2017": CAPTIONS},
    )
    assert list(COCO.lists(tmp_path)) == ["train"]
    assert boxes(COCO.read(tmp_path, "train", allow_absent=True)) == [[10, 20, 39, 59]]


@pytest.mark.parametrize("content", [CAPTIONS, PANOPTIC, INFO])
@pytest.mark.parametrize("name", ["captions_train2017", "train"])
def test_file_without_boxes_alone_is_refused_by_name(content: Content, name: str, tmp_path: Path) -> None:
    official(tmp_path, **{name: content})
    assert COCO.evidence(tmp_path)
    with pytest.raises(DataError, match=f"{name}.json"):
        COCO.read(tmp_path, "train")


@pytest.mark.parametrize("change", [lambda text: text[:-40], lambda text: text[: len(text) // 2]])
def test_damaged_list_is_not_left_out(change: Callable[[str], str], tmp_path: Path) -> None:
    write_images(tmp_path)
    text = json.dumps(content_of([image(i) for i in range(50)], [annotation(i, i) for i in range(50)]))
    (tmp_path / "train.json").write_text(change(text))
    (tmp_path / "val.json").write_text(text)
    assert list(COCO.lists(tmp_path)) == ["train", "val"]
    with pytest.raises(DataError, match="train.json"):
        COCO.read(tmp_path, "train")


@pytest.mark.parametrize("key", ["images", "categories"])
def test_empty_list_is_refused_by_name(key: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"all.json.*{key}"):
        read(tmp_path, {**content_of([image(1)], [annotation(1)]), key: []})


LABELME = {"version": "5.0", "flags": {}, "shapes": [], "imagePath": "1.png", "imageData": None}
VIA = {"_via_settings": {}, "_via_img_metadata": {"1.png9": {"filename": "1.png", "regions": []}}}
VIA_EXPORT = {"1.png9": {"filename": "1.png", "regions": [], "file_attributes": {}}}
CREATE_ML = [{"image": "1.png", "annotations": [{"label": "cat", "coordinates": {"x": 1}}]}]
RESULTS = [{"image_id": 1, "category_id": 1, "bbox": BOX, "score": 0.5}]


@pytest.mark.parametrize("content", [LABELME, VIA, VIA_EXPORT, CREATE_ML, RESULTS])
@pytest.mark.parametrize("place", ["x.json", "train/x.json"])
def test_json_of_other_tools_is_named(content: Any, place: str, tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "train/1.png")
    (tmp_path / place).write_text(json.dumps(content))
    assert not COCO.evidence(tmp_path)
    assert not COCO.weak_evidence(tmp_path)
    assert "x.json" in COCO.found_instead(tmp_path)
    with pytest.raises(DataError, match="x.json"):
        COCO.read(tmp_path, "train")


def test_key_of_another_file_does_not_decide(tmp_path: Path) -> None:
    """A JSON file that only has a key called ``images`` does not hide the format that the folder has."""
    (tmp_path / "settings.json").write_text('{"images": "here"}')
    assert not COCO.evidence(tmp_path)
    assert COCO.weak_evidence(tmp_path)
    write_images(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(content_of([image(1)], [annotation(1)])))
    assert list(COCO.lists(tmp_path)) == ["train"]


def test_format_is_registered() -> None:
    assert isinstance(formats["coco"], CocoFormat)
