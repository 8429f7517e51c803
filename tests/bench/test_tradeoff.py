"""`mnssd compare`: a line a network, and the curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

import cv2
import pytest

from mnssd.bench.measure import format_table
from mnssd.bench.tradeoff import PUBLISHED
from mnssd.cli.main import main


def test_table_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report, picture = tmp_path / "points.json", tmp_path / "curves.png"
    arguments = ["--widths", "0.5,0.25", "--sizes", "128,96", "--seconds", "0.01"]
    assert main(["compare", *arguments, "--json", str(report), "--output", str(picture)]) == 0
    points = json.loads(report.read_text())["points"]
    assert [(p["network"], p["width"], p["size"]) for p in points[:3]] == [
        ("mobilenet_v1", 0.5, 128), ("mobilenet_v1", 0.5, 96), ("mobilenet_v1", 0.25, 128),
    ]  # fmt: skip
    assert len(points) == 8
    assert all(point["milliseconds"] > 0 for point in points)
    assert points[0]["published_top1"] == 56.3
    assert points[1]["published_top1"] is None
    assert points[0]["multiply_adds"] > 1.7 * points[1]["multiply_adds"]
    image = cv2.imread(str(picture))
    assert image.shape[1] > 1000
    assert image.std() > 10
    assert capsys.readouterr().out.count("mobilenet_v") == 8


def test_untimed_in_markdown(capsys: pytest.CaptureFixture) -> None:
    assert (
        main(["compare", "--networks", "mobilenet_v2", "--widths", "1", "--seconds", "0", "--markdown"]) == 0
    )
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| mobilenet_v2")]
    assert rows[0] == "| mobilenet_v2 | 1 | 224 | 3.505 M | 313.6 M |  | 71.8 |"
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--networks", "resnet"], "networks are mobilenet_v1 and mobilenet_v2"),
        (["--widths", "0"], "widths are above 0"),
        (["--output", "curves.gif"], "ends in .png"),
        (["--sizes", "x"], "--sizes"),
    ],
)
def test_what_makes_no_sense(arguments: List[str], words: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["compare", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_smaller_network_was_never_published_as_better() -> None:
    for (network, width, size), top1 in PUBLISHED.items():
        for (other, wider, larger), better in PUBLISHED.items():
            if network == other and wider >= width and larger >= size and (wider, larger) != (width, size):
                assert better > top1


def test_a_table_of_texts_and_numbers() -> None:
    text = format_table(("name", "n"), [("a", "1,000"), ("bcd", "2.5%"), ("", "?")])
    assert text.splitlines() == ["name      n", "a     1,000", "bcd    2.5%", "          ?"]
