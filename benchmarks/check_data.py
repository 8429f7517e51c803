"""How long `mnssd check-data` takes for many annotations, and its memory.

    python benchmarks/check_data.py FOLDER [--files 10000,100000] [--kinds voc,coco]

Makes a dataset of that many annotated images with three boxes each under FOLDER, its images links to a few
JPEG files, and runs the command on it in a process of its own, without decoding (`--no-pixels`) and, for the
first number, with.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import cv2
import numpy as np

from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats
from mnssd.data.sample import Sample
from mnssd.runtime import processor

ROOT = Path(__file__).resolve().parents[1]
SIZE = (160, 120)
LINKS = 10_000  # to one file; file systems allow some 65,000


def make(folder: Path, kind: str, count: int) -> None:
    """A dataset of `count` images, most of them the same few files."""
    rng = np.random.default_rng(0)
    images = folder / ("JPEGImages" if kind == "voc" else "images/train")
    images.mkdir(parents=True)
    first = images / "000000.jpg"
    cv2.imwrite(str(first), rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8))
    samples: List[Sample] = []
    for number in range(count):
        path = images / f"{number:06}.jpg"
        if number % LINKS == 0 and number:
            first = Path(shutil.copyfile(first, path))
        elif number:
            os.link(first, path)
        corners = rng.uniform(0, 90, (3, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 29, (3, 2))]).astype(np.float32)
        samples.append(
            Sample(f"{number:06}", str(path), boxes, rng.integers(0, 5, 3), np.zeros(3, bool), SIZE)
        )
    classes = tuple("abcde")
    dataset, files = Dataset("made", classes, samples), {s.image_id: f"{s.image_id}.jpg" for s in samples}
    formats[kind].write({"train": dataset}, folder, {"train": files})


def check(folder: Path, *more: str) -> str:
    """Seconds and megabytes of one run of the command."""
    command = [sys.executable, "-m", "mnssd", "check-data", str(folder), "--no-estimate", *more]
    begun = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    seconds = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    shown = f"{peak / 1024:.0f} MB" if peak > before else f"at most {peak / 1024:.0f} MB"
    assert done.returncode in (0, 1), done.stdout[-2000:]
    return f"{seconds:.1f} s, {shown}"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", default="10000,100000")
    parser.add_argument("--kinds", default="coco,csv,yolo,voc")
    args = parser.parse_args()
    print(f"{processor.model()}, {processor.usable_cores()} cores, Python {platform.python_version()}")
    print("| format | images, three boxes each | pixels | took, peak memory |\n|---|---|---|---|")
    counts = [int(number) for number in args.files.split(",")]
    for count in counts:  # the small ones first: the peak of all children is what the system tells
        for kind in args.kinds.split(","):
            folder = args.folder / f"{kind}-{count}"
            if not folder.exists():
                make(folder, kind, count)
            print(f"| {kind} | {count:,} | no | {check(folder, '--no-pixels')} |", flush=True)
            if count == counts[0]:
                print(f"| {kind} | {count:,} | yes | {check(folder)} |", flush=True)


if __name__ == "__main__":
    main()
