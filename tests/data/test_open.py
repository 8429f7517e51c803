"""Opening datasets: one folder in VOC layout, and held-out images."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnssd.cli.main import main
from mnssd.data.dataset import Dataset
from mnssd.data.open import default_splits, open_dataset
from mnssd.data.sample import Sample
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import DataError, OptionError

SMALL = (
    "--width=0.25", "--size=96", "--epochs=1", "--batch-size=4", "--workers=0", "--weights=none",
    "--no-report",
)  # fmt: skip
"""Options of a training that takes a few seconds."""


def numbered(count: int) -> Dataset:
    def sample(number: int) -> Sample:
        box, one = np.array([[0, 0, 5, 5]], np.float32), np.zeros(1, np.int32)
        return Sample(f"id{number}", f"{number}.jpg", box, one, one > 0, (10, 10))

    return Dataset("numbers", ("a",), [sample(number) for number in range(count)], ["a note"])


@given(st.integers(2, 60), st.floats(0.05, 0.95), st.integers(0, 9))
def test_held_out_images_do_not_depend_on_the_order(count: int, share: float, seed: int) -> None:
    dataset = numbered(count)
    if not 0 < round(share * count) < count:
        with pytest.raises(DataError, match="numbers"):
            dataset.hold_out(share)
        return
    rest, held = dataset.hold_out(share)
    assert len(held) == round(share * count)
    assert sorted(s.image_id for s in [*rest, *held]) == sorted(s.image_id for s in dataset)
    shuffled = list(dataset)
    random.Random(seed).shuffle(shuffled)
    again = Dataset("other", ("a",), shuffled).hold_out(share)[1]
    assert {s.image_id for s in again} == {s.image_id for s in held}
    assert rest.notes == ["a note"]


def test_training_on_one_folder_in_voc_layout(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "mine"
    make_shapes(folder, train=8, val=4, size=(96, 96))
    (folder / "classes.txt").unlink(missing_ok=True)
    train = open_dataset("voc", folder)
    assert len(train) == 8
    assert 1 < len(train.classes) < 20  # the folder's own
    assert default_splits("voc", "val", folder) == "val"
    assert len(open_dataset("voc", folder, role="val", classes=train.classes, allow_absent=True)) == 4
    with pytest.raises(OptionError, match="--download"):
        open_dataset("voc", folder, download=True)

    assert default_splits("voc", "val", tmp_path) == "2007_test"  # a devkit, perhaps not downloaded yet

    run = str(tmp_path / "run")
    options = ["--dataset=voc", f"--data-root={folder}", f"--output={run}", *SMALL]
    assert main(["train-ssd", *options]) == 0
    assert "mine train: 8 images, validating on mine val: 4" in capsys.readouterr().out
    assert main(["eval", run]) == 0
    assert "mine val" in capsys.readouterr().out


@pytest.mark.slow
def test_validation_on_held_out_images(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "shapes"
    make_shapes(folder, train=10, val=4, size=(96, 96))
    small = [*SMALL, f"--data-root={folder}"]
    assert main(["train-ssd", "--hold-out=0.3", f"--output={tmp_path / 'run'}", *small]) == 0
    assert "7 images, validating on 3 held out of" in capsys.readouterr().out
    assert main(["eval", str(tmp_path / "run")]) == 0  # on the same three
    assert "3 held out of shapes train" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "run"), f"--output={tmp_path / 'export'}"]) == 0
    capsys.readouterr()
    assert main(["train-ssd", "--hold-out=1", *small]) != 0
    assert main(["train-ssd", "--hold-out=0.3", "--overfit=2", *small]) != 0
