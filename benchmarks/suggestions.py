r"""Training with images that `mnssd suggest` chose, against images chosen at random.

    python benchmarks/suggestions.py OUTPUT --bccd BCCD [--seeds 0,1] [--steps 300] [--options="--size 300"]

A quarter of the images of BCCD's `train` is labeled at first, chosen at random. A detector trained on them
suggests a second quarter; another second quarter is chosen at random. Two detectors are trained from the
published weights on the two halves, with the same number of steps, and evaluated on `test`. A seed decides
the images and the training. Finished runs are not repeated. Prints the table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BATCH = 16


def run(arguments: List[str], log: Path) -> str:
    """Standard output of Python with the given arguments; errors are appended to `log`."""
    with open(log, "a") as output:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    return done.stdout


def part_of(data: Path, listed: str, names: Sequence[str], target: Path) -> Path:
    """A dataset in VOC layout: the folders of `data`, and its list `listed` with these names only."""
    lists = target / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    for part in ("Annotations", "JPEGImages"):
        if not (target / part).exists():
            (target / part).symlink_to(data / part)
    for path in [*(data / "ImageSets" / "Main").glob("*.txt"), *data.glob("classes.txt")]:
        (target / path.relative_to(data)).write_text(path.read_text())
    (lists / f"{listed}.txt").write_text("".join(f"{name}\n" for name in names))
    return target


def train_and_evaluate(
    name: str, data: Path, options: Sequence[str], test: str, args: argparse.Namespace
) -> Dict[str, Any]:
    """Result of `mnssd eval` on the list `test` of a detector, with the epochs of its training."""
    folder, result, log = args.output / name, args.output / f"{name}.json", args.output / f"{name}.log"
    if not result.exists():
        command = [
            "train_ssd.py",
            "--data-root",
            str(data),
            "--no-report",
            *options,
            *shlex.split(args.options),
        ]
        run([*command, "--output", str(folder), "--resume", "auto"], log)
        command = ["eval_voc.py", str(folder), "--splits", test, "--metric", "voc12"]
        run([*command, "--json", str(result)], log)
    content: Dict[str, Any] = json.loads(result.read_text())
    with open(folder / "log.csv", newline="") as file:
        content["epochs"] = len(list(csv.DictReader(file)))
    return content


def score_of(content: Dict[str, Any]) -> str:
    """mAP with its interval."""
    low, high = content["interval"]
    return f"{content['mAP']:.3f} ({low:.3f} - {high:.3f})"


def train(name: str, names: List[str], seed: int, args: argparse.Namespace) -> Dict[str, Any]:
    """Result on `test` of a detector trained on the images with the given names for `--steps`."""
    data = part_of(args.bccd, "train", names, args.output / "data" / name)
    epochs = str(max(1, round(args.steps * BATCH / len(names))))
    options = [
        "--train-splits",
        "train",
        "--val-splits",
        "val",
        "--batch-size",
        str(BATCH),
        "--epochs",
        epochs,
    ]
    options += ["--patience", "0", "--val-interval", epochs, "--seed", str(seed)]
    return train_and_evaluate(name, data, options, "test", args)


def suggestions(first: str, rest: List[str], args: argparse.Namespace) -> List[str]:
    """Names of as many images as `first` was trained on, chosen among `rest` by `mnssd suggest`."""
    folder = args.output / "data" / f"{first}-rest"
    folder.mkdir(parents=True, exist_ok=True)
    for name in rest:
        link = folder / f"{name}.jpg"
        if not link.exists():
            link.symlink_to(args.bccd / "JPEGImages" / f"{name}.jpg")
    number = len((args.output / "data" / first / "ImageSets" / "Main" / "train.txt").read_text().split())
    command = ["-m", "mnssd", "suggest", str(args.output / first), str(folder), "--number", str(number)]
    shown = run(command, args.output / f"{first}.log")
    return [
        os.path.splitext(os.path.basename(line))[0] for line in shown.split("\n") if line.endswith(".jpg")
    ]


def measure(seed: int, args: argparse.Namespace) -> Dict[str, Dict[str, Any]]:
    """Results of a seed: a quarter of the labels, a half at random, a half with suggestions."""
    names = (args.bccd / "ImageSets" / "Main" / "train.txt").read_text().split()
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    count = round(len(order) / 4)
    first, rest = order[:count], order[count:]
    results = {"quarter": train(f"quarter-{seed}", first, seed, args)}
    chosen = suggestions(f"quarter-{seed}", rest, args)
    if len(set(chosen)) != count:
        raise SystemExit(f"{len(set(chosen))} suggestions instead of {count}")
    for kind, added in (("random", rest[:count]), ("suggested", chosen)):
        results[kind] = train(f"{kind}-{seed}", first + added, seed, args)
    return results


def main() -> None:
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--bccd", type=Path, required=True, help="BCCD, in VOC layout")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--steps", type=int, default=300, help="steps of each training")
    parser.add_argument("--options", default="--size 300", help="more options of train_ssd.py")
    args = parser.parse_args()
    args.output, args.bccd = args.output.resolve(), args.bccd.resolve()
    (args.output / "data").mkdir(parents=True, exist_ok=True)
    print("| seed | images | mAP (95 %) | per class |\n|---|---|---|---|")
    for seed in map(int, args.seeds.split(",")):
        for kind, content in measure(seed, args).items():
            classes = ", ".join(f"{name} {value:.3f}" for name, value in content["ap_per_class"].items())
            print(f"| {seed} | {kind} | {score_of(content)} | {classes} |", flush=True)


if __name__ == "__main__":
    main()
