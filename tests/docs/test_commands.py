"""Every command of the README, the tutorial and the how-tos, run as it stands in a folder like a user's.

Training gets few small epochs, benchmarks little to do: what is added stands in `ADDED`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

import cv2
import numpy as np
import pytest

from mnssd import zoo
from mnssd.cli.main import COMMANDS, main
from mnssd.data.shapes.dataset import make_shapes

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/tutorial.md", "docs/how-to.md", "docs/data.md")

TINY = ["--size", "96", "--epochs", "1", "--batch-size", "4", "--workers", "0"]
ADDED: Dict[str, List[str]] = {
    "train_ssd.py": TINY,
    "train_cls.py": ["--size", "64", "--epochs", "1", "--batch-size", "4", "--workers", "0"],
    "check-data": ["--no-estimate"],
    "prune": ["--epochs", "1"],
}
"""Arguments added behind those of the page."""

NOT_HERE: Dict[str, str] = {
    "make": "needs what it makes; .ci/run and the demo are run by hand",
    "python3.11 -m": "installs packages",
    "--download": "fetches archives",
    "mnssd bench": "tests/bench/test_bench.py; it takes minutes",
    "mnssd compare": "tests/bench/test_tradeoff.py",
    "mnssd launch": "tests/distributed/test_distributed.py",
    "benchmarks/": "measures for minutes",
    "comp4": "tests/test_eval_cli.py",
    "python eval_voc.py --detections detections": "tests/test_eval_cli.py",
}
"""Commands by what they hold, and why they are not run here."""


def commands(page: str) -> List[str]:
    """The lines of a page's code that call python or mnssd; one that ends in a backslash goes on."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        plain = line[4:] if line.startswith("    ") else line
        if re.match(r"(python[\d.]* \w|mnssd |make )", plain) and (line != plain or "```" not in line):
            command = re.sub(r"\s{2,}#.*|\s+#\s.*", "", plain).strip()
            if shutil.which("sh") and " " in command:
                found.append(re.sub(r"\s+", " ", command))
    return list(dict.fromkeys(found))


def why_not(command: str) -> str:
    return next((reason for word, reason in NOT_HERE.items() if word in command), "")


CASES: List[Tuple[str, str]] = [
    (page, command) for page in PAGES for command in commands(page) if not why_not(command)
]


def test_pages_hold_commands() -> None:
    """Of every kind, so that the pattern above is right."""
    said = " ".join(command for _, command in CASES)
    for word in ("train_ssd.py", "eval_voc.py", "check-data", "convert-data", "report", "export", "detect"):
        assert word in said, word
    assert len(CASES) > 20


def test_every_command_of_the_program_is_on_a_page() -> None:
    said = " ".join((ROOT / page).read_text(encoding="utf-8") for page in (*PAGES, "docs/cluster.md"))
    assert [
        name
        for name in COMMANDS
        if f"mnssd {name}"
        not in said.replace("train_ssd.py", "mnssd train-ssd")
        .replace("train_cls.py", "mnssd train-cls")
        .replace("eval_voc.py", "mnssd eval")
        .replace("eval_cls.py", "mnssd eval-cls")
        .replace("make demo", "mnssd demo")
        .replace("built-in set `shapes`", "mnssd shapes")
    ] == []


