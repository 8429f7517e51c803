"""`mnssd check-data`: faults inserted one by one, in each format where they can occur, are reported."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import numpy as np
import pytest
from helpers.dataset_faults import FAULTS, SIDE, FaultyDataset, misspelled_class

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.findings import KINDS
from mnssd.data.formats import writable_names
from mnssd.data.image import read_image
from mnssd.data.open import open_dataset
from mnssd.data.shapes.dataset import make_shapes

KINDS_OF_DATASETS = (*writable_names(), "lst")
CASES = [
    pytest.param(
        fault, kind, id=f"{fault}-{kind}", marks=[pytest.mark.slow] if column and (row + column) % 2 else []
    )
    for row, (fault, (_, kinds, _)) in enumerate(FAULTS.items())
    for column, kind in enumerate(kinds)
]
PLACES = {"voc": "line", "yolo": "line", "csv": "line", "lst": "line", "coco": "annotation"}

EXPECTED_IN_SHAPES = {"image-without-objects", "boxes-unmatched"}
"""Findings about the valid dataset: at 96 pixels a third of the shapes are smaller than half of an anchor."""

FURTHER_ERRORS = {
    "missing annotation": {"image-missing"}, "corners instead of sizes": {"box-outside"},
    "EXIF rotation": {"size-swapped"}, "labels from one": {"class-unknown"},
    "missing image": {"image-unreadable"},
}  # fmt: skip
"""Fault to the errors that it may cause besides its own."""

Findings = List[Dict[str, str]]


@pytest.fixture(scope="module", autouse=True)
def one_network() -> Iterator[None]:
    """The network whose anchors are compared with the boxes is built once."""
    build = zoo.build_detector
    built: Dict[Any, Any] = {}

    def build_once(spec: zoo.DetectorSpec) -> Any:
        if spec.size not in built:
            built[spec.size] = build(spec)
        return built[spec.size]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "build_detector", build_once)
        yield


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """One dataset without faults in each format; also ``lst``, a list beside its images."""
    folder = tmp_path_factory.mktemp("valid")
    make_shapes(folder / "shapes", train=36, val=8, size=(SIDE, SIDE))
    empty = folder / "shapes" / "Annotations" / "train_000035.xml"
    empty.write_text(re.sub("<object>.*</object>", "", empty.read_text(), flags=re.DOTALL))
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
    return {kind: folder / kind for kind in KINDS_OF_DATASETS}


@pytest.fixture(scope="module")
def valid_results(valid: Dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Tuple]:
    """Exit status and findings of the valid datasets."""
    folder = tmp_path_factory.mktemp("results")
    return {kind: check(valid[kind], folder) for kind in KINDS_OF_DATASETS}


def check(root: Path, tmp_path: Path, *more: str) -> Tuple[int, Findings]:
    output = tmp_path / "findings.json"
    command = ["check-data", str(root), "--size", str(SIDE), "--no-estimate", "--json", str(output), *more]
    status = main(command)
    return status, json.loads(output.read_text())["findings"]


def codes(findings: Findings) -> Set[str]:
    return {finding["code"] for finding in findings}


def in_folder(finding: Dict[str, str], root: Path) -> Tuple[str, ...]:
    """A finding with paths relative to the dataset."""
    return tuple(finding[key].replace(str(root), "") for key in ("code", "file", "where", "text"))


def copy_of(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / dataset.name))


@pytest.mark.parametrize("kind", KINDS_OF_DATASETS)
def test_valid_dataset_has_no_errors(
    kind: str, valid: Dict[str, Path], valid_results: Dict[str, Tuple]
) -> None:
    status, findings = valid_results[kind]
    assert status == 0
    dataset = open_dataset("auto", valid[kind], "train+val", allow_absent=True)
    empty = sorted(sample.image_path for sample in dataset if not len(sample.labels))
    assert sorted(f["file"] for f in findings if f["code"] == "image-without-objects") == empty
    assert codes(findings) == EXPECTED_IN_SHAPES


@pytest.mark.parametrize(("fault", "kind"), CASES)
def test_fault_is_reported(
    fault: str, kind: str, valid: Dict[str, Path], valid_results: Dict[str, Tuple], tmp_path: Path
) -> None:
    code, _, insert = FAULTS[fault]
    root = copy_of(valid[kind], tmp_path / "a" / "b")
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):  # for paths that lead out of the dataset
        shutil.copy(next((valid["voc"] / "JPEGImages").iterdir()), folder / "outside.jpg")
    insert(FaultyDataset(kind, root))
    status, findings = check(root, tmp_path)
    before = {in_folder(finding, valid[kind]) for finding in valid_results[kind][1]}
    new = [f for f in findings if f["code"] == code and in_folder(f, root) not in before]
    assert new, findings
    errors = [finding for finding in findings if finding["level"] == "error"]
    assert status == int(bool(errors))
    if code.startswith(("box-", "image-", "size-", "annotation-")):
        assert any(finding["file"] for finding in new)
    if KINDS[code].headline == KINDS["box-inverted"].headline and code != "object-without-image":
        assert new[0]["where"].startswith(PLACES[kind])
    assert codes(errors) - {code} <= FURTHER_ERRORS.get(fault, set())


def test_line_of_a_finding_is_that_of_the_object(valid: Dict[str, Path], tmp_path: Path) -> None:
    faulty = FaultyDataset("voc", copy_of(valid["voc"], tmp_path))
    faulty.box((60, 60, 20, 20))
    faulty.edit(faulty.xml, lambda text: text.replace("<object>", "<!-- <object> -->\n<object>", 1))
    _, findings = check(faulty.root, tmp_path)
    (finding,) = [finding for finding in findings if finding["code"] == "box-inverted"]
    line = faulty.xml.read_text().splitlines()[int(finding["where"].split()[1]) - 1]
    assert "<object>" in line
    assert "<!--" not in line
    assert finding["file"] == str(faulty.xml)


@pytest.mark.parametrize("kind", [kind for kind in KINDS_OF_DATASETS if kind != "recordio"])
def test_fix_writes_a_copy_without_faults(kind: str, valid: Dict[str, Path], tmp_path: Path) -> None:
    root = copy_of(valid[kind], tmp_path)
    faulty = FaultyDataset(kind, root)
    misspelled_class(faulty)
    faulty.add_second_object(same_class=True)
    shutil.copy(faulty.val_image, faulty.other)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    status, findings = check(root, tmp_path, "--fix", str(tmp_path / "fixed"))
    assert status == 1
    assert {"box-duplicate", "image-in-two-lists", "class-misspelled"} <= codes(findings)
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    status, findings = check(tmp_path / "fixed", tmp_path)
    assert (status, codes(findings)) == (0, EXPECTED_IN_SHAPES)
    fixed = open_dataset("auto", tmp_path / "fixed", "train")
    assert fixed.classes == open_dataset("auto", valid["voc"], "train").classes
    assert len(fixed) == 35
    assert len(open_dataset("auto", tmp_path / "fixed", "val", allow_absent=True)) == 8


def test_printed_result(valid: Dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    faulty = FaultyDataset("voc", copy_of(valid["voc"], tmp_path))
    faulty.box((60, 60, 20, 20))
    capsys.readouterr()
    assert main(["check-data", str(faulty.root), "--size=96", "--no-pixels"]) == 1
    output = capsys.readouterr().out
    assert KINDS["boxes-unmatched"].headline in output
    assert "train: 36 images" in output
    assert re.search(rf"^error: {KINDS['box-inverted'].headline}: 1\n +\S+xml, line \d+: ", output, re.M)
    assert re.search(r"^1 error, \d+ warnings?, \d+ notes?$", output, re.M)
    assert "images per second" in output
    assert "--fix" in output


def test_share_of_boxes_without_an_anchor(valid: Dict[str, Path], tmp_path: Path) -> None:
    root = copy_of(valid["yolo"], tmp_path)
    for path in (root / "labels" / "train").iterdir():
        path.write_text("0 0.5 0.5 0.9 0.06\n")
    _, findings = check(root, tmp_path)
    assert any(f["code"] == "boxes-unmatched" and "100%" in f["text"] for f in findings)


def test_real_voc_has_no_false_findings(shared: Path, tmp_path: Path) -> None:
    """VOC2012 `train` has only the findings that were confirmed by hand."""
    voc = shared / "voc" / "VOCdevkit"
    if not voc.is_dir():
        pytest.skip(f"no dataset at {voc}")
    status, findings = check(voc, tmp_path, "--splits", "2012_train", "--no-pixels")
    assert status == 0
    confirmed = {
        "class-unused",
        "class-rare",
        "boxes-unmatched",
        "box-whole-image",
        "image-small",
        "box-tiny",
    }
    assert codes(findings) <= confirmed
    boxes = {sample.image_path: sample.boxes for sample in open_dataset("voc", voc, "2012_train")}
    for finding in findings:
        if finding["code"] == "box-whole-image":
            height, width = read_image(finding["file"]).shape[:2]
            edges = [0, 0, width - 1, height - 1]
            assert (np.abs(boxes[finding["file"]] - edges) < 1).all(axis=1).any()


def test_every_kind_of_finding_is_used() -> None:
    package = Path(__file__).resolve().parents[2] / "mnssd"
    text = "".join(path.read_text() for path in package.rglob("*.py") if path.name != "findings.py")
    assert [code for code in KINDS if f'"{code}"' not in text] == []
