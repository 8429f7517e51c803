"""Runs that end early: what is saved when, and that going on gives what an uninterrupted run gives."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest

from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import MnssdError
from mnssd.files import write_bytes
from mnssd.tasks.detection import DetectionTask
from mnssd.tasks.run import train_detector
from mnssd.train.checkpoint import read_checkpoint
from mnssd.train.checkpoint_manager import CheckpointManager, SignalHandler
from mnssd.train.run_folder import RunFolder

OPTIONS: Dict[str, Any] = {
    "dataset": "shapes", "width": 0.25, "size": (96, 96), "epochs": 3, "batch_size": 4, "lr": 0.02,
    "predictor_lr": 1.0, "val_interval": 1, "workers": 1, "ema": 0.9, "mosaic": 0.3,
}  # fmt: skip
STEPS = 4  # an epoch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=4 * STEPS + 1, val=4, size=(96, 96))
    return str(folder)


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has disturbed."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    return train_detector({**OPTIONS, "data_root": data, "output": str(output)})


def check_same(run: Path, whole: Path) -> None:
    """Weights, optimizer, averages, best weights and log, but for times."""
    expected, wanted = read_checkpoint(whole / "last.ckpt")
    found, progress = read_checkpoint(run / "last.ckpt")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name
    assert (run / "best.params").read_bytes() == (whole / "best.params").read_bytes()
    timed = ("seconds", "images_per_second", "data_wait", "memory_mb")
    rows = [
        [{k: v for k, v in row.items() if k not in timed} for row in csv.DictReader(path.open())]
        for path in (run / "log.csv", whole / "log.csv")
    ]
    assert rows[0] == rows[1]
    assert (progress.step, progress.epoch, progress.batch) == (wanted.step, wanted.epoch, 0)


def cut_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the next training end, as if the process were killed, before its step of this number from 0."""
    losses, calls = DetectionTask.losses, [0]

    def failing(task: DetectionTask, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] > steps:
            raise KeyboardInterrupt
        return losses(task, batch)

    monkeypatch.setattr(DetectionTask, "losses", failing)


