"""Print constraints.txt: pinned versions of all requirements in setup.py, for each supported Python.

    python3 scripts/pin.py > constraints.txt

Run it to update versions, on a machine with Python 3.8, 3.9, 3.10 and 3.11. pip resolves the requirements in
a temporary virtual environment of each, with its usual configuration.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.8", "3.9", "3.10", "3.11")
REQUIREMENTS = (
    f"{ROOT}[fonts,import,ncnn,onnx,openvino,tensorboard,tflite,browser,test]",
    "opencv-python-headless<4.12",  # `make setup` installs it instead of opencv-python, see setup.py
    # Build tools, so that `make setup` can build this package without build isolation.
    "setuptools",
    "wheel",
)

HEADER = """\
# Versions that mnssd is developed and tested with, on Python 3.8 to 3.11. Written by scripts/pin.py.
# `make setup` installs exactly these; manually: pip install -c constraints.txt .
"""


def main() -> int:
    """Print the constraints file; 1 if a Python is missing."""
    interpreters = find_interpreters()
    missing = [version for version in PYTHONS if version not in interpreters]
    if missing:
        print(f"error: Python {', '.join(missing)} not found; all versions are needed", file=sys.stderr)
        return 1
    pins: Dict[str, Dict[str, str]] = {}
    for version in PYTHONS:
        print(f"resolving for Python {version}", file=sys.stderr)
        for name, pinned in resolve(interpreters[version]).items():
            pins.setdefault(name, {})[version] = pinned
    print(HEADER)
    for name in sorted(pins):
        print("\n".join(constraint_lines(name, pins[name])))
    return 0


def find_interpreters() -> Dict[str, str]:
    """Paths of interpreters by version, such as ``'3.8'``."""
    command = ["sh", str(ROOT / "scripts" / "find_python.sh"), "--all"]
    paths = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return {subprocess.check_output([path, "-c", code], text=True).strip(): path for path in paths}


def resolve(interpreter: str) -> Dict[str, str]:
    """Versions, by name, of all packages that pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        report = Path(folder) / "report.json"
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--ignore-installed"]
        # --dry-run --report came with pip 22.2.
        subprocess.run(
            [*pip, "--dry-run", "--report", str(report), *REQUIREMENTS], check=True, stdout=sys.stderr
        )
        items = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    pins = {re.sub(r"[-_.]+", "-", item["name"]).lower(): item["version"] for item in items}
    del pins["mnssd"]
    return pins


def constraint_lines(name: str, versions: Dict[str, str]) -> List[str]:
    """Lines for one package: one for each run of consecutive Pythons with the same version.

    >>> constraint_lines("a", {"3.8": "1", "3.9": "2", "3.10": "2", "3.11": "2"})
    ['a==1 ; python_version < "3.9"', 'a==2 ; python_version >= "3.9"']
    """
    runs: List[List[str]] = []
    for python in PYTHONS:
        if runs and versions.get(python) == versions.get(runs[-1][0]):
            runs[-1].append(python)
        else:
            runs.append([python])
    lines = []
    for run in runs:
        if run[0] not in versions:
            continue
        bounds = []
        if run[0] != PYTHONS[0]:
            bounds.append(f'python_version >= "{run[0]}"')
        if run[-1] != PYTHONS[-1]:
            bounds.append(f'python_version < "{PYTHONS[PYTHONS.index(run[-1]) + 1]}"')
        marker = f" ; {' and '.join(bounds)}" if bounds else ""
        lines.append(f"{name}=={versions[run[0]]}{marker}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
