"""`mnssd bench`: workloads, units and options. Speeds are never asserted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest
from helpers.detectors import make_net, write_run

from mnssd.bench.measure import WARM_UP, Clock, Measurement, format_measurements, median_seconds
from mnssd.cli.main import main

SMALL = ("--size", "96", "--width", "0.25", "--batch-size", "4", "--seconds", "0.05")


def rows_of(path: Path) -> Dict[str, Dict[str, Any]]:
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


def test_clock_adds_up_and_waits_inside_a_part() -> None:
    waits: List[int] = []
    clock = Clock(lambda: (time.sleep(0.01), waits.append(1)))
    for _ in range(2):
        with clock.part("a"):
            pass
    with clock.part("b"):
        time.sleep(0.002)
    assert len(waits) == 3
    assert clock.seconds["a"] >= 0.02
    assert clock.seconds["b"] >= 0.012
    assert clock.milliseconds(4)["a"] == clock.seconds["a"] / 4 * 1e3


def test_median_excludes_warm_up() -> None:
    calls: List[int] = []
    assert median_seconds(lambda: calls.append(1), seconds=0.0, least=7) > 0
    assert len(calls) == WARM_UP + 7


def test_table_columns_are_aligned() -> None:
    rows = [
        Measurement("a", 123.456, 8.1, {"read": 0.123456, "rest": 45.678}, 321).as_dict(),
        Measurement("a longer name", 1.5, 666.6667, {}, None).as_dict(),
    ]
    head, first, second = format_measurements(rows).splitlines()
    assert first.split() == ["a", "123", "8.10", "321", "read", "0.12,", "rest", "45.7"]
    assert second.split() == ["a", "longer", "name", "1.50", "667", "?"]
    assert head.index("peak MB") + len("peak MB") == first.index("321") + 3 == second.rindex("?") + 1


@pytest.mark.slow
def test_all_workloads(shapes: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    result = tmp_path / "result.json"
    assert main(["bench", *SMALL, "--data-root", shapes, "--json", str(result)]) == 0
    rows = rows_of(result)
    assert list(rows) == [
        "train, batch 4",
        "detect, encoded image in memory",
        "infer, batch 1",
        "infer, batch 8",
        "data, one thread",
        *(name for name in rows if name.startswith("data, loader")),
        "eval, batch 4",
    ]
    for row in rows.values():
        assert row["images_per_second"] > 0
        assert row["peak_megabytes"] > 50
        assert row["images_per_second"] * row["milliseconds"] == pytest.approx(1000, rel=0.05)
    assert list(rows["train, batch 4"]["parts"]) == ["data", "forward", "backward", "update"]
    assert list(rows["data, one thread"]["parts"]) == ["read", "augment", "targets", "normalize"]
    # In one thread the parts do not overlap.
    assert sum(rows["data, one thread"]["parts"].values()) <= rows["data, one thread"]["milliseconds"]
    assert list(rows["eval, batch 4"]["parts"]) == ["read", "network", "metric"]
    printed = capfd.readouterr()
    assert "ssd on mobilenet_v2 x0.25 at 96x96, shapes" in printed.out
    assert all(name in printed.out for name in rows)
    assert "engine" not in printed.err


def test_detector_of_a_run(shapes: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    net, spec = make_net()
    run = write_run(tmp_path / "run", net, spec)
    result = tmp_path / "result.json"
    options = ("--data-root", shapes, "--seconds", "0.05", "--batch-size", "2", "--json", str(result))
    assert main(["bench", "eval", "--run", str(run), *options]) == 0
    assert str(run) in capsys.readouterr().out
    assert list(rows_of(result)) == ["eval, batch 2"]


def test_plain_graph_is_named(shapes: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "train", *SMALL, "--data-root", shapes, "--no-fast-graph"]) == 0
    assert "train, batch 4, plain graph" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trian"], ["'trian'", "train"]),
        (["train", "--run", "runs/a"], ["--run", "infer", "eval"]),
        (["--batch-size", "0"], ["batch_size", "0"]),
        (["--workers", "-2"], ["workers", "-2"]),
        (["--seconds", "0"], ["seconds", "0"]),
        (["--network", "resnet"], ["--network", "resnet", "mobilenet_v2"]),
        (["eval", "--data-root", "nowhere", "--dataset", "voc"], ["nowhere"]),
        (["export"], ["export FOLDER"]),
    ],
)
def test_invalid_arguments_are_named(
    arguments: List[str], named: List[str], capsys: pytest.CaptureFixture
) -> None:
    assert main(["bench", *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert all(name in error for name in named)


def test_failed_workload_fails_the_command(capfd: pytest.CaptureFixture) -> None:
    assert main(["bench", "data", "eval", "--dataset", "voc", "--data-root", "nowhere"]) == 1
    printed = capfd.readouterr()
    assert "nowhere" in printed.err
    assert "exit status 1" in printed.err
