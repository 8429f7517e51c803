"""Training, evaluation and report with datasets of GluonCV and of the user, given as objects or by name."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Dict

import gluoncv.data as gcv
import numpy as np
import pytest
from helpers.gluon_datasets import Items, subclass
from helpers.runs import TINY, assert_same_run, read_log, stop_before_step
from helpers.runs import train as train_tiny

import mnssd
from mnssd.cli.main import main
from mnssd.data.open import open_dataset
from mnssd.errors import DataError, MnssdError, OptionError
from mnssd.train.run_folder import RunFolder

OPTIONS: Dict[str, Any] = {
    **{k: v for k, v in TINY.items() if k != "dataset"},
    "epochs": 1,
    "weights": "none",
}

MODULE = "mnssd_test_datasets"
"""Name by which the command line imports this module."""


def as_items(root: str, split: str) -> Items:
    dataset = open_dataset("voc", root, split)
    return Items(list(dataset.as_gluon()), dataset.classes)


def make_voc(root: str, split: str) -> Any:
    kind = subclass(gcv.VOCDetection, open_dataset("voc", root, "train").classes)
    return kind(root=root, splits=(("", split),))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gluon")


@pytest.fixture(scope="module")
def expected(shapes: str, output: Path) -> Path:
    """A run trained with our reader."""
    return train_tiny(shapes, output / "ours", dataset="voc", epochs=1, weights=None)


@pytest.fixture(scope="module")
def voc_run(shapes: str, output: Path) -> mnssd.Run:
    """A run trained with two objects of `VOCDetection`, stopped and resumed."""
    data = {"data": make_voc(shapes, "train"), "val_data": make_voc(shapes, "val")}
    with pytest.MonkeyPatch.context() as patch:
        stop_before_step(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            mnssd.train_detector(**data, output=output / "voc", save_minutes=1e-6, **OPTIONS)
    return mnssd.train_detector(**data, resume=output / "voc", save_minutes=5.0)


def test_training_is_that_of_our_reader(expected: Path, voc_run: mnssd.Run) -> None:
    assert_same_run(voc_run.path, expected)


def test_evaluation(shapes: str, expected: Path, voc_run: mnssd.Run) -> None:
    assert voc_run.evaluate().mean_ap == pytest.approx(float(read_log(expected)[-1]["mAP"]), abs=1e-5)
    # Of other data all images are used, and not the tenth that a training holds out. Its classes have no
    # names and are those of the network.
    dataset = open_dataset("voc", shapes, "train")
    result = mnssd.evaluate(voc_run.path, Items(as_items(shapes, "train").items, None)).voc
    assert result.images == 24
    counts = np.bincount(np.concatenate([sample.labels for sample in dataset])).tolist()
    assert [result.positives[name] for name in dataset.classes] == counts


def test_report_has_the_datasets_of_the_run(
    voc_run: mnssd.Run, shapes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnssd.report.collect.collect", lambda run, root: RunFolder(run).read_config())
    monkeypatch.setattr("mnssd.report.page.write_report", lambda config, folder: len(validated_on(config)))
    assert voc_run.report() == 8
    assert mnssd.Run(voc_run.path).report(data=make_voc(shapes, "train")) == 2  # the tenth of it
    with pytest.raises(MnssdError, match="Shapes"):
        mnssd.Run(voc_run.path).report()


def validated_on(config: Any) -> Any:
    data = config.options.data
    return open_dataset(data.dataset, data.folder, data.validation_lists()[0])


def test_modules_of_a_run_are_imported_only_if_named(
    expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, MODULE, sys.modules[__name__])
    run, name = tmp_path / "run", f"gluoncv:{MODULE}:as_items"
    shutil.copytree(expected, run)
    config = (run / "config.yaml").read_text()
    assert "dataset: voc\n" in config
    (run / "config.yaml").write_text(config.replace("dataset: voc\n", f"dataset: {name}\n"))
    for command in ("eval RUN", "report RUN", "train-ssd --resume RUN", "export RUN --output x"):
        assert main(command.replace("RUN", str(run)).split()) == 2, command
        assert name in capsys.readouterr().err, command
    assert main(["report", str(run), "--dataset", "gluoncv:other:make"]) == 2
    assert main(["eval", str(run), "--dataset", name, "--json", str(tmp_path / "named.json")]) == 0
    result = json.loads((tmp_path / "named.json").read_text())
    assert (result["images"], result["dataset"], result["splits"]) == (8, name, "val")


def test_other_data_is_refused_when_resuming(voc_run: mnssd.Run, shapes: str) -> None:
    images = as_items(shapes, "train")
    other_images = Items([(255 - image, label) for image, label in images.items], images.classes)
    val_data = as_items(shapes, "val")
    for data in ({}, {"data": make_voc(shapes, "train")}, {"data": other_images, "val_data": val_data}):
        with pytest.raises((OptionError, DataError)):
            mnssd.train_detector(**data, resume=voc_run.path)
    assert (voc_run.path / "best.params").is_file()


@pytest.mark.parametrize("data", [3, object(), {"a": 1}, Items])
def test_no_dataset_is_refused(data: Any) -> None:
    for train in (mnssd.train_detector, mnssd.train_classifier):
        with pytest.raises(OptionError, match="data"):
            train(data=data)


def test_classifiers_take_no_detection_dataset(shapes: str) -> None:
    with pytest.raises(OptionError, match="Items"):
        mnssd.train_classifier(data=as_items(shapes, "val"))


def test_val_data_needs_a_dataset(shapes: str) -> None:
    for data in (shapes, None):
        with pytest.raises(OptionError, match="val_data"):
            mnssd.train_detector(data=data, val_data=as_items(shapes, "val"))
    with pytest.raises(OptionError, match="val_data"):
        mnssd.train_detector(data=as_items(shapes, "val"), val_data=shapes)
    with pytest.raises(OptionError, match="folder"):
        mnssd.train_detector(data=as_items(shapes, "val"), data_root=shapes, weights="none")
