"""An export format from a plugin, one file outside the package, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from helpers.detectors import write_run
from helpers.interpreter import run_python

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


def command(arguments: List[Any]) -> Tuple[int, str, str]:
    """Run `mnssd` in a process of its own: plugins stay registered in a process."""
    code = f"from mnssd.cli.main import main; raise SystemExit(main({list(map(str, arguments))!r}))"
    done = run_python(code)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugins") / "npz_format.py"
    path.write_text(PLUGIN)
    return path


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
    status, out, err = command([*arguments, "--images", *image_files])
    assert status == 0, err
    assert {line.split(":")[0] for line in out.splitlines()} >= {"plain", "fused", "npz"}
    return folder / "e"


def test_help_lists_the_format_and_its_engine(plugin: Path) -> None:
    status, out, _ = command(["export", "--plugin", plugin, "--help"])
    assert status == 0
    assert "npz" in out
    assert "numpy-archive" in command(["detect", "--plugin", plugin, "--help"])[1]
    assert "numpy-archive" not in command(["detect", "--help"])[1]


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
        status, _, err = command(["detect", exported, image_files[0], *options])
        assert status == 0, err
        (image,) = json.loads(target.read_text())["images"]
        boxes.append([(d["class"], d["box"]) for d in image["detections"]])
    assert len(boxes[0]) == len(boxes[1]) > 0


def test_bench_export_measures_the_engine(plugin: Path, exported: Path, shapes: str, tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    options = ["--plugin", plugin, "--data-root", shapes, "--seconds", "0.01", "--json", target]
    status, out, err = command(["bench", "export", exported, *options])
    assert status == 0, err
    assert "numpy-archive" in out
    rows = json.loads(target.read_text())["rows"]
    assert [row["engine"] for row in rows] == ["mxnet", "numpy-archive"]


def test_error_names_the_file_kind_of_a_missing_plugin(exported: Path, image_files: List[str]) -> None:
    status, _, err = command(["detect", exported, image_files[0]])
    assert status == 1
    assert "'npz'" in err
    assert "--plugin" in err
