"""`mnssd suggest`: images without labels, each once, and what cannot be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Tuple

import pytest
from helpers.detectors import make_image, write_image, write_run

import mnssd
from mnssd.cli.main import run_command
from mnssd.errors import OptionError


@pytest.fixture
def run(tmp_path: Path, tiny_detector: Tuple[Any, Any], devkit: Path) -> Path:
    return write_run(tmp_path / "run", *tiny_detector, dataset="voc", data_root=str(devkit))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four images, of which two are equal."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, seed in (("a.png", 0), ("b.png", 0), ("c.png", 2), ("more/d.png", 3)):
        write_image(folder / name, make_image(seed))
    return folder


def suggest(*arguments: Any) -> int:
    return run_command("suggest", list(map(str, arguments)))


def test_images_are_printed_and_written_and_equal_ones_come_last(
    run: Path, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    assert suggest(run, photos, "--json", tmp_path / "s.json") == 0
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == [str(photos / name) for name in ("a.png", "b.png", "c.png", "more/d.png")]
    assert Path(printed[-1]).name in ("a.png", "b.png")
    result = json.loads((tmp_path / "s.json").read_text())
    assert [entry["image"] for entry in result["images"]] == printed
    assert (result["candidates"], result["labeled"]) == (4, 0)
    assert suggest(run, photos, "--number", 2) == 0
    assert capsys.readouterr().out.splitlines() == printed[:2]


def test_images_of_the_dataset_are_left_out(run: Path, devkit: Path, photos: Path, capsys: Any) -> None:
    labeled = devkit / "VOC2012" / "JPEGImages"
    assert suggest(run, labeled) == 1
    assert str(labeled) in capsys.readouterr().err
    write_image(labeled / "new.png", make_image(5))
    assert suggest(run, labeled) == 0
    assert capsys.readouterr().out.splitlines() == [str(labeled / "new.png")]


def test_a_run_whose_dataset_is_missing_suggests_too(
    run: Path, devkit: Path, photos: Path, capsys: Any
) -> None:
    shutil.rmtree(devkit)
    assert suggest(run, photos) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_unreadable_image_is_reported(run: Path, photos: Path, capsys: Any) -> None:
    (photos / "a.png").write_bytes((photos / "a.png").read_bytes()[:100])
    assert suggest(run, photos) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert str(photos / "a.png") in captured.err


def test_wrong_arguments_are_refused(run: Path, photos: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, status, named in (
        ([run, tmp_path / "nowhere"], 1, "nowhere"),
        ([run, tmp_path / "empty"], 1, "empty"),
        ([run, photos, "--number", "0"], 2, "number"),
        ([tmp_path / "no-run", photos], 1, "no-run"),
    ):
        assert suggest(*arguments) == status
        captured = capsys.readouterr()
        assert named in captured.err
        assert captured.out == ""


def test_python_function(run: Path, photos: Path) -> None:
    found = mnssd.suggest(mnssd.Run(run), photos, number=2)
    assert len(found.images) == 2
    assert found.images == mnssd.suggest(str(run), str(photos), 2).images
    assert found.candidates == 4
    with pytest.raises(OptionError, match="nmber"):
        mnssd.suggest(run, photos, nmber=2)
