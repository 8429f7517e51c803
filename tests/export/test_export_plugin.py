"""An export format from a plugin, one file outside the package, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest
from helpers.detectors import write_run
from helpers.plugins import forgotten_plugins

from mnssd.bench import exports
from mnssd.cli.main import main
from mnssd.export.formats import export_formats

PLUGIN = '''
"""Export format npz: graph and arrays in one NumPy archive."""

from mnssd.export.formats import ExportFormat, export_formats


class NpzFormat(ExportFormat):
    name = "npz"
    description = "graph and arrays as a NumPy archive"
    engine = "numpy-archive"
    files = {"npz": ".npz"}

    def write(self, network, folder, name):
        import numpy as np

        symbol, parameters = network.graph()
        np.savez(self.new_paths(folder, name)[0], graph=symbol.tojson(), **parameters)
        return network.describe_format()

    def load(self, folder, sidecar, ctx, tensors=()):
        import mxnet as mx
        import numpy as np

        from mnssd.export.engines import MXNetEngine
        from mnssd.graph.inference import load_block

        with np.load(self.paths(folder, sidecar)[0]) as arrays:
            symbol = mx.sym.load_json(str(arrays["graph"]))
            parameters = {name: arrays[name] for name in arrays.files}
        if tensors:
            inner = symbol.get_internals()
            symbol = mx.sym.Group([inner[f"{name}_output"] for name in tensors])
        return MXNetEngine(load_block(symbol, parameters, ctx), ctx)


export_formats.register("npz", NpzFormat())
'''


def command(*arguments: Any) -> int:
    return int(main(list(map(str, arguments))))


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugins") / "npz_format.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture(autouse=True)
def plugins_end_with_the_test() -> Iterator[None]:
    with forgotten_plugins(export_formats):
        yield


@pytest.fixture(scope="module")
def exported(
    plugin: Path,
    tiny_detector: Tuple[Any, Any],
    image_files: List[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Export in the formats ``symbol`` and ``npz``, by the command."""
    folder = tmp_path_factory.mktemp("npz")
    run = write_run(folder / "run", *tiny_detector)
    arguments = ["export", run, "--plugin", plugin, "--output", folder / "e", "--format", "symbol,npz"]
    with forgotten_plugins(export_formats):
        assert command(*arguments, "--images", *image_files) == 0
    return folder / "e"


def test_help_lists_the_format_and_its_engine(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("detect", "--help") == 0
    assert "numpy-archive" not in capsys.readouterr().out
    assert command("detect", "--plugin", plugin, "--help") == 0
    assert "numpy-archive" in capsys.readouterr().out
    assert command("export", "--plugin", plugin, "--help") == 0
    printed = capsys.readouterr().out
    assert "npz" in printed
    assert "numpy-archive" in printed


def test_files_are_described_and_parity_checked(exported: Path, image_files: List[str]) -> None:
    sidecar = json.loads((exported / "run.json").read_text())
    assert sidecar["files"]["npz"]["file"] == "run.npz"
    assert sidecar["npz"]["outputs"] == ["ids", "scores", "bboxes"]
    assert sidecar["parity"]["npz"]["images"] == len(image_files)
    assert sidecar["parity"]["npz"]["detections"] == sidecar["parity"]["plain"]["detections"] > 0


def test_detect_uses_the_engine(plugin: Path, exported: Path, image_files: List[str], tmp_path: Path) -> None:
    boxes = []
    for engine in ("numpy-archive", "mxnet"):
        target = tmp_path / f"{engine}.json"
        options = ["--plugin", plugin, "--engine", engine, "--json", target]
        assert command("detect", exported, image_files[0], *options) == 0
        (image,) = json.loads(target.read_text())["images"]
        boxes.append([(d["class"], d["box"]) for d in image["detections"]])
    assert len(boxes[0]) == len(boxes[1]) > 0


@pytest.mark.slow
def test_bench_export_measures_the_engine(
    plugin: Path,
    exported: Path,
    shapes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(exports, "ROUNDS", 1)
    target = tmp_path / "bench.json"
    options = ["--plugin", plugin, "--data-root", shapes, "--seconds", "0.01", "--json", target]
    assert command("bench", "export", exported, *options) == 0
    assert "numpy-archive" in capfd.readouterr().out
    rows = json.loads(target.read_text())["rows"]
    assert [row["engine"] for row in rows] == ["mxnet", "numpy-archive"]


def test_error_names_the_file_kind_of_a_missing_plugin(
    exported: Path, image_files: List[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("detect", exported, image_files[0]) == 1
    error = capsys.readouterr().err
    assert "'npz'" in error
    assert "--plugin" in error
