r"""Self-training with half of the labels: what `--unlabelled` gives back.

    python benchmarks/self_training.py OUTPUT --data-root DIR [--train train] [--test test] [--seeds 0,1]
        [--options=...]

DIR is in VOC layout. Half of the images of the list --train keep their labels, chosen at random by the seed.
A detector trained on them detects in the other half (`mnssd detect --score 0.1 --json`); a second one is
trained on the labels and these detections, from the published weights, for about as many steps: their number
does not depend on that of the images. Both are evaluated on --test. Finished runs are not repeated. Prints a
table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, Sequence

import numpy as np
from suggestions import part_of, run, score_of, train_and_evaluate

from mnssd.data.open import open_dataset


def detect(teacher: str, images: Sequence[str], args: argparse.Namespace) -> str:
    """File of the detections of a run in images."""
    path, listed = args.output / f"{teacher}-found.json", args.output / f"{teacher}-images"
    if not path.exists():
        listed.mkdir(exist_ok=True)
        for image in images:
            link = listed / Path(image).name
            if not link.exists():
                link.symlink_to(image)
        command = ["-m", "mnssd", "detect", str(args.output / teacher), str(listed)]
        run([*command, "--score", "0.1", "--json", str(path)], args.output / f"{teacher}.log")
    return str(path)


def measure(seed: int, args: argparse.Namespace) -> Dict[str, Dict[str, Any]]:
    """Results of a seed."""
    dataset = open_dataset("voc", args.data_root, args.train)
    order = np.random.default_rng(seed).permutation(len(dataset))
    labeled = [dataset[i] for i in sorted(order[: len(dataset) // 2])]
    others = [dataset[i] for i in sorted(order[len(dataset) // 2 :])]
    names, target = [one.image_id for one in labeled], args.output / "data" / f"half-{seed}"
    data = part_of(args.data_root, args.train, names, target)
    options = ["--train-splits", args.train, "--val-splits", args.val, "--seed", str(seed)]
    results = {"half of the labels": train_and_evaluate(f"half-{seed}", data, options, args.test, args)}
    found = detect(f"half-{seed}", [one.image_path for one in others], args)
    results["half, and detections in the others"] = train_and_evaluate(
        f"self-{seed}", data, [*options, "--unlabelled", found], args.test, args
    )
    return results


def main() -> None:
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--data-root", type=Path, required=True, help="dataset in VOC layout")
    parser.add_argument("--train", default="train")
    parser.add_argument("--val", default="val")
    parser.add_argument("--test", default="test")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--options", default="", help="more options of train_ssd.py")
    args = parser.parse_args()
    args.output, args.data_root = args.output.resolve(), args.data_root.resolve()
    (args.output / "data").mkdir(parents=True, exist_ok=True)
    print("| seed | trained on | epochs | mAP (95 %) |\n|---|---|---|---|")
    for seed in map(int, args.seeds.split(",")):
        for kind, content in measure(seed, args).items():
            print(f"| {seed} | {kind} | {content['epochs']} | {score_of(content)} |", flush=True)


if __name__ == "__main__":
    main()
