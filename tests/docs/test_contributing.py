"""The extensions in CONTRIBUTING.md, used as plugins; tests of the three registries use the same programs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.interpreter import run_python

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S
)


@pytest.mark.parametrize(
    ("index", "command", "name"),
    [(0, "train-ssd", "toynet"), (1, "convert-data", "boxes"), (2, "export", "npz")],
)
def test_example_appears_in_help(index: int, command: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(PROGRAMS[index], encoding="utf-8")
    arguments = [command, "--plugin", str(path), "--help"]
    code = f"from mnssd.cli.main import main; raise SystemExit(main({arguments!r}))"
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"\b{name}\b", done.stdout)


@pytest.mark.parametrize(
    ("index", "test"),
    [
        (0, "nn/test_backbone_plugin.py"),
        (1, "data/test_format_plugin.py"),
        (2, "export/test_export_plugin.py"),
    ],
)
def test_example_is_the_tested_program(index: int, test: str) -> None:
    text = (ROOT / "tests" / test).read_text(encoding="utf-8")
    match = re.search(r"PLUGIN = '''\n(.*?)'''", text, re.S)
    assert match
    assert PROGRAMS[index].strip() == match.group(1).replace("\\\\n", "\\n").strip()
