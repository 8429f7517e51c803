"""Training with transforms of GluonCV and of the user, given in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform, SSDDefaultValTransform
from helpers.runs import TINY, assert_same_run, read_log, stop_before_step

import mnssd
from mnssd.cli.main import main
from mnssd.errors import MnssdError, OptionError

SIZE = TINY["size"]
OPTIONS: Dict[str, Any] = {
    **{name: value for name, value in TINY.items() if name not in ("dataset", "mosaic")},
    "epochs": 1, "dataset": "shapes",
}  # fmt: skip
TRANSFORMS: Dict[str, Any] = {
    "transform": SSDDefaultTrainTransform(*SIZE),
    "val_transform": SSDDefaultValTransform(*SIZE),
}


def resize(image: Any, label: Any) -> Tuple[Any, Any]:
    return image, label


@pytest.fixture(scope="module")
def run(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> mnssd.Run:
    """A run that was stopped and resumed, with other threads."""
    output = tmp_path_factory.mktemp("transforms") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_before_step(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            mnssd.train_detector(shapes, **TRANSFORMS, output=output, save_minutes=1e-6, **OPTIONS)
    return mnssd.train_detector(**TRANSFORMS, resume=output, save_minutes=5.0, workers=3)


@pytest.mark.slow
def test_training_is_reproduced(run: mnssd.Run, shapes: str, tmp_path: Path) -> None:
    whole = mnssd.train_detector(shapes, **TRANSFORMS, output=tmp_path / "whole", **OPTIONS)
    assert_same_run(run.path, whole.path)
    assert run.evaluate().mean_ap == pytest.approx(float(read_log(run.path)[-1]["mAP"]), abs=0.02)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "SSDDefaultTrainTransform"),
        ({**TRANSFORMS, "transform": resize}, "SSDDefaultTrainTransform"),
        ({"transform": TRANSFORMS["transform"]}, "SSDDefaultValTransform"),
    ],
    ids=["none", "another", "no val_transform"],
)
def test_a_run_is_resumed_with_its_transforms_only(run: mnssd.Run, given: Dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        mnssd.train_detector(**given, resume=run.path)


def test_refusals_of_a_resumed_run(
    run: mnssd.Run, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((run.path / "start.json").read_text())["transforms"]
    assert main(["train-ssd", "--resume", str(run.path), "--no-report"]) == 2
    assert "SSDDefaultTrainTransform" in capsys.readouterr().err
    with pytest.raises(OptionError, match="resize"):
        mnssd.train_detector(transform=resize, resume=tiny_run)


@pytest.mark.parametrize(
    "options",
    [
        {"mosaic": 0.5}, {"crop_scale": 0.5}, {"overfit": 4}, {"early_size": (64, 64), "early_epochs": 1},
        {"pipeline": "gluoncv"},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_options_that_a_transform_replaces_are_refused(options: Dict[str, Any], tmp_path: Path) -> None:
    given = {**OPTIONS, "epochs": 2, **options}
    with pytest.raises(OptionError, match=next(iter(options)).replace("_", "-")):
        mnssd.train_detector(transform=resize, output=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [3, "SSDDefaultTrainTransform", SSDDefaultTrainTransform, np.zeros(3)])
def test_what_is_no_transform_is_refused(value: Any) -> None:
    for argument in ("transform", "val_transform"):
        with pytest.raises(OptionError, match=argument):
            mnssd.train_detector("shapes", **{argument: value})
    with pytest.raises(OptionError, match="transform"):
        mnssd.train_classifier("shapes", transform=value)


@pytest.mark.parametrize(
    "given",
    [
        {"transform": resize},
        {"val_transform": resize},
        {"transform": SSDDefaultTrainTransform(300, 300)},
        {"val_transform": SSDDefaultValTransform(32, 32)},
    ],
    ids=["transform", "val_transform", "transform of 300", "val_transform of 32"],
)
def test_a_transform_for_another_size_is_named(given: Dict[str, Any], shapes: str, tmp_path: Path) -> None:
    """The images of `shapes` have the size of the network in other tests."""
    (name, transform), options = next(iter(given.items())), {**OPTIONS, "size": (128, 128)}
    with pytest.raises(MnssdError, match=getattr(transform, "__name__", type(transform).__name__)):
        mnssd.train_detector(shapes, **{name: transform}, output=tmp_path / "run", **options)
