"""The engine that ``auto`` takes: the fastest one measured here, else the first."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional

import mxnet as mx
import pytest

from mnssd.bench import exports
from mnssd.bench.choice import choose, store_choice
from mnssd.bench.exports import NETWORK, ExportRow
from mnssd.bench.options import BenchOptions
from mnssd.errors import ExportError
from mnssd.export import speed
from mnssd.export.load import load_export
from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.inference.detector import Detector
from mnssd.runtime import processor, settings


def row(engine: str, milliseconds: float, mean_ap: Optional[float]) -> ExportRow:
    times = {1: milliseconds, 8: 1.0}
    return ExportRow(engine, 1.0, times, times, None, mean_ap, [])


ROWS = [row(NETWORK, 1, 0.63), row("mxnet", 10, 0.62), row("onnxruntime", 8, 0.62), row("mxnet-int8", 4, 0.6)]


@pytest.mark.parametrize(
    ("max_loss", "expected"), [(0.0, "onnxruntime"), (0.02, "onnxruntime"), (0.031, "mxnet-int8")]
)
def test_choice_by_accuracy(max_loss: float, expected: str, tiny_export: Path) -> None:
    sidecar = json.loads((tiny_export / "pets.json").read_text())
    chosen = choose(ROWS, sidecar, max_loss)
    assert chosen
    assert chosen.engine == expected


def test_choice_without_accuracy_or_without_float32(tiny_export: Path) -> None:
    sidecar = json.loads((tiny_export / "pets.json").read_text())
    unknown = [row("mxnet", 10, None), row("mxnet-int8", 4, None)]
    chosen = choose(unknown, sidecar, 1.0)
    assert chosen
    assert chosen.engine == "mxnet"
    assert choose([row(NETWORK, 1, 0.6), row("mxnet-int8", 4, 0.6)], sidecar, 0.0) is None
    sidecar["symbol"]["weights"] = "float16"
    assert choose([row("mxnet", 4, 0.6)], sidecar, 0.0) is None


@pytest.fixture
def measured(tiny_export: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_export`, of whose engines ``mxnet-int8`` was measured as the fastest."""
    folder = tmp_path / "pets"
    shutil.copytree(tiny_export, folder)
    store_choice(folder, ROWS, BenchOptions(max_loss=0.05))
    return folder


def engine_of(folder: Path) -> str:
    loaded = load_export(folder, "detection", mx.cpu())
    assert loaded
    return loaded.engine_name


def test_auto_takes_the_fastest(
    measured: Path, image_files: List[str], caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads((measured / "pets-speed.json").read_text())
    assert content["engine"] == "mxnet-int8"
    assert content["machine"]["processor"] == processor.model()
    assert [entry["engine"] for entry in content["engines"]] == [row.engine for row in ROWS]
    caplog.set_level(logging.INFO, "mnssd.export")
    assert engine_of(measured) == "mxnet-int8"
    assert len([record for record in caplog.records if record.levelno == logging.INFO]) == 1
    ours, theirs = (Detector.load(measured, engine=name) for name in ("auto", "mxnet-int8"))
    assert ours(image_files[0]).scores.tolist() == theirs(image_files[0]).scores.tolist()


def change(folder: Path, **values: Any) -> None:
    path = folder / "pets-speed.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


OTHERS: Dict[str, Any] = {
    "another export": {"export": "0" * 64},
    "an unknown engine": {"engine": "tensorrt"},
    "an engine without files": {"engine": "openvino-bf16"},
    "no machine": {"machine": None},
}


@pytest.mark.parametrize("name", OTHERS)
def test_results_that_do_not_apply_are_not_used(name: str, measured: Path) -> None:
    change(measured, **OTHERS[name])
    assert engine_of(measured) == "mxnet"


@pytest.mark.parametrize(
    ("fact", "value"),
    [("processor", "Z80"), ("cores", 99), ("threads", "77"), ("mxnet", "1.0"), ("mnssd", "0")],
)
def test_results_of_another_machine_are_not_used(fact: str, value: Any, measured: Path) -> None:
    content = json.loads((measured / "pets-speed.json").read_text())
    change(measured, machine={**content["machine"], fact: value})
    assert engine_of(measured) == "mxnet"


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100000])
def test_damaged_results_are_not_used(content: bytes, measured: Path) -> None:
    (measured / "pets-speed.json").write_bytes(content)
    assert engine_of(measured) == "mxnet"


def test_exporting_again_removes_the_result(
    tiny_detector: Any, image_files: List[str], tmp_path: Path
) -> None:
    for _ in range(2):
        export_network(*tiny_detector, tmp_path / "e", image_files[:1], "e", ExportOptions("symbol"))
        assert not speed.speed_path(tmp_path / "e" / "e.json").exists()
        store_choice(tmp_path / "e", [row("mxnet", 1, None)], BenchOptions())
        assert speed.speed_path(tmp_path / "e" / "e.json").exists()


def test_unwritable_folder_keeps_the_table(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_json(path: Path, value: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    before = (measured / "pets-speed.json").read_bytes()
    monkeypatch.setattr(speed, "write_json", write_json)
    assert "pets-speed.json" in store_choice(measured, ROWS, BenchOptions())
    assert (measured / "pets-speed.json").read_bytes() == before


def test_engines_that_cannot_be_loaded_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(engine: str, folder: Path, options: BenchOptions) -> str:
        if engine != "mxnet":
            raise ExportError(f"{engine}: not installed")
        return engine

    monkeypatch.setattr(exports, "_Worker", start)
    workers: List[Any] = []
    exports._start(["onnxruntime", "mxnet", "openvino"], workers, Path(), BenchOptions())
    assert workers == ["mxnet"]
    with pytest.raises(ExportError, match="openvino"):
        exports._start(["onnxruntime", "openvino"], [], Path(), BenchOptions())


@pytest.mark.parametrize(
    ("given", "others", "expected"),
    [("1", 0, 1), ("7", 0, 7), ("", 0, 4), ("3", 0, 4), ("", 1.9, 2), ("3", 1.9, 2), ("4", 1.9, 4)],
)
def test_threads_of_other_engines(
    given: str, others: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four cores `configure` gives MXNet three, which is no choice of the user."""
    monkeypatch.setattr(settings, "usable_cores", lambda: 4)
    monkeypatch.setattr(settings.load, "allowed_cpus", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(settings, "used_by_others", lambda: others)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert settings.engine_threads() == expected
