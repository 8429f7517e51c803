"""benchmarks/small_objects.py: boxes where the objects are, of the given sizes, the same for a seed."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest
from helpers.detectors import make_net, write_run

from mnssd.data.annotations.voc_xml import write_annotation
from mnssd.data.image import read_image
from mnssd.data.open import open_dataset

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
OPTIONS = ["--size=400x300", "--images=2", "--objects=12", "--sides=12,60", "--reductions=2,3"]


@pytest.fixture(scope="module")
def small_objects() -> Any:
    """The module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        import small_objects

        return small_objects


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A VOC dataset of two images with bright and dark squares on gray."""
    folder = tmp_path / "source"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for name in ("a", "b"):
        image = np.full((200, 260, 3), 120, np.uint8)
        boxes = [(20, 30, 79, 89), (120, 40, 199, 99), (0, 150, 49, 199)]  # the last ends at the edge
        for (left, top, right, bottom), level in zip(boxes, (180, 60, 180)):
            image[top : bottom + 1, left : right + 1] = level
        assert cv2.imwrite(str(folder / "JPEGImages" / f"{name}.png"), image)
        write_annotation(
            folder / "Annotations" / f"{name}.xml", f"{name}.png", (260, 200), ["cat", "dog", "cow"], boxes
        )
    (folder / "ImageSets" / "Main" / "test.txt").write_text("a\nb\n")
    return folder


def digests(folder: Path) -> Dict[str, str]:
    files: List[Path] = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make(module: Any, source: Path, output: Path, *options: str) -> int:
    return int(module.main(["make", str(output), f"--data-root={source}", *OPTIONS, *options]))


def test_objects_are_where_the_boxes_are(small_objects: Any, source: Path, tmp_path: Path) -> None:
    assert make(small_objects, source, tmp_path / "made") == 0
    dataset = open_dataset("auto", tmp_path / "made", "test", None, "eval")
    assert len(dataset) == 2
    assert set(dataset.classes) == {"cat", "dog"}
    for sample in dataset:
        assert sample.size == (400, 300)
        assert len(sample.boxes) > 3
        gray = read_image(sample.image_path).astype(int).mean(axis=2)
        for box, label in zip(sample.boxes, sample.labels):
            left, top, right, bottom = (int(edge) for edge in box)
            side = max(right - left, bottom - top) + 1
            assert 12 <= side <= 60
            around = gray[top - 3 : bottom + 4, left - 3 : right + 4]
            level = np.median(np.concatenate([around[0], around[-1], around[:, 0], around[:, -1]]))
            is_object = np.abs(around - level) > 35
            assert (around[is_object] > level).all() == (dataset.classes[label] == "cat")
            rows, columns = np.flatnonzero(is_object.any(axis=1)), np.flatnonzero(is_object.any(axis=0))
            found = np.array([columns[0], rows[0], columns[-1], rows[-1]]) + [left - 3, top - 3] * 2
            np.testing.assert_allclose(found, box, atol=1.01)


def test_the_seed_decides(small_objects: Any, source: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        assert make(small_objects, source, tmp_path / name / "made", f"--seed={seed}") == 0
    one, again, other = (digests(tmp_path / name / "made") for name in ("one", "again", "other"))
    assert one == again
    assert one.keys() == other.keys()
    assert one["JPEGImages/canvas000.jpg"] != other["JPEGImages/canvas000.jpg"]


def test_bad_arguments_end_it(small_objects: Any, source: Path, tmp_path: Path) -> None:
    assert make(small_objects, source, source) == 1  # not empty
    assert make(small_objects, tmp_path / "missing", tmp_path / "new") == 1
    assert make(small_objects, source, tmp_path / "none", "--sides=1,2") == 1  # no such object
    for bad in ("--size=4", "--sides=0,5", "--reductions=a,b"):
        with pytest.raises(SystemExit) as stop:
            make(small_objects, source, tmp_path / "bad", bad)
        assert stop.value.code == 2


def test_table_of_a_run(
    small_objects: Any, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert make(small_objects, source, tmp_path / "made") == 0
    run = write_run(tmp_path / "run", *make_net())
    capsys.readouterr()
    assert small_objects.main(["measure", str(run), str(tmp_path / "made"), "--tiles=none,2x3"]) == 0
    head, _, *rows = capsys.readouterr().out.strip().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:2] for row in cells] == [["none", "1"], ["2x3", "9"]]
    assert all(len(row) == head.count("|") - 1 for row in cells)