@pytest.mark.parametrize("steps", [0, STEPS - 1, STEPS, STEPS + 2])
def test_it_goes_on_in_the_middle_of_an_epoch(
    data: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """With a checkpoint after every step."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        cut_after(patch, steps)
        with pytest.raises(KeyboardInterrupt):
            train_detector({**OPTIONS, "data_root": data, "output": str(run), "save_minutes": 1e-9})
    _, progress = read_checkpoint(run / "last.ckpt")
    assert (progress.step, progress.batch) == (steps, steps % STEPS)
    train_detector({"resume": str(run)})
    check_same(run, whole)


def test_a_damaged_checkpoint_is_passed_over(
    data: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        cut_after(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            train_detector({**OPTIONS, "data_root": data, "output": str(run), "save_minutes": 1e-9})
    content = (run / "last.ckpt").read_bytes()
    (run / "last.ckpt").write_bytes(content[: len(content) // 2])
    train_detector({"resume": str(run)})
    assert "last.ckpt: damaged" in capsys.readouterr().out
    check_same(run, whole)


@pytest.mark.parametrize("left", [["config.yaml"], ["config.yaml", "best.params"], [".x.9.unfinished"]])
def test_what_ended_before_its_first_checkpoint_starts_again(
    data: str, whole: Path, tmp_path: Path, left: List[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in left:
        source = whole / name
        (run / name).write_bytes(source.read_bytes() if source.exists() else b"torn")
    train_detector({**OPTIONS, "data_root": data, "output": str(run), "resume": "auto"})
    check_same(run, whole)


def test_a_run_whose_checkpoints_are_gone_is_not_begun_again(whole: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "log.csv", "best.params"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    with pytest.raises(MnssdError, match="nothing to go on from"):
        train_detector({"resume": str(tmp_path)})
    assert (tmp_path / "best.params").exists()


def test_some_epochs_are_kept(data: str, tmp_path: Path) -> None:
    options = {**OPTIONS, "data_root": data, "output": str(tmp_path / "run"), "keep_every": 2}
    run = train_detector(options)
    assert sorted(path.name for path in run.glob("*.ckpt")) == [
        "epoch-2.ckpt", "last.ckpt", "previous.ckpt",
    ]  # fmt: skip
    assert read_checkpoint(run / "epoch-2.ckpt")[1].epoch == 2


def test_the_last_checkpoint_is_never_missing(tmp_path: Path) -> None:
    """Nor half written, wherever the process ends: `write` looks at each moment it is called."""
    run, seen = RunFolder(tmp_path), []

    def write(path: Path) -> None:
        seen.append(sorted(p.name for p in tmp_path.iterdir()))
        write_bytes(path, str(len(seen)).encode())

    saver = CheckpointManager(run, 0, 0, write)
    for _ in range(3):
        saver.save()
    assert seen == [[], ["last.ckpt", "previous.ckpt"], ["last.ckpt", "previous.ckpt"]]
    assert not saver.is_due()
    assert CheckpointManager(run, 1e-9, 0, write).is_due()


def test_a_folder_in_use_is_refused(data: str, tmp_path: Path) -> None:
    run = RunFolder.create(str(tmp_path / "run"), "")
    with pytest.raises(MnssdError, match="another process trains there"):
        train_detector({**OPTIONS, "data_root": data, "output": str(run.path)})
    run.unlock()
    RunFolder(run.path).lock()


# ---- real processes ----------------------------------------------------------------------------------------


def start(data: str, run: Path, **more: Any) -> subprocess.Popen:
    options = {**OPTIONS, "data_root": data, "output": run, "size": "96", "resume": "auto", **more}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "mnssd.cli.main", "train-ssd", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )


def heed_ctrl_c() -> None:
    """Where the tests run in the background, SIGINT is ignored, also by the processes that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(what: Any, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_step_and_nothing_is_lost(
    data: str, tmp_path: Path, number: signal.Signals
) -> None:
    run, longer = tmp_path / "run", {"epochs": 400, "val_interval": 400}
    process = start(data, run, **longer)
    wait_for((run / "previous.ckpt").exists)  # two checkpoints: it is training
    other = start(data, run, **longer)
    _, refused = other.communicate(timeout=120)
    assert other.returncode == 1
    assert "another process trains there" in refused
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, (out, err)
    assert f"everything is saved. Go on with: --resume {run}" in err
    assert "Traceback" not in err
    _, progress = read_checkpoint(run / "last.ckpt")
    assert 0 < progress.step < 400 * STEPS
    assert progress.step == progress.epoch * STEPS + progress.batch


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler, whatever this process has."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_that_is_ignored_stays_so(ctrl_c: None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with SignalHandler() as listener:
        os.kill(os.getpid(), signal.SIGINT)
        assert listener.heard is None


def test_a_second_ctrl_c_does_not_wait(ctrl_c: None) -> None:
    with SignalHandler() as listener:
        os.kill(os.getpid(), signal.SIGINT)
        assert listener.heard == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def changed(path: Path) -> int:
    """When a file was written last; 0 before."""
    return path.stat().st_mtime_ns if path.exists() else 0


def half_written(run: Path) -> bool:
    return any(run.glob(".*.unfinished"))


KILLS = int(os.environ.get("MNSSD_KILLS", "50"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ended_at_random_moments_it_ends_as_if_it_had_not_been(
    data: str, tmp_path: Path, number: signal.Signals
) -> None:
    """At any moment, also while checkpoints are written: there is one after every step."""
    more = {"epochs": 30, "save_minutes": 1e-9}
    undisturbed = start(data, tmp_path / "whole", **more)
    undisturbed.communicate(timeout=900)
    assert undisturbed.returncode == 0
    run, rng, steps = tmp_path / "run", random.Random(0), []
    unfinished = 0
    for _ in range(KILLS):
        before = changed(run / "last.ckpt")
        process = start(data, run, **more)
        until = time.monotonic() + 120
        while rng.random() < 0.998 and changed(run / "last.ckpt") == before and process.poll() is None:
            assert time.monotonic() < until  # now and then it is ended while it starts
            time.sleep(0.02)
        # A third of them while a file is being written, the others within the next steps.
        at_writing = time.monotonic() + 5 if rng.random() < 0.33 else 0.0
        while (
            time.monotonic() < at_writing and process.poll() is None and not list(run.glob(".*.unfinished"))
        ):
            pass
        if not at_writing:
            time.sleep(rng.random() * 4)  # the first step comes late, for kernels are compiled
        process.send_signal(number)
        process.communicate(timeout=120)
        unfinished += half_written(run)
        if number == signal.SIGTERM:
            assert process.returncode in (0, 128 + number, -number)  # the last before it listens
        if (run / "last.ckpt").exists():
            steps.append(read_checkpoint(run / "last.ckpt")[1].step)
    last = start(data, run, **more)
    _, err = last.communicate(timeout=900)
    assert last.returncode == 0, err
    assert steps == sorted(steps)
    assert len(set(steps)) > KILLS // 4
    if number == signal.SIGKILL:
        assert unfinished > 0  # some left a file half written
    print(f"ended {KILLS} times, {unfinished} with a file half written, at steps {steps}")
    check_same(run, tmp_path / "whole")
