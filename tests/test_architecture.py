"""The plan of the house (docs/architecture.md): arrows run downward, files fit in the head."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mnssd"

EVERYBODY = {"errors", "files", "options"}  # standard library only
# Room -> the rooms it may import, beside itself and EVERYBODY.
ARROWS: Dict[str, Set[str]] = {
    "errors": set(),
    "files": set(),
    "options": set(),
    "environment": set(),
    "processor": set(),
    "runtime": {"environment", "processor"},
    "nn": {"environment", "runtime"},
    "graph": {"runtime", "processor"},
    "data": {"runtime", "processor"},  # and no network: the anchors are given to it
    "weights": {"data", "nn", "graph", "runtime", "processor"},
    "zoo": {"weights", "data", "nn", "graph", "runtime", "processor"},
    "doctor": {"data", "runtime", "processor"},
    "train": {"doctor", "evaluate", "zoo", "weights", "data", "nn", "graph", "runtime", "processor"},
    "evaluate": {"zoo", "weights", "data", "nn", "graph", "runtime", "processor"},
    "deploy": {"zoo", "weights", "data", "nn", "graph", "runtime", "processor"},
}
ARROWS["report"] = set(ARROWS) - {"deploy"}
ARROWS["bench"] = set(ARROWS)
ARROWS["cli"] = set(ARROWS)
ARROWS["__main__"] = {"cli"}

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> Iterator[Tuple[int, str]]:
    """Line and room of every import of this package in a file, those inside functions too."""
    package = ["mnssd", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: List[List[str]] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            names = [[*base, alias.name] for alias in node.names]
        for name in names:
            if name[0] == "mnssd" and len(name) > 1 and not name[1].startswith("__"):
                yield node.lineno, name[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_downward(path: Path) -> None:
    room = room_of(path)
    assert room in ARROWS, f"{room} stands in no plan: add it to docs/architecture.md and to ARROWS"
    allowed = ARROWS[room] | EVERYBODY | {room}
    against = [
        f"line {line}: {room} -> {other}" for line, other in imported_rooms(path) if other not in allowed
    ]
    assert not against


def test_arrows_have_no_circle() -> None:
    """Else the plan itself would allow one."""
    standing = dict(ARROWS)
    while standing:
        ground = [room for room, below in standing.items() if not below & set(standing) - {room}]
        assert ground, f"a circle among {sorted(standing)}"
        for room in ground:
            del standing[room]


@pytest.mark.parametrize(
    ("text", "rooms"),
    [
        ("from ..zoo import get_model", ["zoo"]),
        ("from .. import runtime, zoo", ["runtime", "zoo"]),
        ("from .ssd import SSD", ["nn"]),
        ("import mnssd.train.loop", ["train"]),
        ("def f():\n    from mnssd.deploy import export", ["deploy"]),
        ("from mnssd import __version__\nimport numpy\nfrom os import path", []),
    ],
)
def test_this_file_sees_imports(
    text: str, rooms: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_architecture.PACKAGE", tmp_path)
    (tmp_path / "nn").mkdir()
    (tmp_path / "nn" / "new.py").write_text(text)
    assert [room for _, room in imported_rooms(tmp_path / "nn" / "new.py")] == rooms


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in MODULES}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_nothing_but_the_runtime_changes_the_environment() -> None:
    pattern = re.compile(r"environ\.(setdefault|update|pop)|environ\[[^]]*\]\s*=[^=]|(putenv|unsetenv)\(")
    assert pattern.search((PACKAGE / "runtime.py").read_text())
    elsewhere = [path for path in MODULES if path.name != "runtime.py" and pattern.search(path.read_text())]
    assert not elsewhere


def tracked() -> List[Path]:
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in files if path.is_file()]


def test_files_fit_in_the_head() -> None:
    """About 400 lines of program; tests, which are read one by one, may be longer."""
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in tracked() if path.suffix == ".py"
    }
    tests = ROOT / "tests"
    limits = {path: 600 if tests in path.parents else 400 for path in lengths}
    assert not {str(path): length for path, length in lengths.items() if length > limits[path]}


def test_no_file_names_a_place_of_one_machine() -> None:
    """Home folders, and hosts packages come from: those are the business of pip's own configuration."""
    places = [
        "/ro" + "ot/",
        "/ho" + "me/[a-z]",
        "/Us" + "ers/[a-z]",
        "/wo" + "rk/",
        "py" + r"pi\.org",
        "--index" + "-url",
    ]
    pattern = re.compile("|".join(places))
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # a picture
            continue
        found += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    assert not found
