"""`mnssd check-data`: faults planted one by one, in each format where they can occur, are found and named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest
from helpers.dataset_faults import FAULTS, SIDE, Planted, misspelt

from mnssd.cli.main import main
from mnssd.data.findings import KINDS
from mnssd.data.formats import writable_names
from mnssd.data.image import read_image
from mnssd.data.open import open_dataset
from mnssd.data.shapes.dataset import make_shapes


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """One dataset without a fault, in each format; `recordio` as a list beside its images, too."""
    folder = tmp_path_factory.mktemp("sound")
    make_shapes(folder / "shapes", train=60, val=30, size=(SIDE, SIDE))
    for kind in writable_names():
        assert main(["convert-data", str(folder / "shapes"), str(folder / kind), "--format", kind]) == 0
    shutil.copytree(folder / "recordio", folder / "lst")
    for path in folder.glob("lst/*"):
        if path.suffix in (".rec", ".idx"):
            path.unlink()
    shutil.copytree(folder / "csv" / "images", folder / "lst" / "images")
    for name in ("train", "val"):  # the paths in a list start at its folder
        path = folder / "lst" / f"{name}.lst"
        path.write_text(re.sub(r"\t([^\t]+)$", rf"\timages/{name}/\1", path.read_text(), flags=re.M))
    return {kind: folder / kind for kind in (*writable_names(), "lst")}


CASES = [(fault, kind) for fault, (_, kinds, _) in FAULTS.items() for kind in kinds]


def check(root: Path, tmp_path: Path, *more: str) -> Tuple[int, List[Dict[str, str]]]:
    report = tmp_path / "found.json"
    status = main(
        ["check-data", str(root), "--size", str(SIDE), "--no-estimate", "--json", str(report), *more]
    )
    return status, json.loads(report.read_text())["findings"]


def test_there_are_at_least_25_faults() -> None:
    assert len(FAULTS) >= 25
    assert {code for code, _, _ in FAULTS.values()} <= set(KINDS)


@pytest.mark.parametrize("kind", [*writable_names(), "lst"])
def test_a_sound_data_set_has_none(kind: str, sound: Dict[str, Path], tmp_path: Path) -> None:
    status, found = check(sound[kind], tmp_path)
    assert status == 0
    dataset = open_dataset("auto", sound[kind], "train+val", allow_absent=True)
    empty = sorted(s.image_path for s in dataset if not len(s.labels))
    assert sorted(f["file"] for f in found if f["code"] == "image-without-objects") == empty
    # At 96 pixels a third of the shapes are smaller than half of the smallest anchor.
    assert {f["code"] for f in found} == {"image-without-objects", "boxes-unmatched"}


def what(finding: Dict[str, str]) -> Tuple[str, ...]:
    return finding["code"], finding["file"], finding["where"], finding["text"]


@pytest.mark.parametrize(("fault", "kind"), CASES, ids=[f"{fault}-{kind}" for fault, kind in CASES])
def test_a_planted_fault_is_found(fault: str, kind: str, sound: Dict[str, Path], tmp_path: Path) -> None:
    code, _, plant = FAULTS[fault]
    root = tmp_path / "a" / "b" / kind
    shutil.copytree(sound[kind], root)
    for folder in (root, root.parent, root.parent.parent):  # for those that lead out
        shutil.copy(next((sound["voc"] / "JPEGImages").iterdir()), folder.parent / "outside.jpg")
    planted = Planted(kind, root)
    before = {what(finding) for finding in check(root, tmp_path)[1]}
    plant(planted)
    status, found = check(root, tmp_path)
    mine = [finding for finding in found if finding["code"] == code and what(finding) not in before]
    assert mine, [what(finding) for finding in found]
    assert status == int(any(finding["level"] == "error" for finding in found))
    if code.startswith(("box-", "image-", "size-", "annotation-")):
        assert any(finding["file"] for finding in mine)
    in_lines = {"voc": "line", "yolo": "line", "csv": "line", "lst": "line", "coco": "annotation"}
    if KINDS[code].headline.startswith("Boxes that cannot be used"):
        assert mine[0]["where"].startswith(in_lines[kind])
    others = {finding["code"] for finding in found if finding["level"] == "error"} - {code}
    also = {
        "no annotation": {"image-missing"}, "all corners": {"box-outside"}, "turned": {"size-swapped"},
        "counted from one": {"class-unknown"}, "image gone": {"image-unreadable"},
    }.get(fault, set())  # fmt: skip
    assert others <= also, others


def test_the_line_is_that_of_the_object(sound: Dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "voc"
    shutil.copytree(sound["voc"], root)
    planted = Planted("voc", root)
    planted.box((60, 60, 20, 20))
    planted.edit(planted.xml, lambda t: t.replace("<object>", "<!-- <object> -->\n<object>", 1))
    _, found = check(root, tmp_path)
    (finding,) = [finding for finding in found if finding["code"] == "box-inverted"]
    lines = planted.xml.read_text().splitlines()
    number = int(finding["where"].split()[1])
    assert "<object>" in lines[number - 1]
    assert "<!--" not in lines[number - 1]
    assert finding["file"] == str(planted.xml)


@pytest.mark.parametrize("kind", writable_names())
def test_fix_writes_a_copy_without_faults(kind: str, sound: Dict[str, Path], tmp_path: Path) -> None:
    if kind == "recordio":
        kind = "lst"
    root = tmp_path / kind
    shutil.copytree(sound[kind], root)
    planted = Planted(kind, root)
    misspelt(planted)
    planted.second(same_class=True)
    shutil.copy(planted.measured, planted.other)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    status, found = check(root, tmp_path, "--fix", str(tmp_path / "fixed"))
    assert status == 1
    assert {"box-duplicate", "image-in-two-lists", "class-misspelled"} <= {
        finding["code"] for finding in found
    }
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    status, found = check(tmp_path / "fixed", tmp_path)
    assert (status, {f["code"] for f in found}) == (0, {"image-without-objects", "boxes-unmatched"})
    left = open_dataset("auto", tmp_path / "fixed", "train")
    assert left.classes == open_dataset("auto", sound["voc"], "train").classes
    assert len(left) == 59
    assert len(open_dataset("auto", tmp_path / "fixed", "val", allow_absent=True)) == 30


def test_what_is_printed(sound: Dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "voc"
    shutil.copytree(sound["voc"], root)
    planted = Planted("voc", root)
    planted.box((60, 60, 20, 20))
    capsys.readouterr()
    assert main(["check-data", str(root), "--size=96", "--no-pixels"]) == 1
    said = capsys.readouterr().out
    assert "recognized as voc" in said
    assert KINDS["boxes-unmatched"].headline in said
    assert "train: 60 images" in said
    assert re.search(rf"^error: {KINDS['box-inverted'].headline}: 1\n +\S+xml, line \d+: ", said, re.M)
    assert "1 error, 2 warnings, 3 notes" in said
    assert "images per second" in said
    assert "--fix" in said


def test_boxes_that_no_anchor_fits_are_told(sound: Dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    shutil.copytree(sound["yolo"], root)
    for path in (root / "labels" / "train").iterdir():
        path.write_text("0 0.5 0.5 0.9 0.06\n" * 1)
    _, found = check(root, tmp_path)
    assert any(f["code"] == "boxes-unmatched" and "100%" in f["text"] for f in found)


def test_real_voc_gives_no_false_alarm(shared: Path, tmp_path: Path) -> None:
    """Every line about VOC2012 `train` is true: what was found by hand is all there is."""
    voc = shared / "voc" / "VOCdevkit"
    if not voc.is_dir():
        pytest.skip(f"no dataset at {voc}")
    status, found = check(voc, tmp_path, "--splits", "2012_train", "--no-pixels")
    assert status == 0
    told = {"class-unused", "class-rare", "boxes-unmatched", "box-whole-image", "image-small", "box-tiny"}
    assert {finding["code"] for finding in found} <= told
    dataset = open_dataset("voc", voc, "2012_train")
    whole = [f for f in found if f["code"] == "box-whole-image"]
    sizes = {s.image_path: s for s in dataset}
    for finding in whole:
        height, width = read_image(finding["file"]).shape[:2]
        sides = sizes[finding["file"]].boxes
        assert (np.abs(sides - [0, 0, width - 1, height - 1]) < 1).all(axis=1).any()


def test_no_kind_of_finding_is_idle() -> None:
    """Each is given by some file of the package."""
    package = Path(__file__).resolve().parents[2] / "mnssd"
    text = "".join(path.read_text() for path in package.rglob("*.py") if path.name != "findings.py")
    assert [code for code in KINDS if f'"{code}"' not in text] == []
