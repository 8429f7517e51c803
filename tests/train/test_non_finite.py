"""Steps whose loss is not finite: skipped, recorded, and too many end the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from helpers.runs import train

from mnssd.data.image import from_network_input, read_image, to_network_input
from mnssd.errors import MnssdError
from mnssd.tasks.detection import DetectionTask
from mnssd.train.checkpoint import read_checkpoint
from mnssd.train.checkpoint_manager import CheckpointManager

OPTIONS = {"epochs": 1, "batch_size": 4, "val_interval": 0}
"""Six steps."""


@pytest.fixture
def nan_steps(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """Steps, from 0, whose loss and gradients are NaN; to be filled by the test."""
    steps: List[int] = []
    losses, count = DetectionTask.losses, [0]

    def patched(task: Any, batch: Any) -> Any:
        head, named = losses(task, batch)
        if count[0] in steps:
            head, named = head * np.nan, {**named, "loss": named["loss"] * np.nan}
        count[0] += 1
        return head, named

    monkeypatch.setattr(DetectionTask, "losses", patched)
    return steps


def test_skipped_step_changes_nothing_and_is_recorded(
    shapes: str,
    tmp_path: Path,
    nan_steps: List[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Weights, optimizer state, averages and BatchNorm statistics stay."""
    nan_steps[:] = [3]
    saved: List[Any] = []
    save = CheckpointManager.save

    def keep(checkpoints: Any) -> None:
        save(checkpoints)
        saved.append(read_checkpoint(checkpoints.run.last)[0])

    monkeypatch.setattr(CheckpointManager, "save", keep)
    run = train(shapes, tmp_path / "run", optimizer="adamw", lr=0.001, save_minutes=1e-9, **OPTIONS)
    before, after, later = saved[3:6]  # the first is that of the start
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not all(np.array_equal(after[name], later[name]) for name in after)
    folder = run / "not-finite" / "step-4"
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert str(folder) in warning
    record = json.loads((folder / "batch.json").read_text())
    assert record["step"] == 4
    assert record["losses"]["loss"] == "nan"
    assert len(record["samples"]) == 4
    for number, sample in enumerate(record["samples"]):
        assert sample["image"] == f"{number}.png"
        assert sample["finite"]
        assert Path(sample["image_path"]).exists()
        assert sample["boxes"]
        assert read_image(folder / sample["image"]).shape == (96, 96, 3)


def test_too_many_skipped_steps_in_a_row_end_the_run(
    shapes: str, tmp_path: Path, nan_steps: List[int]
) -> None:
    nan_steps[:] = [0, 2, 3, 4]
    with pytest.raises(MnssdError, match=r"step 5 .*step-5"):
        train(shapes, tmp_path / "run", max_skipped_steps=2, **OPTIONS)
    records = sorted(path.name for path in (tmp_path / "run" / "not-finite").iterdir())
    assert records == ["step-1", "step-3", "step-4", "step-5"]


def test_network_input_is_restored_to_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    x = to_network_input(list(pixels))
    np.testing.assert_array_equal(from_network_input(x), pixels)
    x[0, 1, 2, 3] = np.nan
    expected = pixels.copy()
    expected[0, 2, 3, 1] = 0
    np.testing.assert_array_equal(from_network_input(x), expected)
