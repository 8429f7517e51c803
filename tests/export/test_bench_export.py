"""`mnssd bench export`: a row per engine, and errors that name what was given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from helpers.detectors import write_run

from mnssd.bench import exports
from mnssd.bench.options import BenchOptions
from mnssd.cli.main import main
from mnssd.errors import MnssdError
from mnssd.export.load import formats_in


@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_engines_and_the_network_are_measured(
    count: int,
    tiny_export: Path,
    tiny_detector: Tuple[Any, Any],
    shapes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(exports, "ROUNDS", 1)
    monkeypatch.setattr(exports, "formats_in", lambda sidecar: formats_in(sidecar)[:count])
    run, target = write_run(tmp_path / "run", *tiny_detector), tmp_path / "result.json"
    options = ["--data-root", shapes, "--seconds", "0.01", "--run", str(run), "--json", str(target)]
    copy = shutil.copytree(tiny_export, tmp_path / "pets")  # the fastest engine is stored beside the export
    assert main(["bench", "export", str(copy), *options]) == 0
    rows = json.loads(target.read_text())["rows"]
    sidecar = json.loads((tiny_export / "pets.json").read_text())
    engines = ["network", *[entry.engine for entry in formats_in(sidecar)[:count]]]
    assert [row["engine"] for row in rows] == engines
    for row in rows:
        assert set(row["heads"]) == set(row["total"]) == {"1", "8"}
        assert min(*row["heads"].values(), *row["total"].values()) > 0
        assert row["peak_megabytes"] > 50
        assert row["map"] is None  # the dataset has none of its classes
    table = capfd.readouterr().out
    assert all(engine in table for engine in engines)
    assert json.loads((copy / "pets-speed.json").read_text())["engine"] in ("mxnet", "onnxruntime")


@pytest.mark.parametrize(
    ("arguments", "named"), [([], "FOLDER"), (["nowhere"], "nowhere"), (["a", "b"], "FOLDER")]
)
def test_one_export_is_required(arguments: List[str], named: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "export", *arguments]) != 0
    assert named in capfd.readouterr().err


def test_an_error_in_a_process_is_raised(tiny_export: Path) -> None:
    with pytest.raises(MnssdError, match="nowhere"):
        exports._Worker("mxnet", tiny_export, BenchOptions(dataset="voc", data_root="nowhere"))
