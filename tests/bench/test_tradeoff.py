"""`mnssd compare`: table, JSON and plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

import cv2
import pytest

from mnssd.bench.measure import format_table
from mnssd.cli.main import main
from mnssd.nn.backbones import backbones


def test_table_json_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report, plot = tmp_path / "points.json", tmp_path / "plot.png"
    arguments = [
        "--networks",
        "mobilenet_v1",
        "--widths",
        "0.5,0.25",
        "--sizes",
        "128,96",
        "--seconds",
        "0.01",
    ]
    assert main(["compare", *arguments, "--json", str(report), "--output", str(plot)]) == 0
    points = json.loads(report.read_text())["points"]
    assert [(p["network"], p["width"], p["size"]) for p in points[:3]] == [
        ("mobilenet_v1", 0.5, 128), ("mobilenet_v1", 0.5, 96), ("mobilenet_v1", 0.25, 128),
    ]  # fmt: skip
    assert len(points) == 4
    assert all(point["milliseconds"] > 0 for point in points)
    assert points[0]["published_top1"] == 56.3
    assert points[1]["published_top1"] is None
    assert points[0]["multiply_adds"] > 1.7 * points[1]["multiply_adds"]
    image = cv2.imread(str(plot))
    assert image.shape[1] > 1000
    assert image.std() > 10
    assert capsys.readouterr().out.count("mobilenet_v") == 4


def test_markdown_without_measurement(capsys: pytest.CaptureFixture) -> None:
    assert (
        main(["compare", "--networks", "mobilenet_v2", "--widths", "1", "--seconds", "0", "--markdown"]) == 0
    )
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| mobilenet_v2")]
    assert rows[0] == "| mobilenet_v2 | 1 | 224 | 3.505 M | 313.6 M |  | 71.8 |"
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--networks", "resnet"], "resnet"),
        (["--widths", "0"], "widths"),
        (["--output", "plot.gif"], "plot.gif"),
        (["--sizes", "x"], "--sizes"),
    ],
)
def test_invalid_option_is_named(arguments: List[str], named: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["compare", *arguments]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_published_accuracy_grows_with_width_and_size(name: str) -> None:
    published = backbones[name].published
    assert len(published) > 15
    for (width, size), top1 in published.items():
        for (wider, larger), better in published.items():
            if wider >= width and larger >= size and (wider, larger) != (width, size):
                assert better > top1


def test_table_aligns_numbers_to_the_right() -> None:
    text = format_table(("name", "n"), [("a", "1,000"), ("bcd", "2.5%"), ("", "?")])
    assert text.splitlines() == ["name      n", "a     1,000", "bcd    2.5%", "          ?"]
