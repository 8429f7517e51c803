"""Messages about the data before training, and about scores that stay at zero."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict

import pytest

from mnssd.cli.main import main
from mnssd.tasks import detection
from mnssd.tasks.detection import ZERO_AFTER, ZERO_WARNING
from mnssd.tasks.run import train_detector

OPTIONS: Dict[str, Any] = {
    "width": 0.25, "size": (96, 96), "epochs": 1, "batch_size": 8, "val_interval": 1, "workers": 0,
    "weights": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def coco(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "coco"
    assert main(["convert-data", shapes, str(folder), "--format", "coco"]) == 0
    return folder


@pytest.mark.slow
def test_scores_that_stay_at_zero_are_warned_of_once(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = detection.evaluate
    result = lru_cache(None)(lambda *args: replace(evaluate(*args), mean_ap=0.0))
    monkeypatch.setattr(detection, "evaluate", lambda net, dataset, *args, **kwargs: result(net, dataset))
    epochs = ZERO_AFTER + 2
    train_detector({**OPTIONS, "data_root": str(coco), "epochs": epochs, "output": str(tmp_path / "run")})
    printed = capsys.readouterr().out
    before, *after = printed.split(f"warning: {ZERO_WARNING}")
    assert len(after) == 1
    assert before.count("mAP 0.0000") == ZERO_AFTER


def test_dataset_findings_are_printed_before_training(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = {**OPTIONS, "data_root": str(coco), "val_interval": 0, "output": str(tmp_path / "run")}
    train_detector({**options, "match_iou": 0.99})
    before = capsys.readouterr().out.split("epoch ")[0]
    (note,) = [line for line in before.splitlines() if line.startswith("note: ") and "0.99" in line]
    assert "train" in note
