"""Folders without permission to read them, also for root, for whom there are none."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Callable

import pytest


def deny(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let the operating system refuse to list the folders, until the test ends."""
    denied = {os.path.realpath(folder) for folder in folders}

    def checked(call: Callable[..., Any]) -> Callable[..., Any]:
        def listing(path: Any = ".") -> Any:
            if not isinstance(path, int) and os.path.realpath(path) in denied:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path)

        return listing

    monkeypatch.setattr(os, "scandir", checked(os.scandir))
    monkeypatch.setattr(os, "listdir", checked(os.listdir))
