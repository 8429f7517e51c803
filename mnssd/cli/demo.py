"""Train, measure, export and try a detector on the built-in dataset.

Runs the commands a user would, and prints each before it runs it. Everything lands in one run folder.
"""

from __future__ import annotations

import argparse
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List

from ..options import add_arguments as add_options
from ..options import from_mapping, given, option


@dataclass(frozen=True)
class DemoOptions:
    """Demonstration."""

    output: str = option("runs/demo", "run folder; numbered where it is taken")
    data_root: str = option("data/shapes", "where the built-in dataset lies, or is to be made")
    epochs: int = option(0, "passes over the training images; 0 for the usual number")
    pictures: int = option(12, "validation images to draw detections on")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demonstration's options."""
    add_options(parser, DemoOptions)


def run(args: argparse.Namespace) -> int:
    """Run the commands one after the other; returns the status of the first that fails."""
    options = from_mapping(DemoOptions, given(args, DemoOptions))
    folder = _free(Path(options.output))
    data = ["--dataset", "shapes", "--data-root", options.data_root]
    epochs = ["--epochs", str(options.epochs)] if options.epochs else []
    begun = time.monotonic()
    status = (
        _command("train-ssd", *data, *epochs, "--output", str(folder))
        or _command("eval", str(folder), *data, "--metric", "voc07")
        or _command("export", str(folder), "--output", str(folder / "export"))
        or _command(
            "detect", str(folder / "export"), *_images(Path(options.data_root), options.pictures),
            "--output", str(folder / "pictures"),
        )
    )  # fmt: skip
    if status == 0:
        print(f"\ndone in {time.monotonic() - begun:.0f} s; look at {folder / 'pictures'}")
    return status


def _command(name: str, *arguments: str) -> int:
    from .main import run_command

    shown = " ".join(map(shlex.quote, arguments[:8])) + (" ..." if len(arguments) > 8 else "")
    print(f"\n$ mnssd {name} {shown}", flush=True)
    return run_command(name, list(arguments))


def _images(root: Path, count: int) -> List[str]:
    """The first images of the validation list."""
    ids = (root / "ImageSets" / "Main" / "val.txt").read_text(encoding="utf-8").split()
    return [str(root / "JPEGImages" / f"{image_id}.jpg") for image_id in ids[:count]]


def _free(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