def write_devkit(folder: Path) -> None:
    """VOC2007 and VOC2012 with the lists and classes that the pages name, of rendered images."""
    for number, (year, lists) in enumerate(
        {"2007": ("trainval", "test"), "2012": ("trainval", "train", "val")}.items()
    ):
        made = folder / f"VOC{year}"
        make_shapes(made, train=8, val=4, size=(96, 96), seed=number)
        names = ("cat", "dog", "person", "cow", "horse", "sheep")
        shapes = (made / "classes.txt").read_text().split()
        for path in (made / "Annotations").iterdir():
            text = path.read_text()
            for old, new in zip(shapes, names):
                text = text.replace(f"<name>{old}<", f"<name>{new}<")
            path.write_text(text.replace(path.stem, f"{year}_{path.stem}"))
            path.rename(path.with_name(f"{year}_{path.name}"))
        for path in (made / "JPEGImages").iterdir():
            path.rename(path.with_name(f"{year}_{path.name}"))
        main_lists = made / "ImageSets" / "Main"
        train, val = (
            [f"{year}_{line}" for line in (main_lists / f"{name}.txt").read_text().split()]
            for name in ("train", "val")
        )
        for path in list(main_lists.iterdir()):
            path.unlink()
        for name in lists:
            ids = {"train": train, "val": val, "trainval": train + val, "test": val}[name]
            (main_lists / f"{name}.txt").write_text("".join(f"{image_id}\n" for image_id in ids))
        (made / "classes.txt").unlink()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of."""
    folder = tmp_path_factory.mktemp("user")
    make_shapes(folder / "data" / "shapes", train=16, val=6, size=(96, 96))
    for name in ("photos", "FOLDER", "BCCD"):
        shutil.copytree(folder / "data" / "shapes", folder / name)
    lists = folder / "BCCD" / "ImageSets" / "Main"
    (lists / "test.txt").write_text(
        "".join(f"{path.stem}\n" for path in sorted((folder / "BCCD/JPEGImages").iterdir())[:5])
    )
    write_devkit(folder / "data" / "VOCdevkit")
    shutil.copytree(folder / "data" / "VOCdevkit", folder / "path" / "to" / "VOCdevkit")
    shutil.copy(next((folder / "photos" / "JPEGImages").iterdir()), folder / "photo.jpg")
    (folder / "new").mkdir()
    shutil.copy(folder / "photo.jpg", folder / "new" / "one.jpg")
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (96, 96))
    for level in range(3):
        writer.write(np.full((96, 96, 3), 60 * level, np.uint8))
    writer.release()
    net = zoo.build_backbone("mobilenet_v2")
    zoo.initialize(net)
    import mxnet as mx

    net(mx.nd.zeros((1, 3, 64, 64)))
    net.save_parameters(str(folder / "mobilenet_v2_1_0-imagenet.params"))
    small = ["--width", "0.25", *TINY, "--val-interval", "1", "--no-report"]
    for name, data in {"NAME": "photos", "photos": "photos", "trial": "photos", "cells": "BCCD"}.items():
        root = ["--data-root", str(folder / data)]
        assert main(["train-ssd", *root, *small, "--output", str(folder / "runs" / name)]) == 0
    for name in ("NAME", "cells"):
        run, export = str(folder / "runs" / name), str(folder / "exports" / name)
        assert main(["export", run, "--output", export]) == 0
    for number, path in enumerate(sorted((folder / "photos" / "JPEGImages").iterdir())):
        target = folder / "photos" / ("train" if number % 3 else "val") / ("cat" if number % 2 else "dog")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    small = ["--width", "0.25", *ADDED["train_cls.py"]]
    photos = ["--dataset", "folder", "--data-root", str(folder / "photos")]
    assert main(["train-cls", *photos, *small, "--output", str(folder / "runs" / "CLASSES")]) == 0
    run, export = str(folder / "runs" / "CLASSES"), str(folder / "exports" / "CLASSES")
    assert main(["export", run, "--output", export]) == 0
    return folder


OUTPUTS = re.compile(r"(?:--output|--fix|--voc|--json|--jsonl|--coco|--save-detections) (\S+)")


@pytest.mark.parametrize(
    ("page", "command"), CASES, ids=[f"{page}: {command[:60]}" for page, command in CASES]
)
def test_a_command_of_the_pages(page: str, command: str, place: Path, tmp_path: Path) -> None:
    words = shlex.split(command)
    resumes = "--resume" in words
    for target in OUTPUTS.findall(command):
        path = place / target
        if not resumes and path.exists() and "--resume" not in command:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if words[:2] == ["mnssd", "convert-data"]:
        shutil.rmtree(place / words[3], ignore_errors=True)
    key = words[1]
    arguments = [*words[2:], *(ADDED.get(key, []) if not resumes else [])]
    script = [str(ROOT / key)] if key.endswith(".py") else ["-m", "mnssd", key]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *script, *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    accepted = (0, 1) if key == "check-data" else (0,)
    assert done.returncode in accepted, done.stdout[-1500:] + done.stderr[-1500:]
    assert "Traceback" not in done.stderr


def test_the_reference_is_what_the_program_says() -> None:
    program = (
        "import sys; sys.path.insert(0, 'docs'); import write_reference as w; print(w.reference(), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert done.stdout == found, "run `python docs/write_reference.py`"
