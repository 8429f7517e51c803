"""What a run tells while it trains: the doctor's lines, slow data, scores that stay 0, TensorBoard."""

from __future__ import annotations

import re
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest

from mnssd.cli.main import main
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import OptionError
from mnssd.tasks import detection
from mnssd.tasks.detection import HOPELESS, ZERO_AFTER
from mnssd.tasks.run import train_detector
from mnssd.train.logger import TrainingLogger
from mnssd.train.tensorboard import TensorBoardWriter

TINY: Dict[str, Any] = {
    "width": 0.25, "size": (96, 96), "epochs": 1, "batch_size": 8, "val_interval": 1, "workers": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_shapes(folder / "shapes", train=16, val=6, size=(96, 96))
    assert main(["convert-data", str(folder / "shapes"), str(folder / "coco"), "--format", "coco"]) == 0
    return folder / "coco"


def test_scores_that_stay_0_are_told_once_with_causes(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = detection.evaluate
    monkeypatch.setattr(
        detection, "evaluate", lambda *args, **more: replace(real(*args, **more), mean_ap=0.0)
    )
    options = {**TINY, "data_root": str(coco), "epochs": ZERO_AFTER + 2}
    train_detector({**options, "output": str(tmp_path / "run")})
    said = capsys.readouterr().out
    assert said.count(f"warning: {HOPELESS}") == 1
    before = said.split("warning: mAP is 0")[0]
    assert before.count("mAP 0.0000") == ZERO_AFTER


def test_the_doctor_speaks_before_training(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = {**TINY, "data_root": str(coco), "val_interval": 0, "output": str(tmp_path / "run")}
    train_detector({**options, "match_iou": 0.99})
    said = capsys.readouterr().out.split("epoch ")[0]
    assert "note: Boxes that overlap no anchor enough, learned by one anchor each: " in said
    assert re.search(r"train: (9\d|100)% of them overlap none by 0\.99, typically ", said)
    assert "Classes with few objects" in said


def test_waiting_for_data_is_shown_and_warned_of_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    journal = TrainingLogger(tmp_path / "log.csv", 2, 4, 0)
    journal._last_line = -1e9  # a line is due at once
    for epoch in range(2):
        journal.start_epoch(epoch, {})
        time.sleep(0.02)
        journal.step(2 * epoch, 8, 0.1, {"loss": 1.0}, 0.01)
        row = journal.end_epoch(0.1)
        assert row["data_wait"] > 0.2
    journal.close()
    said = capsys.readouterr().out
    assert " images/s data " in said
    assert said.count("of the time goes into waiting for images; --cache-images") == 1


def events(folder: Path) -> List[Any]:
    """What is in the files: TFRecords of length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def test_tensorboard_has_the_log_and_pictures(coco: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    options = {**TINY, "data_root": str(coco), "output": str(tmp_path / "run"), "tensorboard": True}
    run = train_detector({**options, "epochs": 2})
    values = [(event.step, value) for event in events(run / "tensorboard") for value in event.summary.value]
    scalars = {(step, value.tag): value.simple_value for step, value in values if not value.HasField("image")}
    assert {(1, "loss"), (2, "loss"), (1, "lr"), (2, "mAP"), (2, "images_per_second")} <= set(scalars)
    pictures = [value.image for _, value in values if value.HasField("image")]
    assert len(pictures) == 2 * 4
    assert {(image.width, image.height) for image in pictures} == {(96, 96)}


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(OptionError, match="pip install 'mnssd\\[tensorboard\\]'"):
        TensorBoardWriter(tmp_path, 0)
