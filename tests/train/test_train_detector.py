"""Whole training runs of a detector."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import arrays_of, read_log, train
from mxnet.gluon import nn

from mnssd.data.transform_options import AugmentOptions
from mnssd.errors import MnssdError, OptionError
from mnssd.tasks.run import train_detector
from mnssd.train.checkpoint import read_checkpoint, save_weights
from mnssd.train.loop import check_finite
from mnssd.train.run_folder import RunFolder


def test_run_folder_has_all_files_and_a_log_row_per_epoch(tiny_run: Path) -> None:
    files = {"config.yaml", "start.json", "log.csv", "best.params", "last.ckpt", "previous.ckpt"}
    assert {path.name for path in tiny_run.iterdir()} == files
    rows = read_log(tiny_run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["loss"]) > 0 and 0 <= float(row["mAP"]) <= 1 for row in rows)


def test_seed_determines_the_weights_and_worker_count_does_not(shapes: str, tmp_path: Path) -> None:
    options = {"epochs": 1, "val_interval": 0}
    first = arrays_of(train(shapes, tmp_path / "a", seed=1, **options))
    same = arrays_of(train(shapes, tmp_path / "b", seed=1, workers=3, **options))
    other = arrays_of(train(shapes, tmp_path / "c", seed=2, **options))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_fast_graph_has_the_loss_of_the_plain_graph(shapes: str, tmp_path: Path) -> None:
    options = {"network": "mobilenet_v2", "epochs": 1, "val_interval": 0}
    fast, plain = (
        read_checkpoint(train(shapes, tmp_path / str(fast), fast_graph=fast, **options) / "last.ckpt")[1]
        for fast in (True, False)
    )
    assert np.isclose(fast.history[0]["loss"], plain.history[0]["loss"], rtol=0.05)


@pytest.mark.slow  # tests/data/test_image_cache.py compares the images
def test_cached_images_do_not_change_the_log(
    shapes: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cache = tmp_path / "cache"

    def log(name: str, **options: str) -> list:
        rows = read_log(train(shapes, tmp_path / name, epochs=1, **options))
        return [(row["loss"], row["mAP"]) for row in rows]

    plain = log("plain")
    assert log("filling", cache_images=str(cache)) == plain
    assert log("filled", cache_images=str(cache)) == plain
    assert str(cache) in capsys.readouterr().out
    assert len(list(cache.rglob("*.rgb"))) == 24


def test_frozen_parameters_and_statistics_do_not_change(tiny_run: Path, shapes: str, tmp_path: Path) -> None:
    # With crops, objects of all sizes occur; a predictor whose anchors match none would not change either.
    crops = asdict(AugmentOptions(color_probability=0.0))
    start = train(shapes, tmp_path / "start", epochs=1, val_interval=0, ema=0.0)
    options = {"epochs": 1, "val_interval": 0, "ema": 0.0, "weights": str(start / "best.params"), **crops}
    frozen = arrays_of(train(shapes, tmp_path / "frozen", freeze=r"backbone\.features\.", **options))
    for name, value in arrays_of(start).items():
        if name.startswith("weights/"):
            assert np.array_equal(value, frozen[name]) == ("backbone.features." in name), name


def test_freeze_pattern_without_a_match_is_refused(shapes: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no_such_name"):
        train(shapes, tmp_path / "run", freeze="no_such_name")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("epochs", "loss", "score"), [(25, 0.7, 0.0), (100, 0.25, 0.5)])
def test_overfit_reaches_a_low_loss_on_a_few_images(
    epochs: int, loss: float, score: float, shapes: str, tmp_path: Path
) -> None:
    """`loss` is the last loss as a share of the first one, `score` the mAP on the images trained on."""
    options = {"overfit": 4, "batch_size": 4, "lr": 0.01, "val_interval": epochs, "warmup": 4, "ema": 0}
    run = train(shapes, tmp_path / "run", epochs=epochs, **options)
    _, progress = read_checkpoint(run / "last.ckpt")
    losses = [row["loss"] for row in progress.history]
    assert losses[-1] < loss * losses[0]
    assert progress.best_score is not None
    assert progress.best_score >= score


def test_unreadable_images_are_skipped_and_named(
    shapes: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "shapes"
    shutil.copytree(shapes, folder)
    image = min((folder / "JPEGImages").glob("train*"))
    image.write_bytes(image.read_bytes()[:1000])
    train(str(folder), tmp_path / "run", epochs=1, val_interval=0)
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if image.name in line]
    assert re.match(r"warning: .*\b1\b", warning)


def test_diverging_run_is_stopped(shapes: str, tmp_path: Path) -> None:
    with pytest.raises(MnssdError, match="--clip-gradient"):
        train(shapes, tmp_path / "run", lr=1e12, val_interval=0, warmup=0)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    block = nn.Dense(2, in_units=3)
    block.initialize()
    run = RunFolder(tmp_path)
    check_finite(block, run, 0)
    save_weights(run.best, block)
    before = run.best.read_bytes()
    block.weight.set_data(block.weight.data() * float("nan"))
    with pytest.raises(MnssdError, match="weight .*3"):
        check_finite(block, run, 2)
    with pytest.raises(MnssdError, match=r"nowhere/best\.params"):
        save_weights(tmp_path / "nowhere" / "best.params", block)
    assert run.best.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["best.params"]


def test_resume_refuses_another_learning_rate(tiny_run: Path) -> None:
    with pytest.raises(OptionError, match=r"--lr 0\.5"):
        train_detector({"resume": str(tiny_run), "lr": 0.5})


def test_resume_names_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(MnssdError, match="nowhere"):
        train_detector({"resume": str(tmp_path / "nowhere")})
