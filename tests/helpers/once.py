"""Files that the processes of a parallel test run share."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Callable

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Folder that `make` filled, in the first process that needs it; the others wait. Not to be modified."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each process has a folder of its own below it
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder, finished = base / f"{name}-shared", base / f"{name}.finished"
        if not finished.exists():
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder
