"""Small training runs on the built-in dataset (fixture `shapes`)."""

from __future__ import annotations

import csv
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from mnssd.tasks.detection import DetectionTask
from mnssd.tasks.run import train_detector
from mnssd.train.checkpoint import read_checkpoint

STEPS = 4
"""Steps per epoch of `TINY` runs."""

TINY: Dict[str, Any] = {
    "dataset": "shapes", "network": "mobilenet_v1", "width": 0.25, "size": (96, 96), "epochs": 2,
    "batch_size": 6, "lr": 0.02, "predictor_lr": 1.0, "val_interval": 1, "workers": 1, "ema": 0.9,
    "mosaic": 0.3,
}  # fmt: skip

TIMES = ("seconds", "images_per_second", "data_wait", "memory_mb")
"""Columns of the log that differ between equal runs."""


def train(shapes: str, output: Path, **options: Any) -> Path:
    """Train a tiny detector."""
    return train_detector({**TINY, "data_root": shapes, "output": str(output), **options})


def arrays_of(run: Path) -> Dict[str, np.ndarray]:
    """The arrays of the last checkpoint."""
    return read_checkpoint(run / "last.ckpt")[0]


def read_log(run: Path) -> List[Dict[str, str]]:
    """The rows of the log."""
    with open(run / "log.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same_arrays(run: Path, expected: Path) -> None:
    """Weights, optimizer state and averaged weights are equal to the bit."""
    arrays, expected_arrays = arrays_of(run), arrays_of(expected)
    assert arrays.keys() == expected_arrays.keys()
    for name, value in expected_arrays.items():
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)


def assert_same_run(run: Path, expected: Path) -> None:
    """Checkpoints, best weights and logs are equal, times aside."""
    assert_same_arrays(run, expected)
    assert (run / "best.params").read_bytes() == (expected / "best.params").read_bytes()
    logs = [
        [{k: v for k, v in row.items() if k not in TIMES} for row in read_log(r)] for r in (run, expected)
    ]
    assert logs[0] == logs[1]
    progress, other = (read_checkpoint(r / "last.ckpt")[1] for r in (run, expected))
    assert (progress.step, progress.epoch, progress.batch) == (other.step, other.epoch, 0)


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 120) -> None:
    """Wait until a training process has written a file."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)


def stop_before_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make training raise KeyboardInterrupt before its step number `step`, from 0, as if it were killed."""
    losses, calls = DetectionTask.losses, [0]

    def stopping(task: DetectionTask, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] > step:
            raise KeyboardInterrupt
        return losses(task, batch)

    monkeypatch.setattr(DetectionTask, "losses", stopping)
