"""The two pipelines in turn: mAP and images per second of `--pipeline mnssd` and `--pipeline gluoncv`.

    python benchmarks/pipelines.py shapes --epochs 40
    python benchmarks/pipelines.py voc --data-root VOCDEVKIT --train 2012_train --val 2007_test \\
        --images 600 --epochs 12 --model ssd_300_mobilenet_v2

Both have the network, the optimizer, the order of the images, the matching threshold and the strength of the
augmentation that are GluonCV's defaults. Runs are written to --output; one that is there is not repeated.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

import mnssd
from mnssd.data.open import open_dataset
from mnssd.data.transform_options import AugmentOptions

PIPELINES = ("mnssd", "gluoncv")
SAME = {"match_iou": 0.5, **{option.name: option.default for option in fields(AugmentOptions)}}
"""Options of the pipeline here that make it GluonCV's."""


def data_of(args: argparse.Namespace) -> Dict[str, Any]:
    """The datasets of a training, and the options that follow from them."""
    if args.dataset == "shapes":
        return {"dataset": "shapes", **({"data_root": args.data_root} if args.data_root else {})}
    train = open_dataset(args.dataset, args.data_root, args.train)
    rng = np.random.default_rng(0)
    chosen = sorted(rng.permutation(len(train))[: args.images].tolist())
    val = open_dataset(args.dataset, args.data_root, args.val, list(train.classes), "val", allow_absent=True)
    part = replace(train, samples=[train[index] for index in chosen])
    return {"data": part.as_gluon(), "val_data": val.as_gluon()}


def row_of(run: Path) -> Dict[str, float]:
    """Best mAP of a run, and the median of its images per second."""
    with open(run / "log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["mAP"]) for row in rows if row.get("mAP")]
    return {"mAP": max(scores), "speed": float(np.median([float(r["images_per_second"]) for r in rows]))}


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--data-root")
    parser.add_argument("--train")
    parser.add_argument("--val")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--model", help="as of mnssd.train_detector")
    parser.add_argument("--weights", help="as of mnssd.train_detector")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path, default=Path("runs/pipelines"))
    args = parser.parse_args()
    options = {**data_of(args), "model": args.model, "weights": args.weights, "epochs": args.epochs}
    results: Dict[str, List[Dict[str, float]]] = {name: [] for name in PIPELINES}
    for seed in args.seeds:
        for name in PIPELINES:
            output = args.output / f"{args.dataset}-{name}-{seed}"
            if not (output / "log.csv").exists():
                own = SAME if name == "mnssd" else {}
                mnssd.train_detector(pipeline=name, seed=seed, output=str(output), **own, **options)
            results[name].append(row_of(output))
    print("| pipeline | mAP | images per second |\n|---|---|---|")
    for name, rows in results.items():
        scores = ", ".join(f"{row['mAP']:.4f}" for row in rows)
        print(f"| {name} | {scores} | {np.median([row['speed'] for row in rows]):.1f} |")


if __name__ == "__main__":
    main()
