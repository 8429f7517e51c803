"""Checkpoints: what is saved when, and that a resumed run equals an uninterrupted one to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List

import pytest
from helpers.runs import STEPS, assert_same_run, stop_before_step, train

from mnssd.distributed.context import SINGLE_PROCESS
from mnssd.errors import MnssdError
from mnssd.files import write_bytes
from mnssd.runtime.signals import SignalHandler
from mnssd.tasks.run import resolve, train_detector
from mnssd.train.checkpoint import FIRST_LINE, read_checkpoint
from mnssd.train.checkpoint_manager import CheckpointManager
from mnssd.train.options import DetectionTraining, LoopOptions
from mnssd.train.run_folder import RunFolder

EVERY_STEP = 1e-9
"""Minutes between checkpoints."""


@pytest.mark.parametrize("step", [STEPS - 1, pytest.param(STEPS, marks=pytest.mark.slow)])
def test_run_resumed_within_an_epoch_equals_an_uninterrupted_one(
    shapes: str, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_before_step(patch, step)
        with pytest.raises(KeyboardInterrupt):
            train(shapes, run, save_minutes=EVERY_STEP)
    _, progress = read_checkpoint(run / "last.ckpt")
    assert (progress.step, progress.batch) == (step, step % STEPS)
    train_detector({"resume": str(run)})
    assert_same_run(run, tiny_run)


def test_damaged_checkpoint_is_replaced_by_the_one_before_it(
    shapes: str,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_before_step(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            train(shapes, run, save_minutes=EVERY_STEP)
    content = (run / "last.ckpt").read_bytes()
    (run / "last.ckpt").write_bytes(content[: len(content) // 2])
    train_detector({"resume": str(run)})
    printed = capsys.readouterr().out.splitlines()
    (warning,) = [line for line in printed if line.startswith("warning: ") and str(run / "last.ckpt") in line]
    assert str(run / "previous.ckpt") in warning
    assert_same_run(run, tiny_run)


def test_damaged_checkpoints_are_refused_by_name(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    content = (run / "last.ckpt").read_bytes()
    assert content.startswith(FIRST_LINE)
    edited = content.replace(b"weights", b"wEights", 1)
    for damaged in (content[:-1], content[:3000], b"", b"another file", edited):
        for name in ("last.ckpt", "previous.ckpt"):
            (run / name).write_bytes(damaged)
        with pytest.raises(MnssdError, match=r"previous\.ckpt"):
            train_detector({"resume": str(run)})


@pytest.mark.parametrize(
    "left", [["config.yaml", "best.params"], pytest.param([".x.9.unfinished"], marks=pytest.mark.slow)]
)
def test_run_that_ended_before_its_first_checkpoint_starts_again(
    shapes: str, tiny_run: Path, tmp_path: Path, left: List[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in left:
        source = tiny_run / name
        (run / name).write_bytes(source.read_bytes() if source.exists() else b"torn")
    train(shapes, run, resume="auto")
    assert_same_run(run, tiny_run)


def test_all_ranks_can_read_a_run_that_ended_before_its_first_checkpoint(
    tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_bytes((tiny_run / "config.yaml").read_bytes())
    first, second = (resolve(DetectionTraining, {"resume": str(tmp_path)}) for _ in range(2))
    assert first == second


def test_run_with_a_log_but_without_checkpoints_is_not_overwritten(tiny_run: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "log.csv", "best.params"):
        (tmp_path / name).write_bytes((tiny_run / name).read_bytes())
    with pytest.raises(MnssdError, match=r"last\.ckpt"):
        train_detector({"resume": str(tmp_path)})
    assert (tmp_path / "best.params").exists()


@pytest.mark.slow
def test_keep_every_keeps_checkpoints_of_epochs(shapes: str, tmp_path: Path) -> None:
    run = train(shapes, tmp_path / "run", keep_every=2, val_interval=0)
    assert sorted(path.name for path in run.glob("*.ckpt")) == [
        "epoch-2.ckpt", "last.ckpt", "previous.ckpt",
    ]  # fmt: skip
    assert read_checkpoint(run / "epoch-2.ckpt")[1].epoch == 2


def test_last_checkpoint_exists_while_the_next_is_written(tmp_path: Path) -> None:
    run, seen = RunFolder(tmp_path), []

    def write(path: Path) -> None:
        seen.append(sorted(p.name for p in tmp_path.iterdir()))
        write_bytes(path, str(len(seen)).encode())

    checkpoints = CheckpointManager(run, LoopOptions(), write, SINGLE_PROCESS, SignalHandler())
    for _ in range(3):
        checkpoints.save()
    assert seen == [[], ["last.ckpt", "previous.ckpt"], ["last.ckpt", "previous.ckpt"]]
    assert (run.previous.read_bytes(), run.last.read_bytes()) == (b"2", b"3")
