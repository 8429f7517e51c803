"""`mnssd info`."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import mxnet as mx
import pytest

import mnssd
from mnssd.cli import info
from mnssd.cli.main import main
from mnssd.runtime import plugins, processor


def test_json_has_the_facts_of_this_machine(capsys: pytest.CaptureFixture) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["mnssd"] == mnssd.__version__
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["engines"]["MXNet"] == mx.__version__
    assert facts["cpu"] == processor.model()
    assert facts["usable_cores"] == processor.usable_cores()
    assert facts["memory_megabytes"] == processor.total_megabytes()


def test_text_has_a_line_per_fact(capsys: pytest.CaptureFixture) -> None:
    assert main(["info"]) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["mnssd"].strip() == mnssd.__version__
    assert {"processor", "cores", "threads", "memory", "MXNet engine", "ONNX Runtime engine"} <= {*rows}


def test_plugin_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_loaded", [])
    monkeypatch.setenv(plugins.VARIABLE, "")
    (tmp_path / "mine.py").touch()
    assert main(["info", "--json", "--plugin", str(tmp_path / "mine.py")]) == 0
    assert json.loads(capsys.readouterr().out)["plugins"] == [str(tmp_path / "mine.py")]


def test_broken_and_missing_engines_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_engine.py").write_text("raise OSError('libxyz.so is missing')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(info, "ENGINES", {"Broken": "broken_engine", "Absent": "absent_engine"})
    engines = info.collect_facts()["engines"]
    assert "libxyz.so" in engines["Broken"]
    assert engines["Absent"] != engines["Broken"]


def test_extras_name_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        info.metadata,
        "requires",
        lambda name: [
            "numpy<1.24",
            'mxnet>=1; extra == "a"',
            'absent-package; extra == "a"',
            'numpy; extra == "b"',
        ],
    )
    assert info._extras() == {"a": ["absent-package"], "b": []}
