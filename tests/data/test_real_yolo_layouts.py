"""YOLO datasets as tools and people arrange them: class names, paths, lists, darknet's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Set

import pytest
from helpers.yolo_files import BOX, CORNERS, dataset, image, text

from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats
from mnssd.data.open import open_dataset, recognize
from mnssd.errors import DataError

YOLO = formats["yolo"]


def codes(data: Dataset) -> Set[str]:
    return {finding.code for finding in data.findings} - {"class-unused"}


# ---- class names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("[off, on]", ("off", "on")),
        ("[no, yes]", ("no", "yes")),
        ("[1, 2.50]", ("1", "2.50")),
        ("[null, 2020-01-01]", ("null", "2020-01-01")),
        ('["traffic\\nlight", " big  dog "]', ("traffic light", "big dog")),
        ("cat, dog", ("cat", "dog")),
        ("{0: off, 1: 0x10}", ("off", "0x10")),
        ("\n  1: dog\n  0: ~\n", ("~", "dog")),
        ("\n- |\n  traffic\n  light\n- dog", ("traffic light", "dog")),
        ("[cat, dog]\nnc: 2", ("cat", "dog")),
        ("names.txt", ("cat", "dog")),
    ],
)
def test_class_names_in_yaml_are_text(names: str, classes: List[str], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    data = YOLO.read(dataset(tmp_path, {"a": "1" + BOX[1:]}, names=names), "train")
    assert data.classes == classes
    assert data[0].labels.tolist() == [1]


@pytest.mark.parametrize("names", ["[cat, dog]\nnc: 3", "{a: cat}", "[]", "[[cat], dog]", "{0: cat}\nnc: 2"])
def test_invalid_class_names_name_the_file(names: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data.yaml"):
        YOLO.read(dataset(tmp_path, {"a": BOX}, names=names), "train")


@pytest.mark.parametrize(
    ("names", "file"),
    [("cat\n\nbird\n", "classes.txt"), ("\ufeffcat\r\n\r\n bird \r\n\r\n", "classes.txt"), ("", "data.yaml")],
)
def test_a_blank_name_does_not_shift_the_others(names: str, file: str, tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    text(tmp_path / "labels/a.txt", f"0{BOX[1:]}\n1 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.2 0.2\n")
    text(tmp_path / file, names or "names: {0: cat, 2: bird}\ntrain: images")
    data = YOLO.read(tmp_path, next(iter(YOLO.lists(tmp_path))))
    assert data.classes == ("cat", "bird")
    assert [data.classes[label] for label in data[0].labels] == ["cat", "bird"]
    assert [(f.code, f.where) for f in data.findings] == [("object-without-class", "line 2")]


def test_class_files_that_disagree_are_refused(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        image(tmp_path / part / "a.png")
        text(tmp_path / part / "a.txt", BOX)
    text(tmp_path / "train/classes.txt", "cat\n")
    text(tmp_path / "valid/classes.txt", "cat\ndog\n")
    assert YOLO.read(tmp_path, "train").classes == ("cat", "dog")
    text(tmp_path / "train/classes.txt", "dog\ncat\n")
    with pytest.raises(DataError, match="train/classes.txt"):
        YOLO.read(tmp_path, "train")


@pytest.mark.parametrize("yaml", ["", "train: images\nnc: 1\n"])
def test_missing_class_names_are_asked_for(yaml: str, tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    text(tmp_path / "images/a.txt", BOX)
    if yaml:
        text(tmp_path / "data.yaml", yaml)
    for name in ("auto", "yolo"):
        with pytest.raises(DataError, match="classes.txt"):
            open_dataset(name, tmp_path, YOLO.default_splits(tmp_path, "train").partition(":")[0])


# ---- lists -------------------------------------------------------------------------------------------------


def roboflow(root: Path, yaml: str, lists: Any = ("train", "valid")) -> Path:
    """Roboflow's layout, with one image in each list."""
    for name in lists:
        image(root / name / "images" / f"{name}.png")
        text(root / name / "labels" / f"{name}.txt", BOX)
    text(root / "data.yaml", f"{yaml}\nnames: [cat]\n")
    return root


PATHS = [
    "train: ../train/images\nval: ../valid/images\ntest: ../test/images",
    "train: ..\\train\\images\nval: ..\\valid\\images",
    'train: "C:\\new\\train\\images"\nval: "..\\valid\\images"',
    'path: "D:\\data\\test set"\ntrain: train/images\nval: valid/images',
    "train: /srv/me/test_project/train/images\nval: /srv/me/test_project/valid/images",
    "path: /content/drive/MyDrive/pets\ntrain: train/images\nval: valid/images",
    "path: ../datasets/pets\ntrain: Train/Images\nval: ./valid\ntest:",
    "train: [train/images]\nval:\n  - valid/images\ntest: null",
    "nc: 1\nroboflow:\n  workspace: a\n  version: 3\nauthor: train",
]


@pytest.mark.parametrize("yaml", PATHS)
def test_paths_in_yaml(yaml: str, tmp_path: Path) -> None:
    roboflow(tmp_path, yaml)
    train, val = (open_dataset("auto", tmp_path, role=role) for role in ("train", "val"))
    assert ([s.image_id for s in train], [s.image_id for s in val]) == (["train"], ["valid"])
    assert train[0].boxes.tolist() == [CORNERS]
    assert codes(train) == ({"list-missing"} if "test/images" in yaml else set())


