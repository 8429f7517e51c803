"""A run with its report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mnssd.cli.main import main


@pytest.fixture(scope="session")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny run, with its report; not to be modified."""
    folder = tmp_path_factory.mktemp("runs") / "a run"
    shutil.copytree(tiny_run, folder)
    assert main(["report", str(folder)]) == 0
    return folder
