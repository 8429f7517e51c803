"""Classification: small runs of the whole on the real engine, and what is special to its task."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Dict

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import make_image, write_image
from mxnet.gluon import nn

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import MnssdError, OptionError
from mnssd.metrics.classification import ClassificationResult, format_classification
from mnssd.tasks.classification import class_weights, mix, soften
from mnssd.tasks.run import train_classifier, train_detector
from mnssd.train.checkpoint import read_checkpoint
from mnssd.train.ema import EVERY, ModelEMA
from mnssd.data.classification.options import CLASSIFICATION_ROOTS
from mnssd.train.options import resolve_classification

TINY: Dict[str, Any] = {
    "dataset": "shapes",
    "width": 0.25,
    "size": (32, 32),
    "epochs": 2,
    "batch_size": 16,
    "workers": 0,
    "lr": 0.05,
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=24, val=8, size=(96, 96))
    return str(folder)


def train(shapes: str, output: Path, **changes: Any) -> Path:
    return train_classifier({**TINY, "data_root": shapes, "output": str(output), **changes})


def log(run: Path) -> Any:
    with open(run / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def without_times(rows: Any) -> Any:
    return [{k: row[k] for k in ("epoch", "lr", "loss", "top1", "top5")} for row in rows]


def test_a_run_is_measured_alike_by_the_command(
    shapes: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = train(shapes, tmp_path / "run", mixup=0.2, label_smoothing=0.1, class_weights=True)
    last = log(run)[-1]
    printed = capsys.readouterr().out
    assert "mobilenet_v2 x0.25 at 32x32" in printed
    assert "best top-1" in printed
    result = tmp_path / "result.json"
    assert main(["eval-cls", str(run), "--json", str(result)]) == 0
    report = json.loads(result.read_text())
    best = max(float(row["top1"]) for row in log(run))
    assert report["top1"] == pytest.approx(best, abs=1e-5)
    assert report["images"] == sum(map(sum, report["confusion"]))
    assert "top-1" in capsys.readouterr().out
    assert 0 <= float(last["top1"]) <= float(last["top5"]) <= 1
    with pytest.raises(OptionError, match="a run of classification"):
        train_detector({"resume": str(run)})


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_resume_continues_exactly(
    ema: float, shapes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(shapes, tmp_path / "whole", ema=ema, epochs=3)
    from mnssd.train import loop

    saved = loop.save_checkpoint

    def stop_after_the_second(path: Any, block: Any, trainer: Any, progress: Any, average: Any) -> None:
        saved(path, block, trainer, progress, average)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", stop_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(shapes, tmp_path / "parts", ema=ema, epochs=3)
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    train_classifier({"resume": str(tmp_path / "parts")})
    expected, found = (read_checkpoint(path / "last.ckpt")[0] for path in (whole, tmp_path / "parts"))
    assert any(name.startswith("average/") for name in expected) is bool(ema)
    assert sorted(expected) == sorted(found)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert without_times(log(whole)) == without_times(log(tmp_path / "parts"))


def test_its_features_start_a_detector(shapes: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = train(shapes, tmp_path / "cls", epochs=1)
    detector = train_detector(
        {
            "dataset": "shapes",
            "data_root": shapes,
            "width": 0.25,
            "size": (96, 96),
            "epochs": 1,
            "batch_size": 8,
            "val_interval": 0,
            "weights": str(run / "best.params"),
            "output": str(tmp_path / "det"),
            "freeze": "features",
        }
    )
    theirs, ours = zoo.load_detector(str(detector)), zoo.load_classifier(str(run))[0]
    first = ours.features[0].weight.data().asnumpy()
    np.testing.assert_array_equal(theirs.heads.backbone.features[0].weight.data().asnumpy(), first)


def test_a_folder_with_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for role, count in (("train", 12), ("val", 4)):
        for label in ("left", "right"):
            folder = tmp_path / "set" / role / label
            folder.mkdir(parents=True)
            for i in range(count):
                write_image(folder / f"{i}.png", make_image(i + 50 * (label == "left"), 40, 40))
            (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff and nothing more")
    run = train_classifier(
        {
            **TINY,
            "dataset": "folder",
            "data_root": str(tmp_path / "set"),
            "batch_size": 8,
            "val_interval": 1,
            "output": str(tmp_path / "run"),
        }
    )
    printed = capsys.readouterr().out
    assert "images could not be used and were skipped" in printed
    assert "without 2 unreadable images" in printed
    assert log(run)[-1]["val_skipped"] == "2"
    assert main(["eval-cls", str(run), "--data-root", str(tmp_path / "set")]) == 0
    assert capsys.readouterr().out.count("skipped: ") == 2


def test_a_loss_that_is_not_finite(shapes: str, tmp_path: Path) -> None:
    with pytest.raises(MnssdError, match="not finite"):
        train(shapes, tmp_path / "run", lr=1e9, warmup=0, val_interval=0)


def test_v1_with_relu6(shapes: str, tmp_path: Path) -> None:
    run = train(shapes, tmp_path / "run", network="mobilenet_v1", activation="relu6", epochs=1)
    net, spec = zoo.load_classifier(str(run))
    assert spec.activation == "relu6"
    assert net(mx.nd.zeros((1, 3, 32, 32))).shape == (1, 6)


# ---- parts -------------------------------------------------------------------------------------------------


def test_softened_labels() -> None:
    targets = soften(np.array([1, 0]), 4, 0.2)
    np.testing.assert_allclose(targets, [[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]], rtol=1e-6)


def test_mixing_keeps_images_and_labels_together() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(6)
    images = np.broadcast_to(labels[:, None, None, None], (6, 3, 2, 2)).astype(np.float32).copy()
    kept = images.copy()
    mixed, targets = mix(images, np.eye(6, dtype=np.float32), 0.4, rng)
    np.testing.assert_array_equal(images, kept)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed[:, 0, 0, 0], targets @ labels, rtol=1e-5)


def test_weights_of_classes() -> None:
    counts = np.array([100, 25, 0])
    weights = class_weights(counts)
    assert weights[1] == pytest.approx(2 * weights[0])
    assert weights[2] == 0
    assert (weights * counts).sum() == pytest.approx(counts.sum())


def test_the_average_follows_and_gives_back() -> None:
    block = nn.Dense(1, in_units=1, use_bias=False)
    block.initialize()
    average = ModelEMA(block, decay=0.9)
    expected = None
    for step in range(1, 8 * EVERY + 1):
        block.weight.set_data(mx.nd.array([[float(step)]]))
        average.step()
        if step % EVERY == 0:
            looks = step // EVERY
            keep = min(0.9**EVERY, (1 + looks) / (10 + looks))
            expected = step if expected is None else keep * expected + (1 - keep) * step
    with average.in_place():
        assert block.weight.data().asscalar() == pytest.approx(expected, rel=1e-5)
    assert block.weight.data().asscalar() == 8 * EVERY


def test_a_result_in_figures() -> None:
    confusion = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    result = ClassificationResult(("a", "b", "c"), confusion, 8, [("x.jpg", "bad")])
    assert (result.top1, result.top5, result.images) == (7 / 8, 1.0, 8)
    report = result.as_dict()
    assert report["recall"] == {"a": 0.75, "b": 1.0, "c": None}
    assert report["precision"] == {"a": 1.0, "b": 0.8, "c": None}
    text = format_classification(result)
    assert "a taken for b: 1" in text
    assert "top-1 0.8750   top-5 1.0000   8 images" in text


def test_defaults_of_the_data_sets_are_options() -> None:
    for name in CLASSIFICATION_ROOTS:
        options = resolve_classification({"dataset": name}, "test").data
        assert options.dataset == name
    with pytest.raises(OptionError, match="did you mean mixup"):
        resolve_classification({"mixpu": 1}, "test")
    with pytest.raises(OptionError, match="ema must be"):
        resolve_classification({"ema": 1.0}, "test")
