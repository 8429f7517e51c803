"""The one fixture that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import mnssd  # noqa: F401  before any test file imports mxnet, so that the thread settings apply


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository, or MNSSD_SHARED; without it the test is skipped."""
    folder = Path(os.environ.get("MNSSD_SHARED") or Path(__file__).resolve().parents[1].parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder} (set MNSSD_SHARED)")
    return folder
