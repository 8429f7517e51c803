"""Steps whose loss is not finite: left out, written down, and too many end the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from mnssd.data.image import from_network_input, read_image, to_network_input
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import MnssdError
from mnssd.tasks.detection import DetectionTask
from mnssd.tasks.run import train_detector
from mnssd.train.checkpoint import read_checkpoint
from mnssd.train.checkpoint_manager import CheckpointManager


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=48, val=8, size=(128, 128))
    return str(folder)


TINY = {"dataset": "shapes", "width": 0.25, "size": (96, 96), "batch_size": 8, "lr": 0.001, "val_interval": 0}


def train(shapes: str, output: Path, **changes: Any) -> Path:
    return train_detector({**TINY, "epochs": 1, "data_root": shapes, "output": str(output), **changes})


@pytest.fixture
def bad_losses(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """Numbers of the steps, from 0, whose loss is to be NaN; gradients would be, too."""
    wanted: List[int] = []
    losses, step = DetectionTask.losses, [0]

    def patched(task: Any, batch: Any) -> Any:
        objective, named = losses(task, batch)
        if step[0] in wanted:
            objective, named = [o * np.nan for o in objective], {**named, "loss": named["loss"] * np.nan}
        step[0] += 1
        return objective, named

    monkeypatch.setattr(DetectionTask, "losses", patched)
    return wanted


def test_a_step_that_is_not_finite_is_left_out(
    shapes: str, tmp_path: Path, bad_losses: List[int], capsys: pytest.CaptureFixture
) -> None:
    """The weights, momenta and statistics after it are those before it."""
    bad_losses[:] = [3]
    kept: List[Any] = []

    def keep(saver: Any) -> None:
        save(saver)
        kept.append(read_checkpoint(saver._run.last)[0])

    save = CheckpointManager.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointManager, "save", keep)
        run = train(shapes, tmp_path / "run", optimizer="adamw", save_minutes=1e-9, ema=0.9)
    before, after = kept[3], kept[4]  # the first is of the beginning
    assert set(before) == set(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not all(np.array_equal(after[name], kept[5][name]) for name in after)
    printed = capsys.readouterr().out
    assert printed.count("the loss is not finite in step 4 (") == 1
    folder = run / "not-finite" / "step-4"
    facts = json.loads((folder / "batch.json").read_text())
    assert len(facts["samples"]) == 8
    assert facts["losses"]["loss"] == "nan"
    for number, sample in enumerate(facts["samples"]):
        assert Path(sample["image_path"]).exists()
        assert sample["boxes"]
        assert read_image(folder / f"{number}.png").shape == (96, 96, 3)


def test_too_many_in_a_row_end_the_run(shapes: str, tmp_path: Path, bad_losses: List[int]) -> None:
    bad_losses[:] = [1, 3, 4, 5]
    with pytest.raises(MnssdError, match=r"not finite in step 6 .*, and so were the 2 before it"):
        train(shapes, tmp_path / "run", max_skipped_steps=2)
    assert sorted(p.name for p in (tmp_path / "run" / "not-finite").iterdir()) == [
        "step-2", "step-4", "step-5", "step-6"
    ]  # fmt: skip


def test_the_pictures_of_a_step_are_those_the_network_saw() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    x = to_network_input(list(pixels))
    np.testing.assert_array_equal(from_network_input(x), pixels)
    x[0, 1, 2, 3] = np.nan
    expected = pixels.copy()
    expected[0, 2, 3, 1] = 0
    np.testing.assert_array_equal(from_network_input(x), expected)
