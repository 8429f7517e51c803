"""Train, evaluate, export and run a detector on the built-in dataset.

Runs the commands that a user would run, and prints each of them first. All results are in one run folder.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List

from ..options import add_options, from_mapping, given, option


@dataclass(frozen=True)
class DemoOptions:
    """Demonstration."""

    output: str = option("runs/demo", "run folder; numbered if it exists")
    data_root: str = option("data/shapes", "folder of the built-in dataset; rendered if it is missing")
    epochs: int = option(0, "passes over the training images; 0 for the default of train-ssd")
    images: int = option(12, "validation images to draw detections on")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, DemoOptions)


def run(args: argparse.Namespace) -> int:
    """Run the commands in turn; returns the exit status of the first that fails."""
    options = from_mapping(DemoOptions, given(args, DemoOptions))
    folder = _unused(Path(options.output))
    data = ["--dataset", "shapes", "--data-root", options.data_root]
    epochs = ["--epochs", str(options.epochs)] if options.epochs else []
    started, drawn = time.monotonic(), folder / "detections"
    status = (
        _run("train-ssd", *data, *epochs, "--output", str(folder))
        or _run("eval", str(folder), *data, "--metric", "voc07")
        or _run("export", str(folder), "--output", str(folder / "export"))
        or _run(
            "detect", str(folder / "export"), *_image_paths(Path(options.data_root), options.images),
            "--output", str(drawn),
        )
    )  # fmt: skip
    if status == 0:
        print(f"\ndone in {time.monotonic() - started:.0f} s; detections are drawn in {drawn}")
    return status


def _run(name: str, *arguments: str) -> int:
    from .main import run_command

    shown = " ".join(map(shlex.quote, arguments[:8])) + (" ..." if len(arguments) > 8 else "")
    print(f"\n$ mnssd {name} {shown}", flush=True)
    return run_command(name, list(arguments))


def _image_paths(root: Path, count: int) -> List[str]:
    """The first images of the validation list."""
    ids = (root / "ImageSets" / "Main" / "val.txt").read_text(encoding="utf-8").split()
    return [str(root / "JPEGImages" / f"{image_id}.jpg") for image_id in ids[:count]]


def _unused(path: Path) -> Path:
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([path], numbered) if not folder.exists())
