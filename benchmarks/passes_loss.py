"""100 training steps with and without the rewritten graph, two seeds each: do they end at the same loss?

    python benchmarks/passes_loss.py [--voc VOCDEVKIT] [--split 2007_trainval] [--weights FILE]

MobileNetV2 SSD 300, batch 8, through the task and the trainer of the training loop. Writes PASSES-LOSS.md.
The end is the mean loss of the last ten steps.
"""

from __future__ import annotations

import argparse
import datetime
import time
from itertools import islice
from pathlib import Path
from typing import List, Optional

from mnssd.runtime import settings

# isort: split
import mxnet as mx
import numpy as np

from mnssd.data.transform_options import AugmentOptions
from mnssd.tasks.detection import DetectionTask
from mnssd.train.optimizer import make_trainer
from mnssd.train.options import DetectionOptions, DetectionTraining, LoopOptions
from mnssd.train.schedule import learning_rate
from mnssd.train.step import TrainingStep

HERE = Path(__file__).resolve().parent
STEPS, END, BATCH = 100, 10, 8
SEEDS = (0, 1)


def train(voc: str, split: str, weights: Optional[str], seed: int, fast: bool) -> List[float]:
    """The loss of each step."""
    detection = DetectionOptions(dataset="voc", data_root=voc, train_splits=split, weights=weights)
    loop = LoopOptions(batch_size=BATCH, seed=seed, fast_graph=fast, lr=0.002, epochs=100, val_interval=0)
    task = DetectionTask(DetectionTraining(detection, AugmentOptions(), loop))
    training_step = TrainingStep(task, make_trainer(task.block, loop, task.last_layers, task.pretrained))
    batches = (batch for epoch in range(STEPS) for batch in task.batches.epoch(epoch))
    losses = []
    for step, batch in enumerate(islice(batches, STEPS)):
        result = training_step(batch, learning_rate(loop, step, len(task.batches)))
        losses.append(result.losses["loss"])
    mx.nd.waitall()
    return losses


def main() -> None:
    """Train four times and write what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voc", default=str(HERE.parent / "../shared/voc/VOCdevkit"))
    parser.add_argument("--split", default="2007_trainval")
    parser.add_argument("--weights")
    args = parser.parse_args()
    lines, ends = [], {}
    for seed in SEEDS:
        for fast in (True, False):
            begun = time.monotonic()
            losses = train(args.voc, args.split, args.weights, seed, fast)
            ends[seed, fast] = float(np.mean(losses[-END:]))
            name = "rewritten" if fast else "plain"
            shown = [f"{losses[0]:.4f}", f"{np.mean(losses[40:50]):.4f}", f"{ends[seed, fast]:.4f}"]
            lines.append(f"| {seed} | {name} | {' | '.join(shown)} | {time.monotonic() - begun:.0f} s |")
            print(lines[-1], flush=True)
    passes = max(abs(ends[seed, True] - ends[seed, False]) for seed in SEEDS)
    seeds = abs(ends[SEEDS[0], False] - ends[SEEDS[1], False])
    conclusion = "within" if passes <= seeds else "NOT within"
    machine = settings.describe()
    cpu = f"{machine['cpu']} with {machine['instruction_set']}, {machine['usable_cores']} cores"
    start = f"from {Path(args.weights).name}" if args.weights else "from random weights"
    text = "\n".join([
        f"# {STEPS} training steps with and without the passes",
        "",
        f"Written by `python benchmarks/passes_loss.py` on {datetime.date.today()};",
        f"{cpu}, mxnet {mx.__version__}.",
        f"MobileNetV2 SSD 300 on VOC {args.split}, batch {BATCH}, {start}.",
        "",
        f"| seed | graph | first step | mean of steps 41 - 50 | mean of the last {END} | took |",
        "|---|---|---|---|---|---|",
        *lines,
        "",
        f"At the end the passes make a difference of at most {passes:.4f}, the two seeds one of {seeds:.4f}:",
        f"{conclusion} the spread of the seeds.",
        "",
    ])  # fmt: skip
    (HERE / "PASSES-LOSS.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
