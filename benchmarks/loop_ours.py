"""The training loop of `train_ssd.py`, an epoch for each repetition of a turn.

    python benchmarks/loop_ours.py OPTION ...

OPTIONs are those of `train_ssd.py`. Seconds are those of a batch, by an epoch's images per second in
`log.csv`.
"""

from __future__ import annotations

import sys
from typing import Any

import worker

from mnssd.cli.main import run_command
from mnssd.train.logger import TrainingLogger

BATCH = 16


def main() -> None:
    """Train; wait after each epoch for the next turn."""
    turns, after_epoch = worker.Turns(), TrainingLogger.after_epoch
    started = False

    def wait(logger: TrainingLogger, history: Any, *rest: Any) -> None:
        nonlocal started
        after_epoch(logger, history, *rest)
        if started:
            turns.add(BATCH / history[-1]["images_per_second"])
        else:  # MXNet plans memory in the first epoch
            started = True
            turns.start()

    TrainingLogger.after_epoch = wait  # type: ignore[method-assign]
    sys.exit(run_command("train-ssd", ["--batch-size", str(BATCH), *sys.argv[1:]]))


if __name__ == "__main__":
    main()
