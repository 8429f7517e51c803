"""README's install and quick start, typed line by line into a shell in a copy of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import List

import pytest

from mnssd.data.shapes.dataset import make_shapes

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(
    not (ROOT / ".venv" / ".ready").is_file() or shutil.which("bash") is None,
    reason="needs bash and `make setup`",
)


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)^## ", README, re.M | re.S)
    assert match, title
    return match.group(1)


def code(title: str, language: str) -> str:
    match = re.search(rf"^```{language}\n(.*?)^```", section(title), re.M | re.S)
    assert match, f"no {language} block in {title}"
    return match.group(1)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files with the environment of this checkout and a small `shapes` dataset."""
    folder = tmp_path_factory.mktemp("clone")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, done.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
            os.utime(folder / name, (0, 0))  # older than the environment: `make setup` has nothing to do
    (folder / ".venv").symlink_to(ROOT / ".venv")
    make_shapes(folder / "data" / "shapes", train=4, val=2, size=(128, 128))
    return folder


def type_lines(checkout: Path, lines: List[str]) -> subprocess.CompletedProcess:
    """Feed lines to a shell that stops at the first command that fails."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")
    }
    return subprocess.run(
        ["bash", "-e"], input="\n".join(lines) + "\n", cwd=checkout, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


INSTALL = [line for line in code("Install", "sh").splitlines() if line.strip()]


TRAINING, *AFTER_TRAINING = code("Quick start", "sh").splitlines()


def test_shell_lines_after_the_training_work_as_typed(checkout: Path, tiny_run: Path) -> None:
    """tests/docs/test_commands.py runs the training with smaller options."""
    assert TRAINING.startswith("python train_ssd.py --output runs/shapes")
    shutil.copytree(tiny_run, checkout / "runs" / "shapes")
    done = type_lines(checkout, [*INSTALL, *AFTER_TRAINING])
    assert done.returncode == 0, done.stdout
    assert (checkout / "exports/shapes/shapes.onnx").is_file()
    assert [path.name for path in (checkout / "drawn").iterdir()] == ["val_000000.jpg"]


@pytest.mark.slow
def test_shell_lines_work_as_typed(checkout: Path) -> None:
    for folder in ("runs", "exports", "drawn"):
        shutil.rmtree(checkout / folder, ignore_errors=True)
    done = type_lines(checkout, [*INSTALL, TRAINING, *AFTER_TRAINING])
    assert done.returncode == 0, done.stdout
    assert (checkout / "runs/shapes/report/index.html").is_file()
    assert (checkout / "exports/shapes/shapes.onnx").is_file()


@pytest.mark.slow  # tests/docs/test_commands.py runs the same program with smaller options
def test_python_lines_work_as_typed(checkout: Path) -> None:
    (checkout / "quick_start.py").write_text(code("Quick start", "python"), encoding="utf-8")
    done = type_lines(checkout, [*INSTALL, "python quick_start.py"])
    assert done.returncode == 0, done.stdout
    assert re.search(r"^mAP \d\.\d{3}$", done.stdout, re.M)


def test_readme_is_short() -> None:
    lines = README.splitlines()
    assert 80 <= len(lines) <= 120
    assert max(map(len, lines)) <= 110
