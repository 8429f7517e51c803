"""The training log and TensorBoard output."""

from __future__ import annotations

import csv
import struct
import sys
import time
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from helpers.runs import train

from mnssd.data.loader import Batch
from mnssd.errors import OptionError
from mnssd.runtime import load
from mnssd.train.checkpoint import Progress
from mnssd.train.logger import TrainingLogger, to_csv
from mnssd.train.options import LoopOptions
from mnssd.train.schedule import Schedule
from mnssd.train.step import StepResult
from mnssd.train.task import ValidationResult
from mnssd.train.tensorboard import TensorBoardWriter


def logger(folder: Path, epochs: int, steps: int, done: int = 0, enabled: bool = True) -> TrainingLogger:
    """The logger of a run with `steps` per epoch, of which some are done."""
    schedule = Schedule(LoopOptions(epochs=epochs), steps, Progress(step=done))
    return TrainingLogger(folder / "log.csv", schedule, enabled)


def step_result(loss: float, skipped: bool = False) -> StepResult:
    return StepResult(Batch((np.zeros((8, 1)),), tuple(range(8))), 0.1, {"loss": loss}, skipped, False)


def test_csv_has_the_columns_of_all_rows() -> None:
    text = to_csv([{"epoch": 1, "loss": 2}, {"epoch": 2, "loss": 1, "mAP": 0.5}])
    rows = list(csv.DictReader(text.splitlines()))
    assert rows[0] == {"epoch": "1", "loss": "2", "mAP": ""}
    assert rows[1]["mAP"] == "0.5"


def test_epoch_averages_leave_out_skipped_steps_and_continue_from_a_checkpoint(tmp_path: Path) -> None:
    first, second = (logger(tmp_path, 1, 4, step, enabled=False) for step in (0, 2))
    first.start_epoch(0, {})
    first.after_step(step_result(1.0))
    first.after_step(step_result(float("nan"), skipped=True))
    second.start_epoch(0, first.partial())
    second.after_step(step_result(2.0))
    second.after_step(step_result(3.0))
    row = second.end_epoch()
    assert (row["epoch"], row["loss"], row["lr"]) == (1, 2.0, 0.1)


@pytest.mark.parametrize(
    ("others", "threads", "warned"), [(1.0, "2", True), (0.1, "2", False), (1.0, "1", False)]
)
def test_other_programs_are_warned_of_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    others: float,
    threads: str,
    warned: bool,
) -> None:
    monkeypatch.setattr(load, "allowed_cpus", lambda: [0, 1])
    monkeypatch.setattr(load, "used_by_others", lambda before, after: others)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    log = logger(tmp_path, 2, 1)
    for epoch in range(2):
        log.start_epoch(epoch, {})
        log.after_step(step_result(1.0))
        log.end_epoch()
    assert capsys.readouterr().out.count("OMP_NUM_THREADS=1") == int(warned)


def test_slow_data_is_logged_and_warned_of_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def slow_batches() -> Any:
        time.sleep(0.02)
        yield Batch((np.zeros((8, 1)),), tuple(range(8)))

    printed = logger(tmp_path, 2, 1)
    printed._last_line = -1e9  # a progress line is due at once
    for epoch in range(2):
        printed.start_epoch(epoch, {})
        for _ in printed.timed(slow_batches()):
            printed.after_step(step_result(1.0))
        assert printed.end_epoch()["data_wait"] > 0.2
    printed.close()
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "%" in line and "step 1/2" in line]) == 1
    assert len([line for line in lines if "--cache-images" in line]) == 1


def test_disabled_logger_prints_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    silent = logger(tmp_path, 1, 1, enabled=False)
    silent.after_step(step_result(1.0))
    silent.after_epoch(
        [silent.end_epoch()], ValidationResult("mAP", 0.5, warning="low"), {"x.jpg": "x.jpg: bad"}
    )
    silent.close()
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "log.csv").exists()


def read_events(folder: Path) -> List[Any]:
    """The events in TFRecord files: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.iterdir()):
        data, offset = path.read_bytes(), 0
        while offset < len(data):
            (length,) = struct.unpack_from("<Q", data, offset)
            events.append(Event.FromString(data[offset + 12 : offset + 12 + length]))
            offset += 16 + length
    return events


def test_tensorboard_has_the_log_and_images(shapes: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    run = train(shapes, tmp_path / "run", tensorboard=True, epochs=2, mosaic=0.0, ema=0.0)
    values = [(e.step, value) for e in read_events(run / "tensorboard") for value in e.summary.value]
    scalars = {(step, value.tag) for step, value in values if not value.HasField("image")}
    assert {(1, "loss"), (2, "loss"), (1, "lr"), (2, "mAP"), (2, "images_per_second")} <= scalars
    images = [value.image for _, value in values if value.HasField("image")]
    assert len(images) == 2 * 4
    assert {(image.width, image.height) for image in images} == {(96, 96)}


def test_missing_tensorboardx_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(OptionError, match=r"mnssd\[tensorboard\]"):
        TensorBoardWriter(tmp_path, 0)
    TensorBoardWriter(tmp_path, 0, enabled=False).close()
