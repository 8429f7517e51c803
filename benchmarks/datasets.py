r"""Training without options on five datasets: mAP with intervals, and minutes.

    python benchmarks/datasets.py OUTPUT --voc VOCDEVKIT --bccd BCCD --cards CARDS \
        [--only NAME+NAME] [--seeds 0,1] [--options="--match-iou 0.4"]

Runs `python train_ssd.py --data-root DIR`, with no other option than the output folder and, for further
seeds, --seed. The published weights must be in the cache (`mnssd weights add FILE`). Each run is a folder
under OUTPUT; finished ones are not repeated, interrupted ones go on. Prints the table for DATASETS.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[1]
CLASSES = "cat,cow,dog,horse,person,sheep"


class Benchmark(NamedTuple):
    """A dataset, the list that is evaluated, and the best mAP with settings chosen by hand."""

    name: str
    splits: str
    best: Optional[float]
    where: str
    """Where `best` comes from."""


BENCHMARKS = (
    Benchmark("voc", "2012_val", 0.672, "ABLATIONS.md, recipe voc-300-v2-ssd, mean of two seeds"),
    Benchmark("voc-tenth", "2012_val", None, ""),
    Benchmark("bccd", "test", 0.857, "ABLATIONS.md, SGD 0.01, third run"),
    Benchmark("cards", "test", None, ""),
    Benchmark("shapes", "val", 0.917, "SHAPES.md"),
)


def data_root(name: str, args: argparse.Namespace) -> Path:
    """Folder of a dataset; the parts of VOC are made from the devkit, with links to its images."""
    if name in ("bccd", "cards"):
        return Path(getattr(args, name)).resolve()
    folder = (args.output / "data" / name).resolve()
    if folder.exists():
        return folder
    folder.parent.mkdir(exist_ok=True)
    if name == "shapes":
        sys.path.insert(0, str(ROOT))
        from mnssd.data.open import open_dataset

        open_dataset("shapes", folder)
        return folder
    lists = ["--splits", "2012_train,2012_val", "--classes", CLASSES, "--dataset", "voc", "--format", "voc"]
    command = ["-m", "mnssd", "convert-data", str(args.voc.resolve()), str(folder), *lists, "--link"]
    run(command, folder.with_name(f"{name}.log"))
    if name == "voc-tenth":
        path = folder / "ImageSets" / "Main" / "2012_train.txt"
        path.write_text("".join(sorted(path.read_text().splitlines(keepends=True))[::10]))
    return folder


def run(command: List[str], log: Path) -> None:
    """Run Python with the given arguments; its output is appended to `log`."""
    with open(log, "a") as output:
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=output, stderr=output)


def train_and_evaluate(benchmark: Benchmark, seed: str, args: argparse.Namespace) -> Dict[str, Any]:
    """Result of `mnssd eval`, with the minutes of the training."""
    folder = Path(args.output).resolve() / f"{benchmark.name}-{seed}"
    result = folder.with_name(f"{folder.name}.json")
    if not result.exists():
        root = data_root(benchmark.name, args)
        log = folder.with_name(f"{folder.name}.log")
        options = [*shlex.split(args.options), *(["--seed", seed] if seed != "0" else [])]
        command = [str(ROOT / "train_ssd.py"), "--data-root", str(root), "--output", str(folder)]
        run([*command, "--resume", "auto", *options], log)
        lists = ["--splits", benchmark.splits, "--metric", "voc12", "--json", str(result)]
        run([str(ROOT / "eval_voc.py"), str(folder), *lists], log)
    content: Dict[str, Any] = json.loads(result.read_text())
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    content["minutes"] = sum(float(row["seconds"] or 0) for row in rows) / 60
    content["epochs"] = len(rows)
    return content


def row(benchmark: Benchmark, found: List[Dict[str, Any]]) -> str:
    """Row of the table."""
    scores = [one["mAP"] for one in found]
    shown = " / ".join(
        f"{one['mAP']:.3f} ({one['interval'][0]:.3f} - {one['interval'][1]:.3f})" for one in found
    )
    minutes = " / ".join(f"{one['minutes']:.0f}" for one in found)
    best = f"{benchmark.best:.3f}" if benchmark.best else ""
    return (
        f"| {benchmark.name} | {shown} | {statistics.mean(scores):.3f} | {best} | {found[0]['epochs']} | "
        f"{minutes} |"
    )


def main() -> None:
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--voc", type=Path, help="VOCdevkit with VOC2012")
    parser.add_argument("--bccd", type=Path)
    parser.add_argument("--cards", type=Path)
    parser.add_argument("--only", default="", help="names of datasets, separated by +")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--options", default="", help="options of train_ssd.py to compare with")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    chosen = args.only.split("+") if args.only else [benchmark.name for benchmark in BENCHMARKS]
    print(
        "| dataset | mAP (95 %) by seed | mean | best by hand | epochs | minutes |\n|---|---|---|---|---|---|"
    )
    for benchmark in BENCHMARKS:
        if benchmark.name in chosen:
            found = [train_and_evaluate(benchmark, seed, args) for seed in args.seeds.split(",")]
            print(row(benchmark, found), flush=True)


if __name__ == "__main__":
    main()
