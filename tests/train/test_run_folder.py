"""Run folders: creation, numbering, locking."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import train

from mnssd.errors import MnssdError, OptionError
from mnssd.train.run_folder import RunFolder


def test_taken_output_is_refused_and_default_name_is_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = RunFolder.create("", "ssd"), RunFolder.create("", "ssd")
    first.unlock()
    assert (first.path.name, second.path.name) == ("ssd", "ssd-2")
    (first.path / "notes.txt").write_text("x")
    with pytest.raises(OptionError, match=f"{first.path}.*--resume"):
        RunFolder.create(str(first.path), "ssd")


def test_folder_in_use_is_refused(shapes: str, tmp_path: Path) -> None:
    run = RunFolder.create(str(tmp_path / "run"), "")
    with pytest.raises(MnssdError, match=str(run.path)):
        train(shapes, run.path)
    assert list(run.path.iterdir()) == []
    run.unlock()
    RunFolder(run.path).lock()