@pytest.mark.parametrize(
    "path", ["datasets/pets", "./datasets/pets/", "/srv/me/datasets/pets", "pets", "../datasets/pets"]
)
def test_dataset_one_folder_below_its_yaml(path: str, tmp_path: Path) -> None:
    folder = tmp_path / ("pets" if path == "pets" else "datasets/pets")
    roboflow(folder, "")
    (folder / "data.yaml").unlink()
    text(tmp_path / "data.yaml", f"path: {path}\ntrain: train/images\nval: valid/images\nnames: [cat]")
    assert [s.image_id for s in open_dataset("auto", tmp_path)] == ["train"]


def test_missing_folder_is_never_replaced_by_another_role(tmp_path: Path) -> None:
    roboflow(tmp_path, "train: ../train/images\nval: ../val/images\ntest: ../test/images", ["valid"])
    image(tmp_path / "images/x.png")
    with pytest.raises(DataError, match="train/images"):
        open_dataset("auto", tmp_path)
    roboflow(tmp_path, "train: ../a/images\nval: ../b/images", ["valid"])
    with pytest.raises(DataError, match="data.yaml"):
        open_dataset("auto", tmp_path)


@pytest.mark.parametrize("key", ["Train", "training", "train_images", "all", "part-2", "2007_trainval"])
def test_names_of_lists_in_yaml(key: str, tmp_path: Path) -> None:
    roboflow(tmp_path, f"{key}: train/images\nlabels: train/labels\nimages: train")
    assert list(YOLO.lists(tmp_path)) == [key]
    assert len(YOLO.read(tmp_path, key)) == 1


@pytest.mark.parametrize("name", ["all", "names", "path", "images", "train_labels", "2007"])
def test_written_lists_are_read_whatever_their_names(name: str, tmp_path: Path) -> None:
    data = YOLO.read(roboflow(tmp_path / "a", "train: train/images"), "train")
    image(tmp_path / "b" / "images" / name / "x.png")
    YOLO.write({name: data}, tmp_path / "b", {name: {"train": "x.png"}})
    assert recognize(tmp_path / "b")[0].name == "yolo"
    (split,) = YOLO.lists(tmp_path / "b")
    assert YOLO.read(tmp_path / "b", split)[0].boxes.tolist() == [CORNERS]


@pytest.mark.parametrize("line", ["images/gone.png", "/srv/me/gone.png", "..\\images\\gone.png"])
def test_missing_image_of_a_list_is_skipped(line: str, tmp_path: Path) -> None:
    for name in "ab":
        image(tmp_path / f"images/{name}.png")
        text(tmp_path / f"labels/{name}.txt", BOX)
    text(tmp_path / "train.txt", f"./images/a.png\n{line}\n\n../elsewhere/images/b.png\n")
    text(tmp_path / "data.yaml", "train: train.txt\nnames: [cat]")
    data = YOLO.read(tmp_path, "train")
    assert [sample.image_id for sample in data] == ["a", "b"]
    assert [(f.code, f.where) for f in data.findings] == [("image-missing", "line 2")]


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("prefix", ["data/", "", "/srv/me/darknet/data/"])
def test_darknet(described: bool, prefix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / f"obj_train_data/{name}.png")
        text(tmp_path / f"obj_train_data/{name}.txt", "1" + BOX[1:])
    text(tmp_path / "train.txt", f"{prefix}obj_train_data/a.png\n")
    text(tmp_path / "test.txt", f"{prefix}obj_train_data/b.png\n")
    text(tmp_path / "obj.names", "cat\ndog\n")
    if described:
        lists = f"train = {prefix}train.txt\nvalid = {prefix}test.txt"
        text(tmp_path / "obj.data", f"classes = 2\n{lists}\nnames = {prefix}obj.names\nbackup = backup/\n")
    train, val = (open_dataset("auto", tmp_path, role=role) for role in ("train", "val"))
    assert ([s.image_id for s in train], [s.image_id for s in val]) == (["a"], ["b"])
    assert (train.classes, train[0].labels.tolist()) == (("cat", "dog"), [1])
    assert train[0].boxes.tolist() == [CORNERS]


@pytest.mark.parametrize(
    ("folder", "classes", "lists"),
    [
        ("", "classes.txt", ["all"]),
        ("", "_darknet.labels", ["all"]),
        ("images", "obj.names", ["all"]),
        ("obj_train_data", "obj.names", ["obj_train_data"]),
        ("train", "train/_darknet.labels", ["train"]),
        ("Training", "pets.names", ["Training"]),
        ("images/train", "images/train/classes.txt", ["train"]),
    ],
)
def test_labels_beside_images(folder: str, classes: str, lists: List[str], tmp_path: Path) -> None:
    for name in "ab":
        image(tmp_path / folder / f"{name}.png")
        text(tmp_path / folder / f"{name}.txt", BOX)
    text(tmp_path / classes, "cat\n")
    text(tmp_path / folder / "labels.cache", "x")
    text(tmp_path / folder / "._a.png", "x")
    text(tmp_path / folder / "Thumbs.db", "x")
    text(tmp_path / folder / "._a.txt", "x")
    assert recognize(tmp_path)[0].name == "yolo"
    assert list(YOLO.lists(tmp_path)) == lists
    data = YOLO.read(tmp_path, lists[0])
    assert [sample.boxes.tolist() for sample in data] == [[CORNERS]] * 2
    assert not data.findings
    assert not list(YOLO.unreferenced(tmp_path, {lists[0]: data}))
