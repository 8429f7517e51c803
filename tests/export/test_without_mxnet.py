"""Exports for other engines run without importing MXNet, which takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

import pytest
from helpers.engines import engine_params
from helpers.interpreter import run_python

from mnssd.export.formats import format_of_engine
from mnssd.inference.detector import Detector

OTHERS = [param for param in engine_params(exact=True) if not format_of_engine(param.values[0]).needs_mxnet]
BLOCKED = "import sys; sys.modules['mxnet'] = None  # importing it raises ImportError\n"


@pytest.mark.parametrize("engine", OTHERS)
def test_detector_imports_no_mxnet(engine: str, tiny_export: Path, image_files: List[str]) -> None:
    code = (
        f"{BLOCKED}import json\nfrom mnssd.inference.detector import Detector\n"
        f"detector = Detector.load({str(tiny_export)!r}, engine={engine!r})\n"
        f"print(json.dumps([list(row) for row in detector({image_files[0]!r}, score=0.6, max_detections=3)]))"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    expected = Detector.load(tiny_export, engine=engine)(image_files[0], score=0.6, max_detections=3)
    found = json.loads(done.stdout)
    assert [name for name, _, _ in found] == [name for name, _, _ in expected]
    for (_, score, box), (_, expected_score, expected_box) in zip(found, expected):
        assert score == pytest.approx(expected_score, abs=1e-5)
        assert box == pytest.approx(list(expected_box), abs=1e-2)


def test_command_imports_no_mxnet(tiny_export: Path, image_files: List[str], tmp_path: Path) -> None:
    arguments = ["detect", str(tiny_export), image_files[0], "--engine", "onnxruntime"]
    arguments += ["--json", str(tmp_path / "found.json"), "--max-detections", "3"]
    done = run_python(
        f"{BLOCKED}from mnssd.cli.main import run_command\nsys.exit(run_command('detect', {arguments[1:]!r}))"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))


def test_unknown_device_is_refused_before_loading(tiny_export: Path) -> None:
    from mnssd.errors import OptionError

    with pytest.raises(OptionError):
        Detector.load(tiny_export, ctx="tpu", engine="onnxruntime")
