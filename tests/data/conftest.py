"""Fixtures of the tests of datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest

from mnssd.cli.main import main
from mnssd.data.formats import writable_names


@pytest.fixture(scope="session")
def converted(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """The dataset `shapes` in each format, by name of the format; not to be changed."""
    folder = tmp_path_factory.mktemp("converted")
    folders = {name: folder / name for name in writable_names()}
    for name, target in folders.items():
        assert main(["convert-data", shapes, str(target), "--format", name]) == 0
    return folders
