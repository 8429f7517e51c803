"""Folders that cannot be read, and files of an unknown kind, are told and not skipped in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict

import pytest
from helpers.small_datasets import make_coco, make_image, make_voc
from helpers.unreadable import deny

from mnssd.cli.main import main
from mnssd.data.classification.datasets import open_classification_dataset
from mnssd.data.image_files import files_below, image_files_below, is_unknown_file
from mnssd.data.open import open_dataset
from mnssd.errors import DataError
from mnssd.tasks.export import _expand_images

BOX = (10.0, 10.0, 50.0, 40.0)


def make_yolo(root: Path) -> Path:
    for number, name in enumerate(["a/0", "a/1", "b/2"]):
        make_image(root / f"images/train/{name}.png", seed=number)
        (root / f"labels/train/{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (root / f"labels/train/{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "classes.txt").write_text("dog\n")
    return root


def make_nested_voc(root: Path) -> Path:
    """VOC XML files beside images, in folders."""
    make_voc(root / "a", *[((120, 80), [BOX], 1)] * 2)
    for path in [*(root / "a").rglob("*.xml"), *(root / "a").rglob("*.jpg")]:
        for folder in ("part1", "part2"):
            (root / folder).mkdir(exist_ok=True)
            (root / folder / f"{folder}{path.name}").write_bytes(path.read_bytes())
        path.unlink()
    return root


# layout, folder that cannot be read
LAYOUTS: Dict[str, Callable[[Path], Path]] = {
    "voc, images": lambda root: make_voc(root, *[((120, 80), [BOX], 1)] * 3) / "JPEGImages",
    "voc, annotations": lambda root: make_voc(root, *[((120, 80), [BOX], 1)] * 3) / "Annotations",
    "voc, part": lambda root: make_nested_voc(root) / "part2",
    "coco, annotations": lambda root: make_coco(root, [[[10, 10, 30, 30]]] * 3) / "annotations",
    "yolo, part of the images": lambda root: make_yolo(root) / "images/train/b",
    "yolo, images": lambda root: make_yolo(root) / "images",
    "the dataset": lambda root: make_yolo(root),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dataset_with_an_unreadable_folder_is_refused(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = LAYOUTS[layout](tmp_path / "set")
    assert main(["check-data", str(tmp_path / "set"), "--no-estimate"]) == 0
    capfd.readouterr()
    deny(monkeypatch, folder)
    with pytest.raises(DataError, match=folder.name):
        open_dataset("auto", tmp_path / "set")
    assert main(["check-data", str(tmp_path / "set"), "--no-estimate"]) == 1
    assert str(folder) in capfd.readouterr().err


def test_check_data_looks_into_folders_that_the_lists_do_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = make_coco(tmp_path, [[[10, 10, 30, 30]]] * 3)
    make_image(root / "more/photos/x.jpg", seed=9)
    deny(monkeypatch, root / "more/photos")
    assert main(["check-data", str(root), "--dataset", "coco", "--no-estimate"]) == 1
    assert str(root / "more/photos") in capfd.readouterr().err


@pytest.mark.parametrize("folder", ["train/cat", "train/cat/inner", "train", "val/dog"])
def test_class_folder_that_cannot_be_read_is_an_error(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(
        ["train/cat/inner/a", "train/cat/b", "train/dog/c", "val/cat/d", "val/dog/e"]
    ):
        make_image(tmp_path / f"{name}.png", seed=number)
    role = folder[:-4] if folder.endswith("dog") else "train"
    assert len(open_classification_dataset("folder", str(tmp_path), role)) == (2 if role == "val" else 3)
    deny(monkeypatch, tmp_path / folder)
    with pytest.raises(DataError, match=folder):
        open_classification_dataset("folder", str(tmp_path), role)


def test_walk_reports_each_unreadable_folder_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c/d", "c/e"):
        make_image(tmp_path / name / "x.png")
    deny(monkeypatch, tmp_path / "b", tmp_path / "c/d")
    failed = []
    found = list(image_files_below(tmp_path, on_error=failed.append))
    assert found == [str(tmp_path / "a/x.png"), str(tmp_path / "c/e/x.png")]
    assert [error.filename for error in failed] == [str(tmp_path / "b"), str(tmp_path / "c/d")]
    with pytest.raises(DataError, match="b"):
        list(files_below(tmp_path))
    with pytest.raises(DataError, match="b"):
        _expand_images([tmp_path])


def test_folders_of_the_system_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("lost+found", "$RECYCLE.BIN", ".Trash-0", "System Volume Information")
    for name in (*names, "a"):
        make_image(tmp_path / name / "x.png")
    deny(monkeypatch, *(tmp_path / name for name in names))
    assert list(files_below(tmp_path)) == [str(tmp_path / "a/x.png")]


def test_what_is_no_folder_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert list(files_below(tmp_path / "file")) == list(files_below(tmp_path / "absent")) == []


# ---- files of an unknown kind


@pytest.mark.parametrize(
    ("name", "content", "unknown"),
    [
        ("a.xyz", b"\0\1", True),
        ("a.XYZ", b"text", True),
        ("a.xyz", b"\x89PNG\r\n\x1a\n", False),
        ("a.foto", b"", True),
        ("a", b"\0\1\2", True),
        ("README", b"Read me.\n", False),
        (".gitignore", b"*.pyc\n", False),
        ("a.jpg", b"\0\1", False),
        ("a.heic", b"\0\1", False),
        ("a.txt", b"\0\1", False),
        ("a.mp4", b"\0\1", False),
        ("Thumbs.db", b"\0\1", False),
        ("._a.xyz", b"\0\1", False),
        ("a.xyz", b"8BPS", False),
    ],
)
def test_unknown_files(name: str, content: bytes, unknown: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert is_unknown_file(tmp_path / name) == unknown


def test_check_data_counts_unknown_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = make_voc(tmp_path, *[((120, 80), [BOX], 1)] * 2)
    (root / "JPEGImages/x.xyz").write_bytes(b"\0\1")
    (root / "y.foto").write_bytes(b"\0\1")
    assert main(["check-data", str(root), "--no-estimate"]) == 0
    output = capfd.readouterr().out
    assert str(root / "JPEGImages/x.xyz") in output
    assert str(root / "y.foto") in output


def test_class_folders_count_unknown_files(tmp_path: Path) -> None:
    for number, name in enumerate(["cat/a", "cat/b", "dog/c", "dog/d"]):
        make_image(tmp_path / f"train/{name}.png", seed=number)
    before = open_classification_dataset("folder", str(tmp_path), "train").notes
    (tmp_path / "train/cat/x.xyz").write_bytes(b"\0\1")
    after = open_classification_dataset("folder", str(tmp_path), "train").notes
    (note,) = set(after) - set(before)
    assert "x.xyz" in note
