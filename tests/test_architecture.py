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

ORDER = (
    "errors", "options", "files", "runtime", "registry", "boxes", "imagenet", "fetch", "nn", "graph", "data",
    "validation", "weights", "metrics", "zoo", "compress", "export", "inference", "distributed", "train",
    "tasks", "importers", "report", "bench", "api", "api_labels", "cli",
    "__main__",
)  # fmt: skip
"""The rooms, lowest first: each may import those before it, and no other."""

EXCEPT: Dict[str, Set[str]] = {
    "options": {"files"},
    "nn": {"fetch"},
    "graph": {"fetch", "nn"},
    "data": {"nn", "graph"},  # the anchors are given to it
    "validation": {"nn", "graph"},
    "metrics": {"validation", "weights", "fetch"},
    "export": {"compress", "validation", "metrics"},
    "train": {"inference", "export", "report"},
    "__main__": set(ORDER) - {"cli"},
}
"""Rooms that a room may not import, though they are lower."""

ARROWS: Dict[str, Set[str]] = {
    room: set(ORDER[:index]) - EXCEPT.get(room, set()) for index, room in enumerate(ORDER)
}

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
    assert room in ARROWS, f"{room} has no place: add it to docs/architecture.md and to ORDER"
    allowed = ARROWS[room] | {room}
    against = [
        f"line {line}: {room} -> {other}" for line, other in imported_rooms(path) if other not in allowed
    ]
    assert not against


@pytest.mark.parametrize(
    ("text", "rooms"),
    [
        ("from ..zoo import get_model", ["zoo"]),
        ("from .. import registry, zoo", ["registry", "zoo"]),
        ("from .ssd import SSD", ["nn"]),
        ("import mnssd.train.loop", ["train"]),
        ("def f():\n    from mnssd.export import network", ["export"]),
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
    assert pattern.search((PACKAGE / "runtime" / "settings.py").read_text())
    elsewhere = [p for p in MODULES if room_of(p) != "runtime" and pattern.search(p.read_text())]
    assert not elsewhere


def tracked() -> List[Path]:
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in files if path.is_file()]


def test_files_are_short() -> None:
    """At most 400 lines."""
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in tracked() if path.suffix == ".py"
    }
    assert not {str(path): length for path, length in lengths.items() if length > 400}


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node


def lines_of(node: ast.FunctionDef) -> int:
    assert node.end_lineno
    return node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    """At most 60 lines, docstring included."""
    lengths = {f"{path}:{node.name}": lines_of(node) for path in MODULES for node in functions(path)}
    assert not {name: length for name, length in lengths.items() if length > 60}


def depth(node: ast.AST) -> int:
    """How deep loops and branches are nested below `node`."""
    below = max((depth(child) for child in ast.iter_child_nodes(node)), default=0)
    return below + isinstance(node, (ast.For, ast.While, ast.If, ast.With, ast.Try))


def test_the_training_loop_is_readable() -> None:
    (fit,) = [node for node in functions(PACKAGE / "train" / "loop.py") if node.name == "fit"]
    assert lines_of(fit) < 60
    assert depth(fit) <= 3  # within `with`: two


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
        except UnicodeDecodeError:  # an image
            continue
        found += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    assert not found
