r"""Ablations of detector training: the same short run with one thing changed at a time.

    python benchmarks/ablations.py VOCDEVKIT WEIGHTS OUTPUT [--only NAME+NAME] [--seeds 0,1] [--epochs 10] \
        [--size 192]

Trains on nine tenths of VOC2012 `train`, six classes, and measures on the tenth held out (`--hold-out`):
`val` is used for nothing. Each run is a folder under OUTPUT; finished ones are not repeated, interrupted ones
go on. Prints the table for ABLATIONS.md.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[1]
CLASSES = "cat,cow,dog,horse,person,sheep"

BASE = [
    "--dataset", "voc", "--train-splits", "2012_train", "--classes", CLASSES, "--hold-out", "0.1",
    "--metric", "voc12", "--batch-size", "16", "--optimizer", "sgd", "--lr", "0.01", "--pretrained-lr", "1",
    "--wd", "0.0005", "--match-iou", "0.5", "--expand-ratio", "4",
]  # fmt: skip

SGD = ["--lr", "0.003", "--pretrained-lr", "0.33"]
ADAMW = ["--optimizer", "adamw", "--wd", "0.05"]
START = [*ADAMW, "--lr", "0.0005", "--pretrained-lr", "0.2"]
"""The best of the rates and optimizers tried; the other variants start here."""
LITE = [*ADAMW, "--head", "ssdlite"]
LITE_RATES = ["--lr", "0.004", "--pretrained-lr", "0.025"]
WIDER = ["--match-iou", "0.4", "--expand-ratio", "2"]
"""More anchors learn from each object, and fewer objects are made small: chosen from the data for VOC."""

VARIANTS: Dict[str, List[str]] = {
    "base": START,
    "sgd 0.03, backbone 0.001": ["--lr", "0.03", "--pretrained-lr", "0.033"],
    "sgd 0.01 for all": [],
    "sgd 0.001 for all": ["--lr", "0.001"],
    "sgd 0.01, backbone 0.001": ["--pretrained-lr", "0.1"],
    "sgd 0.003, backbone 0.001": SGD,
    "sgd 0.003, no expansion": [*SGD, "--expand-probability", "0"],
    "lr 0.001, backbone 0.0002": [*ADAMW, "--lr", "0.001", "--pretrained-lr", "0.2"],
    "lr 0.001, backbone 0.0001": [*ADAMW, "--lr", "0.001", "--pretrained-lr", "0.1"],
    "lr 0.002, backbone 0.0001": [*ADAMW, "--lr", "0.002", "--pretrained-lr", "0.05"],
    "lr 0.004, backbone 0.0001": [*ADAMW, "--lr", "0.004", "--pretrained-lr", "0.025"],
    "lr 0.0005 for all": [*ADAMW, "--lr", "0.0005"],
    "wd 0.01": [*START, "--wd", "0.01"],
    "early layers frozen": [*START, "--freeze", r"backbone\.features\.[0-4]\."],
    "first half at 128 pixels": [*START, "--early-size", "128", "--early-epochs", "5"],
    "batch 8": [*START, "--batch-size", "8"],
    "ema 0.995": [*START, "--ema", "0.995"],
    "no expansion": [*START, "--expand-probability", "0"],
    "expansion 2": [*START, "--expand-ratio", "2"],
    "mosaic 0.5": [*START, "--mosaic", "0.5"],
    "colors half": [*START, "--color-probability", "0.25"],
    "giou": [*START, "--box-loss", "giou"],
    "focal": [*START, "--cls-loss", "focal"],
    "label smoothing 0.1": [*START, "--label-smoothing", "0.1"],
    "match 0.45": [*START, "--match-iou", "0.45"],
    "no warm-up": [*START, "--warmup", "0"],
    "steps": [*START, "--schedule", "step"],
    "clip 5": [*START, "--clip-gradient", "5"],
    "match 0.4": [*START, "--match-iou", "0.4"],
    "match 0.35": [*START, "--match-iou", "0.35"],
    "match 0.4, expansion 2": [*START, *WIDER],
    "match 0.35, expansion 2": [*START, "--match-iou", "0.35", "--expand-ratio", "2"],
    "match 0.3, expansion 2": [*START, "--match-iou", "0.3", "--expand-ratio", "2"],
    "match 0.45, expansion 2": [*START, "--match-iou", "0.45", "--expand-ratio", "2"],
    "stored statistics": [*START, "--no-recalibrate-batchnorm"],
    "ssdlite": [*START, "--head", "ssdlite"],
    "ssdlite, lr 0.001, backbone 0.0001": [*LITE, "--lr", "0.001", "--pretrained-lr", "0.1"],
    "ssdlite, lr 0.002, backbone 0.0001": [*LITE, "--lr", "0.002", "--pretrained-lr", "0.05"],
    "ssdlite, lr 0.004, backbone 0.0001": [*LITE, *LITE_RATES],
    "ssdlite, lr 0.004, match 0.4, expansion 2": [*LITE, *LITE_RATES, *WIDER],
}


def train(options: List[str], output: Path) -> None:
    """Run train_ssd.py, or go on with it, unless it is done."""
    if (output / "done").exists():
        return
    fresh = [str(ROOT / "train_ssd.py"), *BASE, *options, "--output", str(output), "--resume", "auto"]
    with open(f"{output}.log", "a") as log:  # not with_suffix(): names have dots
        subprocess.run([sys.executable, *fresh], check=True, stdout=log, stderr=log)
    (output / "done").touch()


def result(output: Path) -> Tuple[float, float]:
    """Last mAP and minutes, of a finished run."""
    with open(output / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return float(rows[-1]["mAP"]), sum(float(row["seconds"] or 0) for row in rows) / 60


def main() -> None:
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voc", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", default="", help="names of variants, separated by +")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=192, help="of the network's input: small is quick")
    args = parser.parse_args()
    chosen = args.only.split("+") if args.only else list(VARIANTS)
    args.output.mkdir(parents=True, exist_ok=True)
    lines = ["| what | mAP of the tenth held out, by seed | mean | minutes |", "|---|---|---|---|"]
    for name in chosen:
        found = []
        for seed in args.seeds.split(","):
            plain = re.sub("[^a-z0-9.]+", "-", name)
            folder = args.output / f"{plain}-{args.size}-{args.epochs}-{seed}"
            common = ["--data-root", str(args.voc), "--weights", str(args.weights), "--seed", seed]
            common += ["--epochs", str(args.epochs), "--val-interval", str(args.epochs)]
            common += ["--size", str(args.size)]
            train([*common, *VARIANTS[name]], folder)
            found.append(result(folder))
        scores, minutes = zip(*found)
        shown = " / ".join(f"{score:.3f}" for score in scores)
        mean = statistics.mean(scores)
        lines.append(f"| {name} | {shown} | {mean:.3f} | {statistics.mean(minutes):.0f} |")
        print(lines[-1], flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
