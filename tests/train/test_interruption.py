"""Training processes that are interrupted or killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import STEPS, TINY, assert_same_run, wait_for

from mnssd.train.checkpoint import read_checkpoint

KILLS = int(os.environ.get("MNSSD_KILLS", "50"))


def start(shapes: str, run: Path, **options: Any) -> subprocess.Popen:
    options = {**TINY, "data_root": shapes, "output": run, "size": "96", "resume": "auto", **options}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "mnssd.cli.main", "train-ssd", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=restore_sigint
    )


def restore_sigint() -> None:
    """SIGINT is ignored in processes that a test run in the background starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_signal_ends_training_after_the_step_with_a_checkpoint(
    shapes: str, tmp_path: Path, number: signal.Signals
) -> None:
    run, options = tmp_path / "run", {"epochs": 400, "val_interval": 400}
    process = start(shapes, run, **options)
    wait_for(run / "previous.ckpt", process)  # two checkpoints: it is training
    second = start(shapes, run, **options)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 1
    assert str(run) in err
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, (out, err)
    assert f"--resume {run}" in err
    assert "Traceback" not in err
    _, progress = read_checkpoint(run / "last.ckpt")
    assert 0 < progress.step < 400 * STEPS
    assert progress.step == progress.epoch * STEPS + progress.batch


def modified_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def has_partial_file(run: Path) -> bool:
    return any(run.glob(".*.unfinished"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_run_ended_at_random_moments_equals_an_uninterrupted_one(
    shapes: str, tmp_path: Path, number: signal.Signals
) -> None:
    """With a checkpoint after every step, also while one is being written."""
    options = {"epochs": 30, "save_minutes": 1e-9}
    uninterrupted = start(shapes, tmp_path / "whole", **options)
    uninterrupted.communicate(timeout=900)
    assert uninterrupted.returncode == 0
    run, rng, steps, partial_files = tmp_path / "run", random.Random(0), [], 0
    for _ in range(KILLS):
        before = modified_at(run / "last.ckpt")
        process = start(shapes, run, **options)
        deadline = time.monotonic() + 120
        while rng.random() < 0.998 and modified_at(run / "last.ckpt") == before and process.poll() is None:
            assert time.monotonic() < deadline  # now and then it is ended while it starts
            time.sleep(0.02)
        # A third of them while a file is being written, the others within the next steps.
        write_deadline = time.monotonic() + 5 if rng.random() < 0.33 else 0.0
        while time.monotonic() < write_deadline and process.poll() is None and not has_partial_file(run):
            pass
        if not write_deadline:
            time.sleep(rng.random() * 4)  # the first step comes late, for kernels are compiled
        process.send_signal(number)
        process.communicate(timeout=120)
        partial_files += has_partial_file(run)
        if number == signal.SIGTERM:
            assert process.returncode in (0, 128 + number, -number)  # the last: no handler yet
        if (run / "last.ckpt").exists():
            steps.append(read_checkpoint(run / "last.ckpt")[1].step)
    last = start(shapes, run, **options)
    _, err = last.communicate(timeout=900)
    assert last.returncode == 0, err
    assert steps == sorted(steps)
    assert len(set(steps)) > KILLS // 4
    if number == signal.SIGKILL:
        assert partial_files > 0
    print(f"ended {KILLS} times, {partial_files} with a partial file, at steps {steps}")
    assert_same_run(run, tmp_path / "whole")
