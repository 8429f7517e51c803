"""Fixtures of the weights tests."""

from __future__ import annotations

import pytest
from helpers.torch_files import install_torch_names

import mnssd.nn.ssd  # noqa: F401  imports GluonCV, which asks PyTorch for its version, before the names below


@pytest.fixture
def torch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets pickles be written that refer to PyTorch."""
    install_torch_names(monkeypatch)
