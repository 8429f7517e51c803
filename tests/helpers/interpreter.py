"""Fresh interpreters for tests of what happens when the package is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, Optional, Sequence

from mnssd.runtime import settings

ROOT = Path(__file__).resolve().parents[2]


def run_python(
    code: str, *, flags: Sequence[str] = (), env: Optional[Dict[str, str]] = None
) -> subprocess.CompletedProcess[str]:
    """Run `code` in the root of the repository without the settings of this process."""
    clean = {key: value for key, value in os.environ.items() if key not in settings.SETTINGS}
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=ROOT,
        env={**clean, **(env or {})},
        capture_output=True,
        text=True,
    )


def write_distribution(folder: Path, name: str, version: str) -> Dict[str, str]:
    """Write metadata of a distribution; returns the environment in which Python finds it first."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return {"PYTHONPATH": str(folder)}
