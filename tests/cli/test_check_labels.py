"""`mnssd check-labels`: what is printed, written and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, List, Tuple
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from helpers.detectors import make_image, write_image, write_run

import mnssd
from mnssd.cli.main import run_command
from mnssd.errors import OptionError
from mnssd.metrics.label_suspects import LabelFault

SCORE = 0.97


@pytest.fixture
def photos(tmp_path: Path, tiny_detector: Tuple[Any, Any]) -> Path:
    """A folder of six images, labeled with what the detector is sure of; `run` is beside it."""
    folder = tmp_path / "photos"
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True)
    for number in range(6):
        image = make_image(number, 160 + 10 * number, 120)
        write_image(folder / ("train" if number < 4 else "val") / f"{number}.png", image)
    run = write_run(tmp_path / "run", *tiny_detector, dataset="voc", data_root=str(folder))
    assert run_command("detect", [str(run), str(folder), "--voc", str(folder), "--score", str(SCORE)]) == 0
    return folder


@pytest.fixture
def run(photos: Path, capsys: Any) -> Path:
    """The run whose dataset the folder is."""
    capsys.readouterr()
    return photos.parent / "run"


def check(*arguments: Any) -> int:
    return run_command("check-labels", list(map(str, arguments)))


def remove_object(annotation: Path) -> List[int]:
    """Take the first object out of an annotation; returns its corners, counted from 0."""
    tree = ElementTree.parse(annotation)
    first = tree.getroot().find("object")
    assert first is not None
    tree.getroot().remove(first)
    tree.write(annotation)
    return [int(first.findtext(f"bndbox/{corner}", "")) - 1 for corner in ("xmin", "ymin", "xmax", "ymax")]


def test_a_removed_label_is_found_printed_written_and_drawn(
    run: Path, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    target, drawn = tmp_path / "suspects.json", tmp_path / "drawn"
    box = remove_object(photos / "val" / "5.xml")
    assert check(run, "--number", 6, "--json", target, "--output", drawn) == 0
    result = json.loads(target.read_text())
    assert result["images"] == 6
    printed, files = capsys.readouterr().out, sorted(drawn.iterdir())
    assert 0 < len(result["suspects"]) == len(files) <= 6
    for suspect, file in zip(result["suspects"], files):
        assert suspect["image"] in printed
        assert LabelFault(suspect["fault"]).value in file.name
        assert Path(suspect["image"]).stem in file.name
        assert ("label" in suspect) == (suspect["fault"] != "missing")
        assert ("detection" in suspect) == (suspect["fault"] != "spurious")
        assert cv2.imread(str(file)) is not None
    places = [
        np.abs(np.array(suspect["detection"]["box"]) - box).max()
        for suspect in result["suspects"]
        if Path(suspect["image"]).name == "5.png" and suspect["fault"] != "spurious"
    ]
    assert min(places) <= 1


def test_all_lists_one_list_and_another_folder(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    counts = []
    for arguments in ([], ["--data-root", tmp_path / "copy"], ["--splits", "val"]):
        target = tmp_path / "suspects.json"
        assert check(run, "--number", 0, "--json", target, *arguments) == 0
        result = json.loads(target.read_text())
        assert len([one for one in result["suspects"] if one["fault"] != "missing"]) <= result["labels"]
        counts.append((result["images"], result["labels"]))
    assert counts[0] == counts[1]
    assert counts[0][0] == 6
    assert counts[2][0] == 2
    assert counts[0][1] > counts[2][1] > 0


def test_unreadable_image_is_reported_and_the_others_are_checked(
    run: Path, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    image = photos / "val" / "4.png"
    image.write_bytes(image.read_bytes()[:200])
    assert check(run, "--json", tmp_path / "s.json") == 1
    assert str(image) in capsys.readouterr().err
    result = json.loads((tmp_path / "s.json").read_text())
    assert (result["images"], len(result["skipped"])) == (5, 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--number", "-1"], "number"),
        (["--splits", "nowhere"], "nowhere"),
        (["--data-root", "missing-folder"], "missing-folder"),
        (["--dataset", "coco"], "coco"),
    ],
)
def test_wrong_options_are_refused(run: Path, arguments: Any, named: str, capsys: Any) -> None:
    assert check(run, *arguments) != 0
    captured = capsys.readouterr()
    assert named in captured.err
    assert captured.out == ""


def test_output_is_not_written_over_and_a_missing_run_is_named(
    run: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "mine.txt").write_text("x")
    assert check(run, "--output", tmp_path / "drawn") == 2
    assert check(tmp_path / "nothing") == 1
    assert str(tmp_path / "nothing") in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["mine.txt"]


def test_python_function(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    result = mnssd.check_labels(mnssd.Run(run), number=3)
    assert (result.images, len(result.skipped)) == (6, 0)
    again = mnssd.check_labels(str(run), data=tmp_path / "copy", number=3)
    assert [one.suspicion for one in again.suspects] == [one.suspicion for one in result.suspects]
    assert all(str(tmp_path / "copy") in one.sample.image_path for one in again.suspects)
    assert mnssd.check_labels(run, splits="val").images < 6
    with pytest.raises(OptionError, match="nmber"):
        mnssd.check_labels(run, nmber=2)
